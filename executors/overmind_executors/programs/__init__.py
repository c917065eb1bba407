"""Commands and Python agents of a job's author or the host's owner, each in a process of its own."""
