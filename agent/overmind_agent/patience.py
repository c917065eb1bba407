"""When a worker has done enough: `run` with an end, over all of its slots."""

from __future__ import annotations

from dataclasses import dataclass

from overmind_agent.errors import AuthError, OvermindAgentError
from overmind_agent.host.capacity import Capacity
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.ports import Clock


@dataclass(frozen=True)
class Bounds:
    """
    Where `run` ends by itself; None is no end.

    Attributes:
        max_jobs: how many jobs are taken in all.
        idle_s: how long no job may have run in any slot.
        uptime_s: after which no job is taken any more; the present ones may end.
    """

    max_jobs: int | None = None
    idle_s: float | None = None
    uptime_s: float | None = None


class Bounded:
    """
    Says of all slots together whether there will be another step.

    Attributes:
        ended: the jobs that were run, in the order of their ends.
    """

    def __init__(self, bounds: Bounds, capacity: Capacity, clock: Clock) -> None:
        self._bounds = bounds
        self._capacity = capacity
        self._clock = clock
        self._began_s = clock.now_s()
        self.ended: list[Ended] = []

    def poll_s(self, most_s: float) -> float:
        """How long a poll may be held open."""
        return max(0.0, min(most_s, self._left_s()))

    def is_over(self, step: Ended | NoJob) -> bool:
        """Whether *step* was the last one."""
        if isinstance(step, Ended):
            self.ended.append(step)
        return self._is_over()

    def gives_up(self, error: OvermindAgentError) -> bool:
        """Whether *error* is not waited out any longer."""
        return isinstance(error, AuthError) or self._is_over()

    def _is_over(self) -> bool:
        return self._capacity.is_used_up or self._left_s() <= 0

    def _left_s(self) -> float:
        bounds = self._bounds
        uptime_s = self._clock.now_s() - self._began_s
        idle_s = min(self._capacity.idle_s(), uptime_s)
        left = [
            most_s - so_far_s
            for most_s, so_far_s in ((bounds.idle_s, idle_s), (bounds.uptime_s, uptime_s))
            if most_s is not None
        ]
        return min(left, default=float("inf"))
