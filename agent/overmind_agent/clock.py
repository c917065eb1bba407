"""The only module that sleeps."""

from __future__ import annotations

import threading
import time


class SystemClock:
    """
    Time that counts on while the host is suspended and does not move with the wall clock.

    Args:
        until: sleeping ends when this is set.
    """

    def __init__(self, until: threading.Event) -> None:
        self._until = until

    def now_s(self) -> float:
        """Seconds since the host was started, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> bool:
        """Sleep for *seconds* or until the event; returns whether the event is set."""
        return self._until.wait(max(0.0, seconds))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep for *seconds* or until *event*; returns whether it is set."""
        return event.wait(max(0.0, seconds))
