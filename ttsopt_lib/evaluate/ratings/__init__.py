"""Listeners' ratings: their file, who counts, mean opinion scores, and a look while they come in."""
