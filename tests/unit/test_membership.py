"""An agent that comes back: its leases first, then its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon_parts import Daemon, down
from overmind_agent.errors import TransientError
from overmind_agent.lifecycle import Status
from overmind_agent.membership import Membership
from overmind_agent.standing import Outside, Standing
from overmind_agent.testing import FakeControlPlane, FakeServer, VirtualClock
from overmind_config.logs import configure
from overmind_config.settings import Agent, Settings

LEASE_S = 60.0


@contextmanager
def next_start(folder: Path) -> Iterator[Standing]:
    outside = Outside(
        token=lambda: "token",
        environment_of=lambda _names: {},
        notify_socket=None,
        watchdog_s=None,
        on_change=lambda _held, _status: None,
        logs=configure(None),
        model_key=lambda _name: "",
        read_again=Settings,
        take=lambda _settings: None,
    )
    with closing(outside.logs):
        yield Standing(Settings(agent=Agent(state_dir=folder)), outside, structlog.get_logger())


def come_back(folder: Path, daemon: Daemon) -> Standing:
    """The next start of *daemon*, as far as its registration."""
    with next_start(folder) as standing:
        plane = FakeControlPlane(daemon.server, agent_id=daemon.journal.agent_id())
        Membership(standing, daemon.journal).return_to(plane, reach_s=5.0)
    return standing


def test_what_an_earlier_start_left_is_kept_alive_before_the_agent_makes_itself_known(
    tmp_path: Path, daemon: Daemon, server: FakeServer, clock: VirtualClock
) -> None:
    """One job is in the midst of its work, of another the last word waits; both leases are about to run out."""
    said, working = server.submit(), server.submit()
    server.script("report", *[down()] * 20)
    daemon.job()
    daemon.claimed()
    clock.advance(LEASE_S - 1)
    server.calls.clear()

    standing = come_back(tmp_path, daemon)
    clock.advance(LEASE_S - 1)

    assert ["heartbeat", "register"] == server.calls
    assert {said, working} == {held.claim.job.id for held in standing.held_jobs.leased()}
    assert () == standing.held_jobs.all()
    assert {said: 1, working: 1} == {job_id: server.jobs[job_id].attempt for job_id in (said, working)}
    assert all(job.status is not Status.PENDING for job in server.jobs.values())


def test_an_agent_whose_leases_cannot_be_renewed_makes_itself_known(
    tmp_path: Path, daemon: Daemon, server: FakeServer
) -> None:
    server.submit()
    daemon.claimed()
    server.script("heartbeat", down())
    server.calls.clear()

    come_back(tmp_path, daemon)

    assert ["heartbeat", "register"] == server.calls


def test_an_agent_that_left_nothing_only_makes_itself_known(
    tmp_path: Path, daemon: Daemon, server: FakeServer
) -> None:
    come_back(tmp_path, daemon)

    assert ["register"] == server.calls


def test_no_longer_than_it_is_told_to_an_agent_tries_to_reach_a_control_plane(
    tmp_path: Path, daemon: Daemon, server: FakeServer
) -> None:
    """Whoever waits for `run --once` waits for no pause that ends after its time."""
    clock = VirtualClock()
    server.script("register", *[down("register")] * 100)

    with next_start(tmp_path) as standing:
        standing.until_drain = clock
        membership = Membership(standing, daemon.journal)
        with pytest.raises(TransientError):
            membership.register(FakeControlPlane(server, agent_id=None), reach_s=15.0)

    assert 15.0 == pytest.approx(sum(clock.slept))


@pytest.mark.parametrize("how", ["held again", "lost", "said"])
def test_what_was_left_is_kept_until_it_is_held_again_or_over(
    start: Callable[..., Any], server: FakeServer, how: str
) -> None:
    first = start()
    job_id = server.submit()
    first.claimed()
    if how == "lost":
        server.expire(job_id)
    if how == "said":
        server.script("report", *[down()] * 20)
        first.interrupted.put(first.journal.held()[0])
        first.job()
        server.calm()

    second = first.again()
    before = [held.claim.job.id for held in second.held_jobs.leased()]
    if how != "said":
        second.step()
    second.delivery.deliver()

    assert [job_id] == before
    assert () == second.held_jobs.leased()
