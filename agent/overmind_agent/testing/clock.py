"""A clock that only moves when told."""

from __future__ import annotations

import threading


class VirtualClock:
    """
    Fills the Clock port: sleeping is counted, not done.

    Attributes:
        slept: every sleep that was asked for, in seconds.
        until: ends all sleeping, as SystemClock's event does.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self.slept: list[float] = []
        self.until = threading.Event()

    def now_s(self) -> float:
        """Seconds since nothing in particular."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        with self._lock:
            self._now_s += seconds

    def sleep(self, seconds: float) -> bool:
        """Let *seconds* pass, unless the sleeper was asked to stop; returns whether it was."""
        return self.wait(self.until, seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let *seconds* pass, unless *event* is set; returns whether it is."""
        if not event.is_set():
            self.slept.append(seconds)
            self.advance(max(0.0, seconds))
        return event.is_set()
