"""The agent-pull dialect: its routes, and how the record looks in it."""
