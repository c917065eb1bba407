"""
The daemon's loops: an error does not end one, and one that stands still is noticed.

Each loop has a pulse. Whatever the loop's thread does through its clock or its connection is a sign of life, and
says how long the thread may now wait: so a loop that waits for a server is not taken for one that hangs, and no
loop's health depends on the server. Outside of such a wait a thread works, and whether it does is seen by its
processor time: one that uses none stands still. The supervisor looks after all pulses; it counts its own time, so
that a host that was suspended, or a process that was frozen, finds no loop late.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.ports import Clock

# For a thread that neither waits nor works: a lock that is held elsewhere, a disk that takes its time.
STILL_S: Final = 4.0
# For work between two signs of life: removing a large folder, hashing a file. Or it is a circle without an end.
BUSY_S: Final = 90.0
# So that a thread that is frozen in the midst of a long pause is noticed before that is over.
PIECE_S: Final = 2.0
# A loop that is late for so long will not come back.
PATIENCE_S: Final = 30.0
# A loop that broke is back after so many seconds: soon enough for a lease, seldom enough for a log.
RESTART_S: Final = 2.0


def work_of_this_thread() -> Callable[[], float]:
    """Tells any thread how many seconds of the processor this one has used; the same for ever once it is gone."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    worked_s = 0.0

    def look() -> float:
        nonlocal worked_s
        with suppress(OSError):
            worked_s = time.clock_gettime(clock)
        return worked_s

    return look


class Pulse:
    """
    The life of one loop, given in its own thread and looked after in another.

    Args:
        work: called in the loop's thread; gives what tells how much that has worked.

    Attributes:
        name: as the log calls the loop.
    """

    def __init__(self, name: str, work: Callable[[], Callable[[], float]] = work_of_this_thread) -> None:
        self.name = name
        self._work = work
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._worked: Callable[[], float] = float
        self._worked_s = 0.0
        self._may_wait_s = 0.0
        self._quiet_s = 0.0
        self._still_s = 0.0
        self._is_broken = False

    def begin(self) -> None:
        """The thread that calls is the loop's; it is looked after from now on."""
        with self._lock:
            self._thread = threading.get_ident()
            self._worked = self._work()
            self._may_wait_s = self._quiet_s = self._still_s = 0.0

    def end(self, *, is_broken: bool = False) -> None:
        """The loop is over; *is_broken* when it is for an error that no loop survives."""
        with self._lock:
            self._thread, self._is_broken = None, is_broken

    def turn(self, wait_s: float = 0.0) -> None:
        """The loop lives, and may now wait for *wait_s* seconds. From another thread it says nothing."""
        if threading.get_ident() == self._thread:
            with self._lock:
                self._may_wait_s, self._quiet_s, self._still_s = max(0.0, wait_s), 0.0, 0.0

    @property
    def is_running(self) -> bool:
        """Whether the loop has begun and is not over."""
        return self._thread is not None

    @property
    def left_s(self) -> float:
        """Seconds until the loop is late if it stands still, as of the last `look`; negative when it is."""
        left_to_wait_s = self._may_wait_s - self._quiet_s
        left_s = min(STILL_S - self._still_s, BUSY_S + min(0.0, left_to_wait_s))
        return left_s + max(0.0, left_to_wait_s)

    @property
    def quiet_s(self) -> float:
        """Seconds since the last sign of life, as of the last `look`; 0 while the loop does not run."""
        return self._quiet_s if self.is_running else 0.0

    @property
    def is_broken(self) -> bool:
        """Whether the loop is over though nobody had asked it to end."""
        return self._is_broken

    @property
    def is_late(self) -> bool:
        """Whether the loop gives no sign of life though it should, as of the last `look`."""
        return self.is_running and self.left_s < 0

    @property
    def is_stalled(self) -> bool:
        """Whether it has been late for so long that it will not come back."""
        return self.is_running and self.left_s < -PATIENCE_S

    def look(self, passed_s: float) -> None:
        """Now *passed_s* seconds more have passed."""
        with self._lock:
            if self._thread is None:
                return
            self._quiet_s += passed_s
            waited_too_long_s = self._quiet_s - self._may_wait_s
            if self._has_worked() or waited_too_long_s <= 0:
                self._still_s = 0.0
            else:
                self._still_s += min(passed_s, waited_too_long_s)

    def _has_worked(self) -> bool:
        """Whether the thread has used its processor since this was last asked."""
        before_s, self._worked_s = self._worked_s, self._worked()
        return self._worked_s != before_s


class Pulses:
    """All pulses of a daemon; *work* as Pulse has it."""

    def __init__(self, work: Callable[[], Callable[[], float]] = work_of_this_thread) -> None:
        self._work = work
        self._pulses: list[Pulse] = []

    def add(self, name: str) -> Pulse:
        """A new one."""
        pulse = Pulse(name, self._work)
        self._pulses.append(pulse)
        return pulse

    def all(self) -> tuple[Pulse, ...]:
        """In the order in which they were made."""
        return tuple(self._pulses)

    def look(self, passed_s: float) -> None:
        """Now *passed_s* seconds more have passed."""
        for pulse in self._pulses:
            pulse.look(passed_s)

    def late(self) -> list[str]:
        """The loops that stand still, as of the last `look`."""
        return [pulse.name for pulse in self._pulses if pulse.is_late]

    def stalled(self) -> list[str]:
        """Those of them that will not come back."""
        return [pulse.name for pulse in self._pulses if pulse.is_stalled]


class LoopClock:
    """Fills the Clock port for one loop: to ask for the time is a sign of life, and a wait is one every PIECE_S."""

    def __init__(self, clock: Clock, pulse: Pulse) -> None:
        self._clock = clock
        self._pulse = pulse

    def now_s(self) -> float:
        """See Clock."""
        self._pulse.turn()
        return self._clock.now_s()

    def sleep(self, seconds: float) -> bool:
        """See Clock."""
        return self._in_pieces(self._clock.sleep, seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See Clock."""
        return self._in_pieces(lambda piece_s: self._clock.wait(event, piece_s), seconds)

    def _in_pieces(self, wait: Callable[[float], bool], seconds: float) -> bool:
        ends_at_s = self._clock.now_s() + seconds
        try:
            while True:
                left_s = ends_at_s - self._clock.now_s()
                self._pulse.turn(min(PIECE_S, left_s))
                if (is_cut_short := wait(min(PIECE_S, left_s))) or left_s <= PIECE_S:
                    return is_cut_short
        finally:
            self._pulse.turn()


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
