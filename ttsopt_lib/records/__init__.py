"""What was found: one schema for each JSON file, bound by content hashes to what it was made from."""
