"""The `job` commands: what a submitter types, and what is asked over HTTP for it."""
