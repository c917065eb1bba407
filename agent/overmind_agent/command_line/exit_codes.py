"""What the commands end with, after sysexits.h where that has a word for it."""

from __future__ import annotations

OK, JOB_FAILED, USAGE, UNAVAILABLE, BUG, CANT_CREATE, NO_PERMISSION, CONFIG = 0, 1, 64, 69, 70, 73, 77, 78
UNREAD = 141
"""What a shell says of a program that SIGPIPE ended: its words were not read to the end."""
