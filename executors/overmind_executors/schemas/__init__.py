"""JSON schemas of strangers, checked in a process that may be lost."""
