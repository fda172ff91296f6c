"""How a row speaks while it is timed: each runtime opens a voice and gives a function from ids to audio."""
