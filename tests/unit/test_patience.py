"""Where `run` ends by itself: after so many jobs, so long without one, or so long at all, over all slots."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_parts import JOB_ID
from daemon_parts import Daemon, down, unauthorized
from overmind_agent.host.capacity import Capacity
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.lifecycle import Status
from overmind_agent.patience import Bounded, Bounds
from overmind_agent.testing import FakeServer, VirtualClock

Start = Callable[..., Daemon]
NOTHING = NoJob("no job")
A_JOB = Ended(JOB_ID, "inference", 1, Status.COMPLETED)


def test_after_so_many_jobs_it_is_over(clock: VirtualClock) -> None:
    capacity = Capacity(2, {}, clock, most_jobs=1)
    patience = Bounded(Bounds(max_jobs=1), capacity, clock)

    before = patience.is_over(NOTHING)
    seat = capacity.take("inference")
    assert seat is not None
    seat.leave()

    assert [False, True] == [before, patience.is_over(A_JOB)]
    assert [A_JOB] == patience.ended


def test_idle_is_when_no_slot_has_a_job(clock: VirtualClock) -> None:
    capacity = Capacity(2, {}, clock)
    clock.advance(100)  # before it began
    patience = Bounded(Bounds(idle_s=10), capacity, clock)
    clock.advance(9)
    at_first = patience.poll_s(20)
    seat = capacity.take("inference")
    assert seat is not None
    clock.advance(50)
    while_busy = patience.is_over(NOTHING)
    seat.leave()
    clock.advance(10)

    assert (1, False, True) == (at_first, while_busy, patience.is_over(NOTHING))
    assert 0 == patience.poll_s(20)


def test_after_so_long_it_is_over_whatever_runs(clock: VirtualClock) -> None:
    capacity = Capacity(2, {}, clock)
    patience = Bounded(Bounds(uptime_s=60), capacity, clock)
    capacity.take("inference")
    clock.advance(59)
    before = patience.is_over(A_JOB)
    clock.advance(1)

    assert [False, True] == [before, patience.is_over(A_JOB)]


@pytest.mark.parametrize(("error", "gives_up"), [(down(), False), (unauthorized(), True)])
def test_an_outage_is_waited_out_within_the_bounds(clock: VirtualClock, error: Exception, gives_up: bool) -> None:
    patience = Bounded(Bounds(idle_s=60), Capacity(1, {}, clock), clock)

    before = patience.gives_up(error)  # type: ignore[arg-type]
    clock.advance(60)

    assert [gives_up, True] == [before, patience.gives_up(error)]  # type: ignore[arg-type]


def test_a_worker_for_one_job_takes_no_other(daemon: Daemon, server: FakeServer) -> None:
    other, wanted = server.submit(), server.submit()
    worker = daemon.another_worker(only=wanted)

    ended = worker.step(wait_s=0)
    after = worker.step(wait_s=0)

    assert isinstance(ended, Ended)
    assert wanted == ended.job_id
    assert NoJob(f"job {wanted} does not wait") == after
    assert [Status.PENDING] == server.jobs[other].history
