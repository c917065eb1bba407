"""The life of a job here: the board on which it changes, the agents that ask for it, and what runs out."""
