"""Duties: what breaks is said, what stands still is said once, and neither ends anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from overmind_agent.duties import LIMIT_S, MOST_GAP_S, Duties, Duty
from overmind_agent.testing import VirtualClock

WAIT_S = 30.0
HOUR_S = 3600.0


class Work:
    """A duty's work: it begins, and stands still until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.let_go.wait(WAIT_S)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def duties(clock: VirtualClock) -> Iterator[Duties]:
    made = Duties(clock, structlog.get_logger())
    yield made
    made.stop()


def pass_time(duties: Duties, clock: VirtualClock, seconds: float, *, step_s: float = MOST_GAP_S) -> list[str]:
    """The events that were logged while *seconds* passed, with a look after each *step_s*."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(int(seconds / step_s)):
            clock.advance(step_s)
            duties.look()
    return [f"{line['event']} {line['duties']}" for line in lines]


def test_a_duty_that_stands_still_is_said_once(duties: Duties, clock: VirtualClock) -> None:
    work, other = Work(), threading.Event()
    duties.start(Duty("sweep", 60, work), Duty("prune", 2 * HOUR_S, other.set))
    duties.again()
    assert work.begun.wait(WAIT_S)

    before = pass_time(duties, clock, 120 + LIMIT_S)
    after = pass_time(duties, clock, HOUR_S)
    work.let_go.set()

    assert ([], ["duty.late ['sweep']"]) == (before, after)


def test_what_nobody_begins_is_begun_anew(duties: Duties, clock: VirtualClock) -> None:
    """As when the scheduler's own thread were gone astray: its next run is hours away."""
    done = threading.Event()
    duties.start(Duty("sweep", HOUR_S, done.set))

    said = pass_time(duties, clock, 2 * HOUR_S + LIMIT_S + MOST_GAP_S)

    assert ["duty.late ['sweep']"] == said
    assert done.wait(WAIT_S)


def test_a_host_that_was_suspended_has_no_late_duty(duties: Duties, clock: VirtualClock) -> None:
    duties.start(Duty("sweep", 60, lambda: None))

    assert [] == pass_time(duties, clock, 100 * HOUR_S, step_s=100 * HOUR_S)


def test_a_duty_that_breaks_is_done_again(duties: Duties) -> None:
    done = [threading.Event(), threading.Event()]
    waiting = iter(done)

    def breaks() -> None:
        next(waiting).set()
        raise OSError(28, "no space left on device")

    duties.start(Duty("sweep", HOUR_S, breaks))
    ends_at_s = time.monotonic() + WAIT_S
    while not done[1].wait(0.02) and time.monotonic() < ends_at_s:
        duties.again()  # not heard while the first run is still under way

    assert done[1].is_set()
