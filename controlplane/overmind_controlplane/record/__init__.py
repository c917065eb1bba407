"""The record: its tables, the database under them, and what keeps a change and its traces one transaction."""
