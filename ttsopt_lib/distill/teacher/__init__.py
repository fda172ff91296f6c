"""The voice as a teacher: what it says and reads for students to learn from."""
