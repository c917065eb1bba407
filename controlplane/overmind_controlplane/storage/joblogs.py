"""What jobs wrote, as one file a job: bytes are appended where the file ends and nowhere else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from overmind_controlplane.refusals import Conflict

WRONG_OFFSET: Final = "wrong_offset"


class JobLogs:
    """
    The folder of logs. Safe to use from any thread and process.

    Args:
        sync: makes the open file of that descriptor last.
    """

    def __init__(self, folder: Path, *, sync: Callable[[int], object] = os.fdatasync) -> None:
        self._folder = folder
        self._sync = sync
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where the job's log is, or would be. *job_id* must be one of ours."""
        return self._folder / job_id

    def append(self, job_id: str, offset: int, data: bytes) -> int:
        """
        Add *data*, which starts at *offset*; returns where the log ends then. `keep` makes it last.

        Raises:
            Conflict: `wrong_offset`, with the right one: the log ends elsewhere.
        """
        with self.path(job_id).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            end = os.fstat(file.fileno()).st_size
            if offset != end:
                raise Conflict(f"the log ends at {end}, not at {offset}", code=WRONG_OFFSET, offset=end)
            file.write(data)
        return end + len(data)

    def keep(self, job_id: str) -> None:
        """
        What the log has now survives a power cut. For before anybody is told where it ends: an agent does not send
        again what it was told is there.
        """
        # The entry of a new file lasts with the file's first sync on the file systems of Linux that have a journal.
        with self.path(job_id).open("rb") as file:
            self._sync(file.fileno())

    def read(self, job_id: str, offset: int, limit: int) -> bytes:
        """At most *limit* bytes from *offset* on; none beyond the end, or when there is no log."""
        try:
            with self.path(job_id).open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
