"""How long the phases of a job may take, on a clock that wall time does not move; and which limit ran out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from overmind_agent.errors import JobError, TransientError
from overmind_agent.ports import Clock

T = TypeVar("T")

TICK_S: Final = 1.0
VALIDATING_S: Final = 60.0
UPLOADING_S: Final = 900.0
# On top of that for each byte of a file: a megabit a second.
SLOWEST_BYTES_PER_S: Final = 128 * 1024


@dataclass(frozen=True)
class TimeLimits:
    """
    The limits of this host, in seconds.

    Attributes:
        running_s: of the executor; a job may ask for less.
        no_progress_s: without a word of progress from the executor; None for no limit.
        validating_s: of the executor's `validate`.
        uploading_s: of one file, while the control plane answers; its size adds to it.
    """

    running_s: float = 86_400.0
    no_progress_s: float | None = None
    validating_s: float = VALIDATING_S
    uploading_s: float = UPLOADING_S


class OutOfTime(JobError):
    """A phase took too long; the message says which limit it was."""

    reason = "timeout"


class RunningTime:
    """The time of one run of an executor, from the moment this is made."""

    def __init__(self, limits: TimeLimits, job_timeout_s: float | None, clock: Clock) -> None:
        self._clock = clock
        self._began_s = self._progress_s = clock.now_s()
        self._no_progress_s = limits.no_progress_s
        self._limit_s = limits.running_s
        self._whose = "agent.job_timeout_s of this host"
        self._passed: str | None = None
        if job_timeout_s is not None and job_timeout_s <= limits.running_s:
            self._limit_s, self._whose = job_timeout_s, "the job's timeout_s"

    def progressed(self) -> None:
        """The executor said how far it is."""
        self._progress_s = self._clock.now_s()

    def limit(self) -> str | None:
        """The first limit that ran out, in words; None while there is none."""
        self._passed = self._passed or self._limit(self._clock.now_s())
        return self._passed

    def _limit(self, now_s: float) -> str | None:
        if now_s >= self._began_s + self._limit_s:
            return f"running took longer than {self._limit_s:g} s, {self._whose}"
        if self._no_progress_s is not None and now_s >= self._progress_s + self._no_progress_s:
            return f"there was no progress for {self._no_progress_s:g} s, agent.no_progress_s of this host"
        return None


class UploadTime:
    """The time of one upload. An outage does not count: a finished result waits until somebody takes it."""

    def __init__(self, limits: TimeLimits, size_bytes: int, clock: Clock) -> None:
        self._clock = clock
        self.limit_s = limits.uploading_s + size_bytes / SLOWEST_BYTES_PER_S
        self._began_s = clock.now_s()

    def is_over(self, error: BaseException | None) -> bool:
        """Whether to give up after *error*. Where nobody answered, the time begins anew."""
        now_s = self._clock.now_s()
        if isinstance(error, TransientError) and error.http_status is None:
            self._began_s = now_s
        return now_s >= self._began_s + self.limit_s


def within(seconds: float, do: Callable[[], T], phase: str, *, clock: Clock) -> T:
    """
    What *do* returns or raises.

    A thread cannot be ended, so one that takes longer is left behind.

    Args:
        clock: asked for the time while the caller waits, which is its sign of life.

    Raises:
        OutOfTime: *do* took longer than *seconds* seconds; the message begins with *phase*.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(do())
        except BaseException as error:  # handed on to whoever waits
            failed.append(error)

    thread = threading.Thread(target=run, name=phase, daemon=True)
    thread.start()
    ends_at_s = time.monotonic() + seconds
    while thread.is_alive() and (left_s := ends_at_s - time.monotonic()) > 0:
        thread.join(min(TICK_S, left_s))
        clock.now_s()
    if failed:
        raise failed[0]
    if not done:
        raise OutOfTime(f"{phase} took longer than {seconds:g} s")
    return done[0]
