"""Brings the logs of all jobs to the control plane: while they run, and after that for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import Backoff, is_worth_retrying
from overmind_agent.errors import AuthError, OvermindAgentError
from overmind_agent.jobs import Claim, LogCounts
from overmind_agent.logs.job_log import JobLog
from overmind_agent.logs.shipper import LogShipper
from overmind_agent.ports import Clock, ControlPlane, LogLedger, OwedLog

# A line is on its way so many seconds after it was written.
LOOK_S: Final = 1.0
IDLE_S: Final = 30.0
REFUSED_S: Final = 10.0
# Of one log at a time, so that a job that writes without end does not hold up the others.
PIECES_IN_TURN: Final = 16
# So many tries in a row that fail are an outage: no slot waits for its end.
OUTAGE_TRIES: Final = 3


class _Followed:
    """
    One log, and when it may be tried next.

    Attributes:
        over: it needs no further try.
        at_rest: nothing of it is on its way: it is over, or the control plane is out of reach.
        failures: tries in a row.
        is_noted: whether the ledger knows of it.
        is_settled: whether its job has ended without waiting for more.
    """

    def __init__(self, shipper: LogShipper, *, is_noted: bool = False, is_settled: bool = False) -> None:
        self.shipper = shipper
        self.is_noted = is_noted
        self.is_settled = is_settled
        self.backoff = Backoff()
        self.next_at_s = 0.0
        self.over = threading.Event()
        self.at_rest = threading.Event()
        self.failures = 0

    def failed(self, next_at_s: float) -> None:
        """It could not be sent now; it may be tried again at *next_at_s*."""
        self.next_at_s = next_at_s
        self.failures += 1
        if self.failures >= OUTAGE_TRIES:
            self.at_rest.set()

    def went_well(self) -> None:
        """The control plane answers."""
        self.backoff.reset()
        self.failures = 0
        self._is_on_its_way()

    def last_bytes(self) -> None:
        """Its job has written all that it will: one try more says whether the control plane is there."""
        self.shipper.is_ended = True
        self.next_at_s = 0.0
        self.failures = min(self.failures, OUTAGE_TRIES - 1)
        self._is_on_its_way()

    def end(self) -> None:
        """It needs no further try."""
        self.over.set()
        self.at_rest.set()

    def _is_on_its_way(self) -> None:
        if not self.over.is_set():
            self.at_rest.clear()


class LogShipping:
    """
    Fills the Logs port, in a thread and over a connection of its own: no heartbeat and no slot waits for a log.

    Args:
        open_log: the log of a job, by its id.
        ledger: what is owed after a job's end, over restarts.
    """

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        open_log: Callable[[str], JobLog],
        ledger: LogLedger,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._control_plane = control_plane
        self._open_log = open_log
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._followed: dict[tuple[str, int], _Followed] = {}
        self._lock = threading.Lock()
        self._kick = threading.Event()

    def run(self, closing: threading.Event) -> None:
        """Ship until *closing*."""
        self._take_up(self._ledger.owed_logs())
        while not closing.is_set():
            self._kick.clear()
            if not self.ship():
                self._clock.wait(self._kick, LOOK_S if self._followed else IDLE_S)

    def wake(self) -> None:
        """There is something to look at: end a wait."""
        self._kick.set()

    # ------------------------------------------------------------------------------------------ for slots

    def follow(self, claim: Claim) -> None:
        """See Logs."""
        base_bytes = self._ledger.log_base(claim)
        shipper = LogShipper(
            claim,
            self._open_log(claim.job.id),
            base_bytes=base_bytes,
            on_base=lambda found: self._note(followed, found, is_owed=False),
        )
        followed = _Followed(shipper, is_noted=base_bytes is not None)
        with self._lock:
            self._followed[_key(claim)] = followed
        self.wake()

    def end(self, claim: Claim) -> None:
        """See Logs."""
        if (followed := self._find(claim)) is not None:
            followed.last_bytes()
            self.wake()

    def settle(self, claim: Claim, *, wait_s: float) -> LogCounts | None:
        """See Logs."""
        followed = self._find(claim)
        if followed is None:
            return None
        shipper = followed.shipper
        if shipper.counts().left_bytes:
            self._clock.wait(followed.at_rest, wait_s)
        counts = shipper.counts()
        with self._lock:
            followed.is_settled = True
            is_over = followed.over.is_set()
            if is_over:
                self._followed.pop(_key(claim), None)
        if counts.left_bytes and not is_over:
            self._note(followed, shipper.base_bytes, is_owed=True)
        return counts

    def abandon(self, claim: Claim) -> None:
        """See Logs."""
        if (followed := self._find(claim)) is not None:
            followed.is_settled = True
            self._end(followed)

    def _find(self, claim: Claim) -> _Followed | None:
        with self._lock:
            return self._followed.get(_key(claim))

    def _note(self, followed: _Followed, base_bytes: int, *, is_owed: bool) -> None:
        self._ledger.note_log(followed.shipper.claim, base_bytes, is_owed=is_owed)
        followed.is_noted = True

    # ------------------------------------------------------------------------------------------ the thread

    def _take_up(self, owed: Iterable[OwedLog]) -> None:
        for found in owed:
            shipper = LogShipper(found.claim, self._open_log(found.claim.job.id), base_bytes=found.base_bytes)
            shipper.is_ended = True
            with self._lock:
                self._followed.setdefault(_key(found.claim), _Followed(shipper, is_noted=True, is_settled=True))

    def ship(self) -> bool:
        """A turn over all logs; returns whether there is more to send now."""
        with self._lock:
            now_s = self._clock.now_s()
            waiting = [followed for followed in self._followed.values() if not followed.over.is_set()]
        more = [self._ship_one(followed) for followed in waiting if followed.next_at_s <= now_s]
        return any(more)

    def _ship_one(self, followed: _Followed) -> bool:
        shipper = followed.shipper
        try:
            was_ended = shipper.is_ended
            is_more = True
            for _ in range(PIECES_IN_TURN):
                if not (is_more := shipper.ship(self._control_plane)):
                    break
        except OvermindAgentError as error:
            self._on_error(followed, error)
            return False
        followed.went_well()
        if was_ended and not is_more:
            self._end(followed)
        return is_more

    def _on_error(self, followed: _Followed, error: OvermindAgentError) -> None:
        claim = followed.shipper.claim
        about = {"job_id": claim.job.id, "attempt": claim.attempt, "error": str(error)}
        if is_worth_retrying(error) or isinstance(error, AuthError):
            wait_s = REFUSED_S if isinstance(error, AuthError) else followed.backoff.after(error)
            followed.failed(self._clock.now_s() + wait_s)
            self._log.debug("log.retry_scheduled", **about, wait_s=round(wait_s, 1))
            return
        counts = followed.shipper.counts()
        self._log.warning("log.refused", **about, left_bytes=counts.left_bytes)
        self._end(followed)

    def _end(self, followed: _Followed) -> None:
        claim = followed.shipper.claim
        with self._lock:
            followed.end()
            if followed.is_settled:
                self._followed.pop(_key(claim), None)
        if followed.is_noted:
            self._ledger.forget_log(claim)


def _key(claim: Claim) -> tuple[str, int]:
    return claim.job.id, claim.attempt
