"""Opening what a job left, which nobody vouches for."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import BinaryIO

from overmind_agent.errors import UploadError
from overmind_agent.jobs import ResultFile


def open_result(file: ResultFile) -> BinaryIO:
    """
    *file*, opened without following a link that a job may have put in its place.

    Raises:
        UploadError: it is not there, or no regular file.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UploadError(f"{file.name!r} cannot be read: {error.strerror}", reason="output_missing") from error
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise UploadError(f"{file.name!r} is not a regular file", reason="output_unreadable")
