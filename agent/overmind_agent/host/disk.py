"""
Room on the disk of the state folder: how much there must be before a job is taken, and a reserve for the last word.

A job that fills the disk fails, and its failure must still get into the journal: so some room is kept back in a
file of its own, and given up when a write finds the disk full.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
RESERVE_BYTES: Final = 8 * MIB
# Unless the host says otherwise: a twentieth of the disk, but a GiB at least; of a disk so small that a GiB is much
# of it, a fifth.
SHARE: Final = 0.05
LEAST_BYTES: Final = GIB
SMALL_SHARE: Final = 0.2
# Files need inodes as well as bytes; a file system that does not count them says 0.
INODE_SHARE: Final = 0.05


def least_free_bytes(size_bytes: int, min_free_bytes: int | None) -> int:
    """How much must be free on a disk of *size_bytes* before another job is taken."""
    if min_free_bytes is not None:
        return min_free_bytes
    return int(min(max(LEAST_BYTES, SHARE * size_bytes), SMALL_SHARE * size_bytes))


def lack(folder: Path, min_free_bytes: int | None, *, owed_bytes: int = 0) -> str | None:
    """
    What the disk of *folder* has too little of for another job, with both numbers; None when there is room.

    Args:
        owed_bytes: must be free on top: what will be taken for a reserve that is not there.
    """
    found = os.statvfs(folder)
    free_bytes = found.f_bavail * found.f_frsize
    least_bytes = least_free_bytes(found.f_blocks * found.f_frsize, min_free_bytes) + owed_bytes
    if free_bytes < least_bytes:
        return f"{free_bytes:,} bytes are free, fewer than {least_bytes:,}"
    least_inodes = int(INODE_SHARE * found.f_files)
    if found.f_favail < least_inodes:
        return f"{found.f_favail:,} inodes are free, fewer than {least_inodes:,}"
    return None


class Reserve:
    """
    A file that only takes room.

    Args:
        path: removed by `give_up`, made by `keep`.
    """

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes

    @property
    def owed_bytes(self) -> int:
        """What `keep` would take from the disk."""
        with suppress(OSError):
            if self._path.stat().st_size >= self._size_bytes:
                return 0
        return self._size_bytes

    def keep(self) -> bool:
        """Have the reserve, from now on if not before; False when the disk does not give it."""
        if not self.owed_bytes:
            return True
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self._size_bytes)
            finally:
                os.close(file)
        except OSError:
            self.give_up()  # half a reserve is room that somebody else needs
            return False
        return True

    def give_up(self) -> bool:
        """Make room; False when there is nothing left to give."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


class Disk:
    """
    Says whether the disk has room for another job, and cleans up before it says no. Safe to use from any thread.

    Args:
        folder: the state folder.
        min_free_bytes: None for what `least_free_bytes` says.
        clean: removes what nobody needs any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        min_free_bytes: int | None,
        reserve: Reserve,
        clean: Callable[[], object],
        log: FilteringBoundLogger,
    ) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._reserve = reserve
        self._clean = clean
        self._log = log
        self._is_short = False

    def require(self, min_free_bytes: int | None) -> None:
        """So much must be free from now on."""
        self._min_free_bytes = min_free_bytes

    def refusal(self) -> str | None:
        """Why no job can be taken now; None when there is room."""
        short = self.lack()
        if short and not self._is_short:
            self._clean()
            short = self.lack()
        if bool(short) != self._is_short:
            self._is_short = bool(short)
            if short:
                self._log.warning("disk.short", message=short, hint="make room; until then no job is taken")
            else:
                self._log.info("disk.recovered")
        return short

    def tend(self) -> None:
        """To be called now and then: makes the reserve anew when there is room, and room when there is none."""
        if self._is_short:
            self._clean()
        if self.refusal() is None:
            self._reserve.keep()

    def lack(self) -> str | None:
        """What there is too little of now, None when there is room; does nothing about it."""
        try:
            return lack(self._folder, self._min_free_bytes, owed_bytes=self._reserve.owed_bytes)
        except OSError as error:
            return f"{self._folder} cannot be looked at: {error.strerror}"
