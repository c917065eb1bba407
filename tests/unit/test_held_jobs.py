"""Held jobs: the first reason to stop wins, and a lease ends by the clock alone."""

from __future__ import annotations

import itertools
import json
import threading

import pytest

from overmind_agent.held_jobs import MOST_TOLD_BYTES, HeldJob, HeldJobs
from overmind_agent.jobs import Claim, Held, Job, Lease, Progress, RemoteFile, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.testing import VirtualClock

FILE = RemoteFile("parameters.json", "0" * 96, "0" * 32, 2, "revision")


def a_claim(lease_s: float | None = 60.0, job_id: str = "job-1") -> Claim:
    job = Job(job_id, "inference", FILE, "model", Status.CLAIMED)
    return Claim(job, 3, Lease(lease_s) if lease_s is not None else None)


def a_held_job(clock: VirtualClock, lease_s: float | None = 60.0, job_id: str = "job-1") -> HeldJob:
    return HeldJob(a_claim(lease_s, job_id), clock, claimed_at_s=clock.now_s())


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(StopReason, 2)))
def test_the_first_reason_to_stop_wins(first: StopReason, second: StopReason) -> None:
    held = a_held_job(VirtualClock())

    held.ask_to_stop(first)
    held.ask_to_stop(second)

    assert first is held.stop_reason


@pytest.mark.parametrize(
    ("lease_s", "works_for_s"),
    # the margin is ten seconds, or a sixth of a short lease
    [(60.0, 50.0), (600.0, 590.0), (30.0, 25.0), (6.0, 5.0), (1.0, 1 - 1 / 6)],
)
def test_work_ends_by_itself_before_its_lease_does(lease_s: float, works_for_s: float) -> None:
    """No server and no other thread is needed for it."""
    clock = VirtualClock(0.0)
    held = a_held_job(clock, lease_s)

    clock.advance(works_for_s - 0.001)
    before = held.stop_reason
    clock.advance(0.002)

    assert before is None
    assert StopReason.LEASE_LOST is held.stop_reason


def test_a_renewed_lease_counts_from_when_it_was_asked_for() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)

    clock.advance(40)
    held.renew(Lease(60.0), sent_at_s=30.0)
    clock.advance(39)
    before = held.stop_reason
    clock.advance(2)

    assert before is None
    assert StopReason.LEASE_LOST is held.stop_reason


def test_an_answer_without_a_lease_does_not_renew() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)

    held.renew(None, sent_at_s=49.0)
    clock.advance(50)

    assert StopReason.LEASE_LOST is held.stop_reason


def test_a_fence_that_has_passed_is_not_taken_down_by_a_late_answer() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)
    clock.advance(50)
    assert StopReason.LEASE_LOST is held.stop_reason

    held.renew(Lease(60.0), sent_at_s=clock.now_s())

    assert StopReason.LEASE_LOST is held.stop_reason


def test_without_a_lease_nothing_runs_out() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, None)

    clock.advance(1e9)

    assert held.stop_reason is None


def test_a_canceled_job_does_not_become_one_that_lost_its_lease() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)

    held.ask_to_stop(StopReason.USER_REQUEST)
    clock.advance(100)

    assert StopReason.USER_REQUEST is held.stop_reason


def test_a_wait_ends_at_the_fence() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)

    is_over = held.wait(1000)

    assert is_over
    assert [50.0] == clock.slept


def test_a_wait_ends_when_the_work_should() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)
    held.ask_to_stop(StopReason.AGENT_STOPPING)

    is_over = held.wait(30)

    assert is_over
    assert [] == clock.slept


def test_a_wait_that_nothing_ends_takes_its_time() -> None:
    clock = VirtualClock(0.0)
    held = a_held_job(clock, 60.0)

    assert not held.wait(30)
    assert [30] == clock.slept


def test_heartbeats_name_what_is_held_and_nothing_else() -> None:
    clock, jobs = VirtualClock(), HeldJobs()
    first, second = a_held_job(clock, job_id="a"), a_held_job(clock, job_id="b")
    first.progress = Progress(1, 2, "rows")

    with jobs.holding(first):
        with jobs.holding(second):
            both, found = jobs.lines(), jobs.find("b")
        one = jobs.lines()

    assert (Held("a", 3, Progress(1, 2, "rows")), Held("b", 3)) == both
    assert found is second
    assert (Held("a", 3, Progress(1, 2, "rows")),) == one
    assert () == jobs.lines()
    assert jobs.find("a") is None


def test_steps_of_a_search_are_told_until_they_are_heard_and_never_more_than_fits() -> None:
    """Of all jobs together: a heartbeat that is too long would be refused, and every lease with it."""
    clock, jobs = VirtualClock(), HeldJobs()
    long, short = a_held_job(clock, job_id="long"), a_held_job(clock, job_id="short")
    for number in range(6):
        long.add_iteration({"order": number, "agent_code": "x" * 50_000})
    short.add_iteration({"order": 7})

    with jobs.holding(long), jobs.holding(short):
        first, same = jobs.lines(), jobs.lines()
        jobs.told(first)
        then = jobs.lines()
        jobs.told(then)
        last = jobs.lines()

    assert first == same
    told = [[[step["order"] for step in line.iterations] for line in lines] for lines in (first, then, last)]
    assert [[[0, 1, 2], [7]], [[3, 4, 5], []], [[], []]] == told


def test_letters_beyond_ascii_count_as_they_are_sent() -> None:
    clock, jobs = VirtualClock(), HeldJobs()
    held = a_held_job(clock)
    for _ in range(20):
        held.add_iteration({"agent_code": "\N{BUG}" * 14_000})

    with jobs.holding(held):
        (line,) = jobs.lines()

    assert line.iterations
    assert MOST_TOLD_BYTES >= len(json.dumps(line.iterations))


def test_a_job_is_let_go_of_when_its_work_breaks() -> None:
    jobs = HeldJobs()

    with pytest.raises(RuntimeError), jobs.holding(a_held_job(VirtualClock())):
        raise RuntimeError

    assert () == jobs.all()


def test_all_are_asked_to_stop() -> None:
    clock, jobs = VirtualClock(), HeldJobs()
    first, second = a_held_job(clock, job_id="a"), a_held_job(clock, job_id="b")

    with jobs.holding(first), jobs.holding(second):
        jobs.ask_all_to_stop(StopReason.AGENT_STOPPING)

    assert [StopReason.AGENT_STOPPING] * 2 == [first.stop_reason, second.stop_reason]


def test_who_waits_for_a_job_is_woken_by_it() -> None:
    jobs, found = HeldJobs(), []
    waiter = threading.Thread(target=lambda: found.append(jobs.wait_for_any(10)))
    waiter.start()

    with jobs.holding(a_held_job(VirtualClock())):
        waiter.join(10)

    assert [True] == found


def test_a_wait_for_a_job_is_ended_by_waking() -> None:
    jobs, found = HeldJobs(), []
    waiter = threading.Thread(target=lambda: found.append(jobs.wait_for_any(10)))
    waiter.start()

    while waiter.is_alive():
        jobs.wake()
        waiter.join(0.01)

    assert [False] == found
