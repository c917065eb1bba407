"""
Troubles that are this host's and not the job's: as one list, for the agent and for the child that does the work.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from typing import Final

# A child that cannot write its last word, since the disk is full, ends with this (EX_IOERR of sysexits.h).
NO_ROOM: Final = 74

_REASONS: Final = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EIO: "disk_error",
    errno.EROFS: "disk_error",
    errno.EMFILE: "out_of_resources",
    errno.ENFILE: "out_of_resources",
    errno.ENOMEM: "out_of_resources",
}
_SQLITE_REASONS: Final = (
    ("SQLITE_FULL", "disk_full"),
    ("SQLITE_IOERR_NOMEM", "out_of_resources"),
    ("SQLITE_IOERR", "disk_error"),
    ("SQLITE_READONLY", "disk_error"),
    ("SQLITE_CANTOPEN", "out_of_resources"),
    ("SQLITE_NOMEM", "out_of_resources"),
)


def reason_of(error: BaseException) -> str | None:
    """`disk_full`, `disk_error` or `out_of_resources` when that is what *error* comes from; None for all others."""
    return next((reason for cause in _causes(error) if (reason := _reason(cause))), None)


def _reason(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "out_of_resources"
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0)
    if isinstance(error, sqlite3.Error):
        name = str(getattr(error, "sqlite_errorname", ""))
        return next((reason for begins, reason in _SQLITE_REASONS if name.startswith(begins)), None)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """*error* and what led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
