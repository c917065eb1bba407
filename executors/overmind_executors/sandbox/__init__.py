"""Programs of jobs, shut in as far as the host can and its owner wants."""
