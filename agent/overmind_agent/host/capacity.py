"""How many jobs this host takes at a time, how much room each of them needs, and how many it takes in all."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from overmind_agent.host.turns import Turns
from overmind_agent.ports import Clock


class Seat:
    """The room of one job. `leave` when the job is over, `refund` when it never was one."""

    def __init__(self, capacity: Capacity, weight: int) -> None:
        self._capacity = capacity
        self._weight = weight

    def leave(self) -> None:
        """The job is over. Safe to call twice."""
        self._capacity._give_back(self._weight, is_refund=False)
        self._weight = 0

    def refund(self) -> None:
        """The claim came to nothing; the job does not count."""
        self._capacity._give_back(self._weight, is_refund=True)
        self._weight = 0


class Capacity:
    """
    Slots, free and used; at every moment they add up to all slots. Safe to use from any thread.

    Args:
        slots: in all.
        weights: how many slots a job of a type needs; 1 for a type that is not named, never more than all of them.
        most_jobs: how many jobs are taken in all; None for no limit.

    Attributes:
        turns: whether a job that does not fit now is to have its turn.
    """

    def __init__(
        self, slots: int, weights: Mapping[str, int], clock: Clock, *, most_jobs: int | None = None
    ) -> None:
        self._slots = slots
        self._weights = weights
        self._clock = clock
        self._free = slots
        self._jobs_left = most_jobs
        self._idle_since_s = clock.now_s()
        self._lock = threading.Lock()
        self.turns = Turns(clock)

    @property
    def slots(self) -> int:
        """In all."""
        return self._slots

    @property
    def free(self) -> int:
        """Slots in which nothing runs; below 0 while more are in use than there are."""
        return self._free

    @property
    def is_used_up(self) -> bool:
        """Whether as many jobs were taken as may be."""
        return self._jobs_left == 0

    def idle_s(self) -> float:
        """For how long nothing has run."""
        with self._lock:
            return self._clock.now_s() - self._idle_since_s if self._free == self._slots else 0.0

    def resize(self, slots: int, weights: Mapping[str, int]) -> None:
        """So many slots from now on. Jobs that run keep theirs; until they end fewer than none may be free."""
        with self._lock:
            self._free += slots - self._slots
            self._slots, self._weights = slots, weights

    def fitting(self, job_types: Collection[str]) -> frozenset[str]:
        """Those of *job_types* of which a job could be taken now."""
        with self._lock:
            return frozenset(name for name in job_types if self._fits(self._weight(name)))

    def take(self, job_type: str, *, alone: bool = False) -> Seat | None:
        """Room for a job, None when there is none: all of it for one that is to be *alone*."""
        weight = self._slots if alone else self._weight(job_type)
        with self._lock:
            if not self._fits(weight):
                return None
            self._free -= weight
            if self._jobs_left is not None:
                self._jobs_left -= 1
            return Seat(self, weight)

    def _weight(self, job_type: str) -> int:
        return min(self._slots, self._weights.get(job_type, 1))

    def _fits(self, weight: int) -> bool:
        return weight <= self._free and self._jobs_left != 0

    def _give_back(self, weight: int, *, is_refund: bool) -> None:
        with self._lock:
            self._free += weight
            if is_refund and weight and self._jobs_left is not None:
                self._jobs_left += 1
            if self._free == self._slots:
                self._idle_since_s = self._clock.now_s()
