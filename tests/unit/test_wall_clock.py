"""Wall time: that it was moved, or differs from the server's, is said; and housekeeping goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from overmind_agent.duties import Duties, Duty
from overmind_agent.host.wall_clock import WallClock
from overmind_agent.testing import VirtualClock

WAIT_S = 20
YEAR_S = 365 * 86400.0
NOW_S = 1_700_000_000.0


class Scene:
    """A wall clock that runs with the other one, until somebody moves it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ahead_s = NOW_S
        self.steps = 0
        self.wall_clock = WallClock(
            self.clock, self._step, structlog.get_logger(), wall_s=lambda: self.ahead_s + self.clock.now_s()
        )

    def _step(self) -> None:
        self.steps += 1


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("moved_s", [3600, -3600, 10 * YEAR_S, -NOW_S, 6, -6])
def test_a_step_is_noticed_once(scene: Scene, moved_s: float) -> None:
    scene.ahead_s += moved_s

    with structlog.testing.capture_logs() as lines:
        scene.wall_clock.look()
        scene.wall_clock.look()

    assert 1 == scene.steps
    assert [("clock.stepped", moved_s)] == [(line["event"], line["moved_s"]) for line in lines]


def test_time_that_passes_is_no_step(scene: Scene) -> None:
    """Not even the hours of a host that was suspended, for both clocks count them."""
    for _ in range(100):
        scene.clock.advance(3600)
        scene.ahead_s += 1  # set gradually
        scene.wall_clock.look()

    assert 0 == scene.steps


def test_a_difference_from_the_servers_clock_is_said_once(scene: Scene) -> None:
    here = datetime.fromtimestamp(NOW_S + scene.clock.now_s(), UTC)

    with structlog.testing.capture_logs() as lines:
        for ahead_s in (0, 59, -59, 61, 120, 0, -86400):
            scene.wall_clock.compare(here - timedelta(seconds=ahead_s))

    assert [("clock.skewed", 61), ("clock.skewed", -86400)] == [(line["event"], line["skew_s"]) for line in lines]


@pytest.fixture
def duties() -> Iterator[Duties]:
    made = Duties(VirtualClock(), structlog.get_logger())
    yield made
    made.stop()


def test_after_a_step_the_duties_are_done_at_once(duties: Duties) -> None:
    """A clock that is set back by fifty years would have them wait for fifty years."""
    done = threading.Event()
    duties.start(Duty("sweep", 50 * YEAR_S, done.set))

    duties.again()

    assert done.wait(WAIT_S)
