"""Signed jobs: a submitter signs with a key, and a host runs what bears the signature of a key that it knows."""
