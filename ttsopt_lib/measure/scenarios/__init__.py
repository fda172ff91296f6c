"""What is timed beside single sentences: how soon sound begins, and several sentences at once."""
