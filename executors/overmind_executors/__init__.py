"""The executor contract, the child process that runs executors, and one module or package per job type."""
