"""Where all threads that want to call one provider pass, one after the other, each when its limits let it."""

from __future__ import annotations

import threading
import time
from enum import Enum
from typing import Final

from overmind_executors.calls.breaker import Breaker
from overmind_executors.calls.send_limits import SendLimits, Sent, Signal
from overmind_executors.contract import Stop

# A wish to stop wakes nobody here, so it is looked for.
_LOOK_EVERY_S: Final = 0.1


class Health(Enum):
    """What the end of a call says about the provider as a whole."""

    ANSWERED = "answered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class GateClosed(Exception):
    """The work is to stop, or the gate was shut; nothing was sent."""


class Gate:
    """
    The limits and the breaker of one endpoint, safe from any thread.

    Only the thread at the door watches the limits; the others wait for the door, so that a thousand of them cost
    no more than one.
    """

    def __init__(self, limits: SendLimits, breaker: Breaker, stop: Stop) -> None:
        self._limits = limits
        self._breaker = breaker
        self._stop = stop
        self._in_flight = 0
        self._is_shut = False
        self._door = threading.Lock()
        self._changed = threading.Condition()

    def enter(self) -> Sent:
        """
        Return when a call may be sent; `leave` has to follow.

        Raises:
            GateClosed: the work is to stop, or the gate is shut.
        """
        with self._door, self._changed:
            while not self._stop.is_set() and not self._is_shut:
                now_s = time.monotonic()
                wait_s = max(self._limits.wait_s(now_s), self._breaker.wait_s(now_s, self._in_flight))
                if wait_s <= 0:
                    self._in_flight += 1
                    return self._limits.send(now_s)
                self._changed.wait(min(wait_s, _LOOK_EVERY_S))
        raise GateClosed

    def leave(
        self, sent: Sent, signal: Signal, health: Health = Health.UNKNOWN, *, pause_s: float | None = None
    ) -> None:
        """
        The call has ended.

        Args:
            pause_s: what the provider asks for; everybody's.
        """
        now_s = time.monotonic()
        with self._changed:
            self._in_flight -= 1
            self._limits.end(sent, now_s, signal)
            if health is Health.ANSWERED:
                self._breaker.answered()
            elif health is Health.FAILED:
                self._breaker.failed(now_s)
            if pause_s:
                self._limits.pause(now_s, pause_s)
            self._changed.notify()

    def shut(self) -> None:
        """Let nobody through any more, those that wait neither: each would make another call that nobody needs."""
        with self._changed:
            self._is_shut = True
            self._changed.notify_all()

    def is_dead(self) -> bool:
        """Whether the provider is to be given up."""
        with self._changed:
            return self._breaker.is_dead(time.monotonic())
