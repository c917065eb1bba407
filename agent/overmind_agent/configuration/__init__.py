"""The configuration in force, checked against this host, and read anew."""
