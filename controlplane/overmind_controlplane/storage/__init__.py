"""Bytes that the record only names: blobs, their parts, the files that own them, the logs of jobs."""
