"""The process that a job runs in, and what the agent and it tell each other."""
