"""What must survive, in one SQLite file."""
