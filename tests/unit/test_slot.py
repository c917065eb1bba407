"""A slot: what it waits out, what it ends for, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog

from daemon_parts import Daemon, down, unauthorized
from overmind_agent.errors import JournalError, ProtocolError, RejectedError, TransientError
from overmind_agent.jobs import REPLACED, Ended, NoJob
from overmind_agent.lifecycle import Status
from overmind_agent.slot import DISK_GAP_S, POLL_GAP_S, Forever, Once, Slot
from overmind_agent.testing import FakeServer, VirtualClock

FORGOTTEN = RejectedError("next_job: 404", verb="next_job", http_status=404)


class Scene:
    """A slot over a daemon in memory, and what it said to the world around."""

    def __init__(self, daemon: Daemon, patience: Forever | Once | None = None, poll_wait_s: float = 20.0) -> None:
        self.daemon = daemon
        self.fatal: list[BaseException] = []
        self.drains: list[str] = []
        self.registered = 0
        self.register_errors: list[Exception] = []
        self.slot = Slot(
            daemon.worker,
            patience or Forever(draw=lambda: 1.0),
            poll_wait_s=poll_wait_s,
            is_draining=daemon.draining.is_set,
            register=self._register,
            on_drain=self._replaced,
            on_fatal=self.fatal.append,
            clock=daemon.clock,
            log=structlog.get_logger(),
            draw=lambda: 0.5,
        )

    def _register(self) -> None:
        if self.register_errors:
            raise self.register_errors.pop(0)
        self.daemon.plane.register(None)
        self.registered += 1

    def _replaced(self, why: str) -> None:
        self.drains.append(why)
        self._drain()

    def run(self, *steps: Any) -> None:
        """Run the slot; each poll is one of *steps*, and with the one after them the daemon drains."""
        self.daemon.server.script("next_job", *steps, self._drain)
        self.slot.run()

    def _drain(self) -> None:
        self.daemon.draining.set()
        self.daemon.clock.until.set()

    @property
    def polls(self) -> int:
        """How often it asked for a job."""
        return self.daemon.server.calls.count("next_job")


OnceAt = Callable[[float], tuple[Once, Scene]]


def nothing() -> None:
    """A poll as it comes."""


def test_jobs_are_done_one_after_the_other_without_a_pause(daemon: Daemon, server: FakeServer) -> None:
    ids = [server.submit(), server.submit()]
    scene = Scene(daemon)

    scene.run(nothing, nothing)

    assert [Status.COMPLETED] * 2 == [daemon.journal.statuses(_claim(server, job_id))[-1] for job_id in ids]
    assert [] == daemon.clock.slept


def _claim(server: FakeServer, job_id: str) -> Any:
    return server._as_claim(server.jobs[job_id])


def test_a_poll_that_was_answered_at_once_is_followed_by_a_pause(daemon: Daemon) -> None:
    scene = Scene(daemon, poll_wait_s=0)

    scene.run(nothing, nothing)

    assert [0, POLL_GAP_S] * 2 == daemon.clock.slept


def test_a_poll_that_was_held_open_is_followed_by_the_next(daemon: Daemon) -> None:
    scene = Scene(daemon, poll_wait_s=20)

    scene.run(nothing)

    assert 20 == daemon.clock.slept[0]
    assert all(seconds <= 0 for seconds in daemon.clock.slept[1:2])


@pytest.mark.parametrize(
    "error",
    [
        down("next_job"),
        ProtocolError("not usable JSON"),
        RejectedError("next_job: 400", verb="next_job", http_status=400),
    ],
    ids=["down", "unreadable", "rejected"],
)
def test_errors_of_the_poll_are_waited_out(daemon: Daemon, error: Exception) -> None:
    scene = Scene(daemon)

    scene.run(*[error] * 20)

    waits = daemon.clock.slept[:20]
    assert [] == scene.fatal
    assert 21 == scene.polls
    assert all(0.5 <= wait <= 30 for wait in waits)


def test_a_wish_of_the_server_is_kept_to(daemon: Daemon) -> None:
    scene = Scene(daemon)
    busy = TransientError("busy", verb="next_job", http_status=429, retry_after_s=60)

    scene.run(busy)

    assert 60 <= daemon.clock.slept[0] <= 66


def test_a_full_disk_is_waited_out(daemon: Daemon) -> None:
    """Who makes room on fifty hosts does not want to start fifty daemons, too."""
    scene, error = Scene(daemon), JournalError("the disk is full")

    scene.run(nothing, *[error] * 20)

    assert [] == scene.fatal
    assert [DISK_GAP_S] * 20 == daemon.clock.slept[-20:]


def test_a_single_job_waits_for_a_disk_no_longer_than_for_a_server(once: OnceAt) -> None:
    _, scene = once(0)
    error = JournalError("the disk is full")

    scene.run(*[error] * 20)

    assert [error] == scene.fatal


def test_a_daemon_waits_for_a_new_token(daemon: Daemon) -> None:
    """Whoever revokes a token before the new one is on every host must not lose the daemons of fifty hosts."""
    scene = Scene(daemon)

    scene.run(nothing, unauthorized("next_job"), unauthorized("next_job"), nothing)

    assert [] == scene.fatal
    assert [60.0, 60.0] == [wait for wait in daemon.clock.slept if wait == 60.0]


def test_a_single_job_waits_for_no_token(daemon: Daemon) -> None:
    error = unauthorized("next_job")
    scene = Scene(daemon, Once(daemon.clock, wait_s=600, reach_s=600))

    scene.run(error)

    assert [error] == scene.fatal


def test_an_agent_that_was_forgotten_registers_anew(daemon: Daemon, server: FakeServer) -> None:
    server.forget_agents()
    server.submit()
    scene = Scene(daemon)

    scene.run(nothing, nothing)

    assert 1 == scene.registered
    assert "claim" in server.calls


@pytest.mark.parametrize("error", [down("register"), ProtocolError("?"), FORGOTTEN])
def test_a_registration_that_does_not_go_well_is_not_the_end(daemon: Daemon, error: Exception) -> None:
    """A control plane that comes back empty is often one that is still coming back."""
    scene = Scene(daemon)
    scene.register_errors = [error]

    scene.run(FORGOTTEN, FORGOTTEN)

    assert [] == scene.fatal
    assert 1 == scene.registered
    assert 3 == scene.polls


def test_a_registration_that_is_refused_is_the_end(daemon: Daemon) -> None:
    scene = Scene(daemon)
    error = unauthorized("register")
    scene.register_errors = [error]

    scene.run(FORGOTTEN, nothing)

    assert [error] == scene.fatal
    assert 1 == scene.polls


def test_an_error_while_it_drains_is_no_error(daemon: Daemon, server: FakeServer) -> None:
    """The drain itself cuts the poll off."""
    scene = Scene(daemon)

    def cut_off() -> None:
        daemon.draining.set()
        raise down("next_job")

    scene.run(cut_off)

    assert [] == scene.fatal
    assert [] == daemon.clock.slept


# ------------------------------------------------------------------------------------ once


@pytest.fixture
def once(daemon: Daemon, clock: VirtualClock) -> Callable[[float], tuple[Once, Scene]]:
    def begin(wait_s: float) -> tuple[Once, Scene]:
        patience = Once(clock, wait_s=wait_s, reach_s=15)
        return patience, Scene(daemon, patience)

    return begin


def test_once_is_over_after_one_job(once: OnceAt, server: FakeServer) -> None:
    first, second = server.submit(), server.submit()
    patience, scene = once(60)

    scene.run(nothing, nothing)

    assert isinstance(patience.step, Ended)
    assert first == patience.step.job_id
    assert [Status.PENDING] == server.jobs[second].history


def test_once_is_over_when_there_is_nothing(once: OnceAt) -> None:
    patience, scene = once(0)

    scene.run(nothing, nothing)

    assert NoJob("no job") == patience.step
    assert 1 == scene.polls


@pytest.mark.parametrize(("wait_s", "polls"), [(10, [10]), (20, [20]), (45, [20, 20, 5])])
def test_once_waits_as_long_as_it_was_told(
    once: OnceAt, clock: VirtualClock, wait_s: float, polls: Sequence[float]
) -> None:
    patience, scene = once(wait_s)

    scene.run(*[nothing] * 5)

    assert NoJob("no job") == patience.step
    assert polls == [seconds for seconds in clock.slept if seconds > 0]


@pytest.mark.parametrize("wait_s", [0, 60])
def test_once_gives_up_on_a_control_plane_out_of_reach(once: OnceAt, clock: VirtualClock, wait_s: float) -> None:
    patience, scene = once(wait_s)
    began_s, error = clock.now_s(), down("next_job")

    scene.run(*[error] * 1000)

    assert [error] == scene.fatal
    assert patience.step is None
    assert max(wait_s, 15) <= clock.now_s() - began_s <= max(wait_s, 15) + 30


def test_an_idle_agent_that_was_replaced_drains(daemon: Daemon) -> None:
    """It holds no job, so no heartbeat tells it."""
    scene = Scene(daemon)
    daemon.server.submit()
    daemon.server.is_replaced = True

    scene.run()

    assert [REPLACED] == scene.drains
    assert [Status.PENDING] == [job.status for job in daemon.server.jobs.values()]
