"""
The main thread: it waits for signals, looks after the loops, and leads the daemon to its end in order.

The first signal drains: no new job, the present ones may finish. The second, or the end of the time for draining,
asks the work to stop. The third ends the process at once; what is in the journal is gone on with by the next start.
A loop that stands still ends the process, too: a thread cannot be ended, and its job would be held for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.errors import ConfigError
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.jobs import StopReason
from overmind_agent.loops import Pulses, stacks
from overmind_agent.notify import Notifier
from overmind_agent.ports import Clock
from overmind_agent.signals import DUMP, ENDING, RELOAD, Signals

TICK_S: Final = 2.0
# A busy host delays a tick; a watchdog that allows for fewer than so many would end a daemon that is well.
TICKS_TO_A_WATCHDOG: Final = 10
STALLED: Final = 70  # the exit code of a bug, after which service managers start again
HINT: Final = "present jobs may end; a second signal gives them back, a third ends at once"


def check_watchdog(watchdog_s: float | None) -> None:
    """
    Raises:
        ConfigError: the service manager ends the daemon before it can say that it lives.
    """
    least_s = TICKS_TO_A_WATCHDOG * TICK_S
    if watchdog_s is not None and watchdog_s < least_s:
        raise ConfigError(
            f"the service manager's watchdog allows {watchdog_s:g} s, and the daemon says every {TICK_S:g} s that "
            f"it lives: set WatchdogSec to at least {least_s:g}"
        )


class Supervisor:
    """
    Watches over the slots.

    Args:
        drain: takes no new job from now on.
        while_draining: called at every tick after that: a poll may have begun in the very moment of `drain`.
        drain_s: how long the present jobs may take after that.
        pulses: of the loops to look after.
        on_reload: called for a SIGHUP.
        on_tick: called every few seconds.

    Attributes:
        gives_back: whether the present jobs have been asked to end.
    """

    def __init__(
        self,
        *,
        signals: Signals,
        held_jobs: HeldJobs,
        drain: Callable[[str], object],
        while_draining: Callable[[], object],
        drain_s: float,
        pulses: Pulses,
        on_reload: Callable[[], object],
        on_tick: Callable[[], object],
        notifier: Notifier,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._signals = signals
        self._held_jobs = held_jobs
        self._drain = drain
        self._while_draining = while_draining
        self._drain_s = drain_s
        self._pulses = pulses
        self._on_reload = on_reload
        self._on_tick = on_tick
        self._notifier = notifier
        self._clock = clock
        self._log = log
        self._heard = 0
        self.gives_back = False
        self._stop_at_s: float | None = None
        self._fatal: BaseException | None = None
        self._looked_at_s = clock.now_s()
        self._late: list[str] = []
        self._lock = threading.Lock()

    def fail(self, error: BaseException) -> None:
        """The daemon cannot go on. From any thread; the first error is the one that counts."""
        with self._lock:
            self._fatal = self._fatal or error
        self._signals.wake()

    def drain(self, why: str) -> None:
        """Begin to drain, unless that was begun before. From any thread."""
        with self._lock:
            if self._stop_at_s is not None:
                return
            self._stop_at_s = self._clock.now_s() + self._drain_s
        if self._fatal is None:  # else the error itself is the news
            self._log.info(
                "agent.draining", why=why, jobs=len(self._held_jobs.all()), drain_s=self._drain_s, hint=HINT
            )
        self._drain(why)

    def allow(self, drain_s: float) -> None:
        """A drain that begins from now on may take so long."""
        self._drain_s = drain_s

    def watch(self, threads: Sequence[threading.Thread]) -> None:
        """
        Run *threads* and return when all have ended. Who adds to them meanwhile has started what is added.

        Raises:
            BaseException: what was given to `fail`.
        """
        for thread in list(threads):
            if thread.ident is None:
                thread.start()
        waker = threading.Thread(target=self._wake_after, args=[threads], name="waker", daemon=True)
        waker.start()
        while any(thread.is_alive() for thread in list(threads)):
            self._hear(self._signals.wait(TICK_S))
            self._look_after_the_loops()
            self._on_tick()
            self._notifier.tell(WATCHDOG="1", STATUS=self._in_words())
        if self._fatal is not None:
            raise self._fatal

    def _wake_after(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        self._signals.wake()

    def _look_after_the_loops(self) -> None:
        now_s = self._clock.now_s()
        # More than a tick was not lived through: the host was suspended, or this process was frozen.
        self._pulses.look(min(TICK_S, now_s - self._looked_at_s))
        self._looked_at_s = now_s
        before, self._late = self._late, self._pulses.late()
        if set(self._late) - set(before):
            self._log.warning("loop.late", loops=self._late, stacks=stacks())
        if stalled := self._pulses.stalled():
            self._log.error("loop.stalled", loops=stalled, stacks=stacks(), exit_code=STALLED)
            os._exit(STALLED)

    def _hear(self, heard: Sequence[int]) -> None:
        if DUMP in heard:
            self._log.warning("agent.stacks", stacks=stacks())
        if RELOAD in heard:
            self._on_reload()
        numbers = [number for number in heard if number in ENDING]
        self._heard += len(numbers)
        if self._heard >= 3:
            os._exit(128 + numbers[-1] if numbers else 1)
        if numbers:
            self.drain(f"signal {numbers[0]}")
        if self._fatal is not None:
            self.drain("it cannot go on")
        if self._stop_at_s is not None:
            self._while_draining()
        is_late = self._stop_at_s is not None and self._clock.now_s() >= self._stop_at_s
        if self._heard >= 2 or is_late or self._fatal is not None:
            self.gives_back = True
            self._held_jobs.ask_all_to_stop(StopReason.AGENT_STOPPING)

    def _in_words(self) -> str:
        return f"jobs: {len(self._held_jobs.all())}{', draining' if self._stop_at_s is not None else ''}"
