"""What jobs wrote, as one file a job: bytes are appended where the file ends and nowhere else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from overmind_controlplane.refusals import Conflict


class JobLogs:
    """The folder of logs. Safe to use from any thread and process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where the job's log is, or would be. *job_id* must be one of ours."""
        return self._folder / job_id

    def append(self, job_id: str, offset: int, data: bytes) -> int:
        """
        Add *data*, which starts at *offset*; returns where the log ends then.

        Raises:
            Conflict: `wrong_offset`, with the right one: the log ends elsewhere.
        """
        with self.path(job_id).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            end = os.fstat(file.fileno()).st_size
            if offset != end:
                raise Conflict(f"the log ends at {end}, not at {offset}", code="wrong_offset", offset=end)
            file.write(data)
        return end + len(data)

    def read(self, job_id: str, offset: int, limit: int) -> bytes:
        """At most *limit* bytes from *offset* on; none beyond the end, or when there is no log."""
        try:
            with self.path(job_id).open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
