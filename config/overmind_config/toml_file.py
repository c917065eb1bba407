"""The configuration file's text, whatever stands at its place: a pipe, a device, a folder, something huge."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20


class NoConfiguration(Exception):
    """
    It cannot be one.

    Attributes:
        what: what is wrong.
        remedy: what to do.
    """

    def __init__(self, what: str, remedy: str = "name an existing file with --config") -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


def text_of(path: Path) -> str:
    """
    What the file *path* holds; a link to one is as good. Never waits for a writer, reads a MiB at most.

    A byte order mark of UTF-8, which some editors write, is not part of it.

    Raises:
        NoConfiguration: it is not there, no regular file, unreadable, too long, or not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NoConfiguration("is not a regular file", "name one with --config; a reload reads it again")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                found = file.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NoConfiguration(f"cannot be read: {why[:1].lower()}{why[1:]}") from error
    if len(found) > MOST_BYTES:
        raise NoConfiguration(f"has more than {MOST_BYTES:,} bytes", "name a configuration file with --config")
    if found.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NoConfiguration("is UTF-16, as its byte order mark says", "save it as UTF-8")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NoConfiguration(f"not UTF-8 (byte {error.start})", "save it as UTF-8") from error
