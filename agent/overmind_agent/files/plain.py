"""Opening files in folders that a job can write to: what it may have put in their place is never followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path, *, append: bool = False) -> BinaryIO:
    """
    *path*, which must be a regular file: no link, and nothing that would block, such as a FIFO.

    Args:
        append: to write at its end; it is made when it is missing.

    Raises:
        OSError: it is not there, not a regular file, or cannot be opened.
    """
    access = os.O_WRONLY | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "ab" if append else "rb")
