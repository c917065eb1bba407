"""The loops: an error does not end one, and one that stands still is found, wherever it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import structlog

from overmind_agent.loops import LIMIT_S, RESTART_S, LoopClock, Pulse, Pulses, keep_going
from overmind_agent.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def pulses() -> Pulses:
    return Pulses()


@pytest.fixture
def pulse(pulses: Pulses) -> Pulse:
    """Of a loop in this thread."""
    pulse = pulses.add("worker-1")
    pulse.begin()
    return pulse


# ------------------------------------------------------------------------------------ it goes on


def failing(*errors: Exception) -> Callable[[], None]:
    """A loop that breaks with each of *errors* and then is over."""
    rest: Iterator[Exception] = iter(errors)

    def run() -> None:
        if (error := next(rest, None)) is not None:
            raise error

    return run


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError(5, "input/output error"), MemoryError(), RecursionError()], ids=repr
)
def test_a_loop_that_breaks_is_back_in_a_moment(clock: VirtualClock, pulse: Pulse, error: Exception) -> None:
    with structlog.testing.capture_logs() as lines:
        keep_going(failing(error, error, error), pulse=pulse, clock=clock, log=structlog.get_logger())

    assert [RESTART_S] * 3 == clock.slept
    assert RESTART_S <= 5
    assert [("loop.failed", "worker-1")] * 3 == [(line["event"], line["loop"]) for line in lines]
    assert all(line["exc_info"] for line in lines)


def test_a_loop_that_breaks_while_all_ends_is_over(clock: VirtualClock, pulse: Pulse) -> None:
    clock.until.set()

    calls: list[bool] = []

    def run() -> None:
        calls.append(True)
        raise ValueError("cut off by the end")

    with structlog.testing.capture_logs():
        keep_going(run, pulse=pulse, clock=clock, log=structlog.get_logger())

    assert [True] == calls


def test_a_loop_that_is_over_is_not_looked_after(clock: VirtualClock, pulse: Pulse, pulses: Pulses) -> None:
    keep_going(failing(), pulse=pulse, clock=clock, log=structlog.get_logger())

    assert [] == pulses.late(10 * LIMIT_S)


# ------------------------------------------------------------------------------------ it stands still


def test_a_loop_without_a_sign_of_life_is_late(pulse: Pulse, pulses: Pulses) -> None:
    assert [] == pulses.late(LIMIT_S)
    assert ["worker-1"] == pulses.late(1)


def test_a_loop_that_has_not_begun_is_not_late(pulses: Pulses) -> None:
    pulses.add("worker-1")

    assert [] == pulses.late(10 * LIMIT_S)


def asks_for_the_time(clock: LoopClock) -> float:
    clock.now_s()
    return 0.0


def sleeps(clock: LoopClock) -> float:
    clock.sleep(300)
    return 300.0


def waits(clock: LoopClock) -> float:
    clock.wait(threading.Event(), 40)
    return 40.0


@pytest.mark.parametrize("act", [asks_for_the_time, sleeps, waits])
def test_what_a_loop_does_with_its_clock_is_a_sign_of_life(
    clock: VirtualClock, pulse: Pulse, pulses: Pulses, act: Callable[[LoopClock], float]
) -> None:
    pulses.late(LIMIT_S)

    busy_s = act(LoopClock(clock, pulse))

    assert [] == pulses.late(busy_s + LIMIT_S)
    assert ["worker-1"] == pulses.late(1)


def test_what_another_thread_does_is_no_sign_of_life(clock: VirtualClock, pulse: Pulse, pulses: Pulses) -> None:
    """The heartbeat asks a held job for its reason to stop; that does not mean that the job's own thread lives."""
    pulses.late(LIMIT_S)
    other = threading.Thread(target=LoopClock(clock, pulse).now_s)
    other.start()
    other.join()

    assert ["worker-1"] == pulses.late(1)
