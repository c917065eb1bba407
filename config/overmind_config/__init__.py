"""Settings and logging: the only package that reads the environment."""
