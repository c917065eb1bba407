"""
Whose turn it is on one host: light jobs, which fit beside what runs, do not keep a heavy one waiting for ever.

As long as some slots are taken only what fits is asked for, and a heavy job has no say. After OVERTAKES jobs that
were begun so, or OVERTAKE_S seconds, everything is asked for once. If the control plane's first job is one that
does not fit, its room is kept: nothing lighter is begun until it fits, or until it is not there any more.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

from overmind_agent.ports import Clock

OVERTAKES: Final = 8
OVERTAKE_S: Final = 300.0
# Between two looks whether the job for which room is kept still waits. Each keeps it from other hosts for a moment.
LOOK_EVERY_S: Final = 30.0


class Turns:
    """Safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._overtakes = 0
        self._since_s: float | None = None
        self._kept: str | None = None
        self._looked_at_s = 0.0

    @property
    def kept(self) -> str | None:
        """The type of the job for which room is kept; None when it is for none."""
        return self._kept

    def is_due(self, fitting: Collection[str], job_types: Collection[str]) -> bool:
        """Whether everything is to be asked for, though of *job_types* only *fitting* fit."""
        with self._lock:
            if len(fitting) == len(job_types):
                self._overtakes, self._since_s, self._kept = 0, None, None
                return False
            now_s = self._clock.now_s()
            if self._kept is not None:
                return self._kept in fitting or now_s - self._looked_at_s >= LOOK_EVERY_S
            if self._since_s is None:
                self._since_s = now_s
            return self._overtakes >= OVERTAKES or now_s - self._since_s >= OVERTAKE_S

    def began(self) -> None:
        """A job was begun while others had no say."""
        with self._lock:
            if self._since_s is not None:
                self._overtakes += 1

    def keep(self, job_type: str) -> None:
        """The first job is of this type, and does not fit."""
        with self._lock:
            self._kept, self._looked_at_s = job_type, self._clock.now_s()

    def forget(self) -> None:
        """It was begun, or is not there any more: the light ones may overtake again."""
        with self._lock:
            self._overtakes, self._since_s, self._kept = 0, None, None
