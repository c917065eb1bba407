"""The prompt-optimisation dialect: its routes, and how the record looks in it."""
