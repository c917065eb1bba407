"""The patience that a server asked for, shared by all who speak to it."""

from __future__ import annotations

import threading
from typing import Final

from overmind_agent.ports import Clock

MOST_S: Final = 300.0


class Pause:
    """
    How long nothing is to be asked of one server. Safe to use from any thread.

    A server that says 429 to one connection means all of them: the others need not find out one by one.

    Args:
        most_s: however long it asks for.
    """

    def __init__(self, clock: Clock, *, most_s: float = MOST_S) -> None:
        self._clock = clock
        self._most_s = most_s
        self._lock = threading.Lock()
        self._until_s = 0.0

    def ask(self, seconds: float) -> None:
        """Be quiet for *seconds* from now on, at most `most_s`; never shorter than was asked for before."""
        with self._lock:
            self._until_s = max(self._until_s, self._clock.now_s() + min(self._most_s, seconds))

    def left_s(self) -> float:
        """How many seconds are left of it, 0 for none."""
        return max(0.0, self._until_s - self._clock.now_s())
