"""What a process is given on its standard input, whole, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """
    A descriptor to read *content* from. It may hold keys, so it is not a file; and it is not a pipe, which a
    process that does not read would block.
    """
    descriptor = os.memfd_create("given", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
