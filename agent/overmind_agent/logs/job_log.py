"""
A job's log on disk: the file that the child writes to itself, and of a long one the beginning and the end.

The child has the file for its standard output, so that no reader of ours can hold it up or lose a line by dying.
Of a log of more than 64 MiB the first 16 and the last 48 are kept. What lies between is given back to the file
system as a hole: no byte changes its place, and nothing that is written meanwhile is lost. See decision 0021.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from overmind_agent.files.plain import open_plain
from overmind_agent.logs.pieces import PIECE_BYTES, next_piece
from overmind_config.redaction import Redactor

MIB: Final = 1024 * 1024
HEAD_BYTES: Final = 16 * MIB
TAIL_BYTES: Final = 48 * MIB
# A hole is made when it is worth it, and keeps clear of what decides about secrets at its edges.
HOLE_BYTES: Final = 4 * MIB
MARGIN_BYTES: Final = 256 * 1024
_KEEP_SIZE_AND_PUNCH_HOLE: Final = 0x01 | 0x02  # linux/falloc.h


def trim(path: Path, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
    """Give back the disk space of what lies between the beginning and the end of a long log."""
    with suppress(OSError):  # the job has put something else there, or the file system makes no holes
        found = path.lstat()
        start = head_bytes + MARGIN_BYTES
        size_bytes = found.st_size - tail_bytes - MARGIN_BYTES - start
        is_worth_it = found.st_blocks * 512 >= head_bytes + tail_bytes + 2 * MARGIN_BYTES + HOLE_BYTES
        if size_bytes >= HOLE_BYTES and is_worth_it:
            with open_plain(path, append=True) as log:
                _punch(log.fileno(), start, size_bytes)


def _punch(descriptor: int, start: int, size_bytes: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, start, size_bytes) != 0:
        raise OSError(ctypes.get_errno(), "no hole")


class JobLog:
    """
    What leaves the host of one log: all of it, or its beginning, a line that says how much is missing, and its end.

    Args:
        head_bytes, tail_bytes: how much of a long log is kept.
    """

    def __init__(
        self, path: Path, redactor: Redactor, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES
    ) -> None:
        self._path = path
        self._redactor = redactor
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes

    @property
    def size_bytes(self) -> int:
        """How long the file is now, 0 when there is none."""
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0

    @property
    def lost_bytes(self) -> int:
        """How much of it is not sent, since it is too long."""
        return max(0, self.size_bytes - self._head_bytes - self._tail_bytes)

    @property
    def bytes_to_send(self) -> int:
        """How many bytes there are to send of it, if it does not grow any more."""
        kept = self.size_bytes - self.lost_bytes
        return kept + len(self._marker()) if self.lost_bytes else kept

    def _marker(self) -> bytes:
        return b"\n[%d bytes of this log were left out here]\n" % self.lost_bytes

    def piece(self, at: int, *, is_final: bool) -> bytes:
        """
        What may be sent from *at* on, secrets masked; empty for nothing yet.

        While the log grows, what lies behind its beginning waits: it is not known whether it belongs to the end.

        Raises:
            OSError: the job has put something else in its place.
        """
        with open_plain(self._path) as file:
            end = os.fstat(file.fileno()).st_size

            def read(start: int, size: int) -> bytes:
                return os.pread(file.fileno(), max(0, size), start)

            def part(start: int, end: int, most_bytes: int, *, is_whole: bool) -> bytes:
                if start >= end or most_bytes <= 0:
                    return b""
                return next_piece(
                    read,
                    self._redactor,
                    at=start,
                    end=end,
                    is_final=is_whole,
                    most_bytes=min(PIECE_BYTES, most_bytes),
                )

            if not is_final:
                return part(at, end, self._head_bytes - at, is_whole=False)
            lost = max(0, end - self._head_bytes - self._tail_bytes)
            if not lost:
                return part(at, end, end - at, is_whole=True)
            if at < self._head_bytes:
                return part(at, end, self._head_bytes - at, is_whole=True)
            behind = at - self._head_bytes
            marker = self._marker()
            if behind < len(marker):
                return marker[behind:]
            place = self._head_bytes + lost + behind - len(marker)
            return part(place, end, end - place, is_whole=True)
