"""
Leases and reservations: what runs out. Kept in memory and on the monotonic clock, never on the wall clock.

A restart forgets both: a reservation is worth five seconds, and a lease that nobody remembers starts anew, whole.
So a server that was down takes no job from an agent that could not reach it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

Grant = tuple[str, int]
"""A job's id and the attempt that was granted."""


class Leases:
    """When each grant runs out. Safe to use from any thread."""

    def __init__(self, lease_s: float, clock_s: Callable[[], float]) -> None:
        self.lease_s = lease_s
        self._clock_s = clock_s
        self._ends: dict[Grant, float] = {}
        self._lock = threading.Lock()

    def renew(self, grant: Grant) -> None:
        """Give *grant* one whole lease from now."""
        with self._lock:
            self._ends[grant] = self._clock_s() + self.lease_s

    def has_run_out(self, grant: Grant) -> bool:
        """Whether it has; one that is not known starts now."""
        with self._lock:
            return self._ends.setdefault(grant, self._clock_s() + self.lease_s) <= self._clock_s()

    def keep_only(self, grants: Collection[Grant]) -> None:
        """Forget all others: they ended."""
        with self._lock:
            self._ends = {grant: end for grant, end in self._ends.items() if grant in grants}


class Reservations:
    """Which job was offered to whom a moment ago. Safe to use from any thread."""

    def __init__(self, hold_s: float, clock_s: Callable[[], float]) -> None:
        self.hold_s = hold_s
        self._clock_s = clock_s
        self._by_job: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def take(self, job_id: str, agent_id: str) -> bool:
        """Keep the job for this agent; False when it is kept for another."""
        with self._lock:
            self._drop_old()
            if self._by_job.get(job_id, (agent_id, 0.0))[0] != agent_id:
                return False
            self._by_job[job_id] = (agent_id, self._clock_s() + self.hold_s)
            return True

    def release(self, job_id: str) -> None:
        """The job was claimed, or is no longer to be had."""
        with self._lock:
            self._by_job.pop(job_id, None)

    def of_others(self, agent_id: str) -> list[str]:
        """The jobs that are kept for agents other than this one."""
        with self._lock:
            self._drop_old()
            return [job_id for job_id, (kept_for, _) in self._by_job.items() if kept_for != agent_id]

    def _drop_old(self) -> None:
        now_s = self._clock_s()
        self._by_job = {job_id: kept for job_id, kept in self._by_job.items() if kept[1] > now_s}
