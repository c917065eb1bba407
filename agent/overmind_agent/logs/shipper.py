"""Sends what a job's log has grown by, from the offset that the control plane has."""

from __future__ import annotations

from collections.abc import Callable

from overmind_agent.jobs import Claim, LogCounts
from overmind_agent.logs.job_log import JobLog
from overmind_agent.ports import ControlPlane


class LogShipper:
    """
    The log of one job on its way to the control plane.

    Where the control plane has no more than this file had at the start, an earlier run of ours sent it from this
    very file; where it has more, another agent did, and ours goes behind it.

    Args:
        base_bytes: of the remote log, what is known to lie before ours; None when that is not known.
        on_base: told when something does.

    Attributes:
        is_kept: whether the control plane keeps logs at all.
        is_ended: whether nothing will be added to the log.
    """

    def __init__(
        self,
        claim: Claim,
        log: JobLog,
        *,
        base_bytes: int | None = None,
        on_base: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.claim = claim
        self.is_kept = True
        self.is_ended = False
        self._log = log
        self._on_base = on_base
        self._had_bytes = log.size_bytes
        self._base_bytes = base_bytes
        self._sent_bytes: int | None = None
        if claim.attempt == 1 and not self._had_bytes:
            self._base_bytes = self._sent_bytes = 0  # nobody has written anything yet, and nobody else will

    @property
    def base_bytes(self) -> int:
        """Of the remote log, what lies before ours."""
        return self._base_bytes or 0

    def counts(self) -> LogCounts:
        """How far it is."""
        if not self.is_kept:
            return LogCounts(0, 0, 0)
        sent = self._sent_bytes or 0
        return LogCounts(sent, max(0, self._log.bytes_to_send - sent), self._log.lost_bytes)

    def ship(self, control_plane: ControlPlane) -> bool:
        """
        Send one piece; returns whether there may be another one to send now.

        Raises:
            ControlPlaneError, ProtocolError: what the control plane said; the next call goes on from where it is.
        """
        if not self.is_kept or not self._log.size_bytes:
            return False
        if self._sent_bytes is None:
            self._take_in(control_plane.append_log(self.claim, offset=0, data=b""))
        sent, base = self._sent_bytes or 0, self.base_bytes
        try:
            piece = self._log.piece(sent, is_final=self.is_ended)
        except OSError:
            return False  # the job has put something else there; it is its own log
        if not piece or not self.is_kept:
            return False
        found = control_plane.append_log(self.claim, offset=base + sent, data=piece)
        if found == base + sent + len(piece):
            self._sent_bytes = sent + len(piece)
        else:
            self._take_in(found)
        return self.is_kept and self._sent_bytes != sent  # not taken: the next call tries again

    def _take_in(self, found: int | None) -> None:
        """Go on from where the control plane's log ends."""
        if found is None:
            self.is_kept = False
            return
        base = self._base_bytes
        if base is None or found < base:
            base = max(0, found - self._had_bytes)
        if base != self._base_bytes and base:
            self._on_base(base)
        self._base_bytes, self._sent_bytes = base, found - base
