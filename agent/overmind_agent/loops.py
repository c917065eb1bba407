"""
The daemon's loops: an error does not end one, and one that stands still is noticed.

Each loop has a pulse. Whatever the loop's thread does through its clock or its connection says when the next sign
of life is due, so a loop that waits for a server is not taken for one that hangs, and no loop's health depends on
the server. The supervisor looks after all pulses; it counts its own time, so that a host that was suspended, or a
process that was frozen, finds no loop late.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.ports import Clock

# For work between two signs of life that no clock and no connection sees: removing a large folder, hashing a file.
LIMIT_S: Final = 120.0
# A loop that broke is back after so many seconds: soon enough for a lease, seldom enough for a log.
RESTART_S: Final = 2.0


class Pulse:
    """
    The life of one loop, given in its own thread and looked after in another.

    Attributes:
        name: as the log calls the loop.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._left_s = LIMIT_S
        self._quiet_s = 0.0
        self._is_broken = False

    def begin(self) -> None:
        """The thread that calls is the loop's; it is looked after from now on."""
        with self._lock:
            self._thread, self._left_s, self._quiet_s = threading.get_ident(), LIMIT_S, 0.0

    def end(self, *, is_broken: bool = False) -> None:
        """The loop is over; *is_broken* when it is for an error that no loop survives."""
        with self._lock:
            self._thread, self._is_broken = None, is_broken

    def turn(self, busy_s: float = 0.0) -> None:
        """The loop lives, and may be busy for *busy_s* seconds. From another thread it says nothing."""
        if threading.get_ident() == self._thread:
            with self._lock:
                self._left_s, self._quiet_s = max(0.0, busy_s) + LIMIT_S, 0.0

    @property
    def is_running(self) -> bool:
        """Whether the loop has begun and is not over."""
        return self._thread is not None

    @property
    def left_s(self) -> float:
        """Seconds until the next sign of life is overdue, as of the last `is_late`."""
        return self._left_s

    @property
    def quiet_s(self) -> float:
        """Seconds since the last sign of life, as of the last `is_late`; 0 while the loop does not run."""
        return self._quiet_s if self.is_running else 0.0

    @property
    def is_broken(self) -> bool:
        """Whether the loop is over though nobody had asked it to end."""
        return self._is_broken

    def is_late(self, passed_s: float) -> bool:
        """Whether the next sign of life is overdue, now that *passed_s* seconds more have passed."""
        with self._lock:
            self._left_s -= passed_s
            self._quiet_s += passed_s
            return self._thread is not None and self._left_s < 0


class Pulses:
    """All pulses of a daemon."""

    def __init__(self) -> None:
        self._pulses: list[Pulse] = []

    def add(self, name: str) -> Pulse:
        """A new one."""
        pulse = Pulse(name)
        self._pulses.append(pulse)
        return pulse

    def all(self) -> tuple[Pulse, ...]:
        """In the order in which they were made."""
        return tuple(self._pulses)

    def late(self, passed_s: float) -> list[str]:
        """The loops that stand still, now that *passed_s* seconds more have passed."""
        return [pulse.name for pulse in self._pulses if pulse.is_late(passed_s)]


class LoopClock:
    """Fills the Clock port for one loop: asking for the time, and waiting, are signs of life."""

    def __init__(self, clock: Clock, pulse: Pulse) -> None:
        self._clock = clock
        self._pulse = pulse

    def now_s(self) -> float:
        """See Clock."""
        self._pulse.turn()
        return self._clock.now_s()

    def sleep(self, seconds: float) -> bool:
        """See Clock."""
        self._pulse.turn(seconds)
        return self._clock.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See Clock."""
        self._pulse.turn(seconds)
        return self._clock.wait(event, seconds)


def keep_going(
    run: Callable[[], object],
    *,
    pulse: Pulse,
    clock: Clock,
    log: FilteringBoundLogger,
) -> None:
    """Call *run* until it returns; after an exception it is called again, unless *clock*'s sleep was cut short."""
    is_broken = True
    pulse.begin()
    try:
        while True:
            try:
                run()
            except Exception:
                log.exception("loop.failed", loop=pulse.name, wait_s=RESTART_S)
            else:
                is_broken = False
                return
            if clock.sleep(RESTART_S):
                is_broken = False
                return
    finally:
        pulse.end(is_broken=is_broken)


def stacks() -> Mapping[str, list[str]]:
    """Where each thread is now, by the thread's name: file, line and function, the innermost last. No values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [
            f"{place.filename}:{place.lineno} {place.name}" for place in traceback.extract_stack(frame)
        ]
        for ident, frame in sys._current_frames().items()
    }
