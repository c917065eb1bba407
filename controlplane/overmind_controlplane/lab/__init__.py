"""The Overmind Lab dialect: its routes, what they take, and how the record looks in it."""
