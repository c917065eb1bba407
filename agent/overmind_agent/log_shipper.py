"""Sends what a job's log has grown by, from the offset that the control plane has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from overmind_agent.jobs import Claim
from overmind_agent.plain_files import open_plain
from overmind_agent.ports import ControlPlane

CHUNK_BYTES: Final = 256 * 1024
MOST_BYTES: Final = 8 * 1024 * 1024


class LogShipper:
    """
    The log of one job on its way to the control plane.

    Where the control plane has no more than this file had at the start, an earlier run of ours sent it from this
    very file; where it has more, another agent did, and ours goes behind it.
    """

    def __init__(self, control_plane: ControlPlane, claim: Claim, path: Path) -> None:
        self._control_plane = control_plane
        self._claim = claim
        self._path = path
        self._had_bytes = path.lstat().st_size if path.exists() else 0
        self._remote_bytes: int | None = None
        self._theirs_bytes = 0  # of the remote log: what lies before ours

    def ship(self) -> None:
        """
        Send what is new, at most 8 MiB of each log.

        Raises:
            ControlPlaneError: what the control plane said; the next call goes on from where it is.
        """
        if self._remote_bytes is None:
            if not self._path.exists() or self._path.lstat().st_size == 0:
                return  # most jobs print nothing, and nothing is worth no call
            self._remote_bytes = self._control_plane.append_log(self._claim, offset=0, data=b"")
            self._theirs_bytes = max(0, self._remote_bytes - self._had_bytes)
        with open_plain(self._path) as log:
            while (sent := max(0, self._remote_bytes - self._theirs_bytes)) < MOST_BYTES:
                log.seek(sent)
                chunk = log.read(CHUNK_BYTES)
                had = self._remote_bytes
                if chunk:
                    self._remote_bytes = self._control_plane.append_log(self._claim, offset=had, data=chunk)
                if self._remote_bytes <= had:
                    return  # nothing was left, or it was not taken: the next call goes on from where it is
