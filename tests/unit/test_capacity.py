"""Slots: free and used add up at every moment, and whatever goes wrong gives the slot back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from daemon_parts import Daemon, FakeLauncher, down, two_files, unauthorized
from overmind_agent.errors import (
    BrokenJob,
    ClaimLost,
    JobError,
    JournalError,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    Stopped,
)
from overmind_agent.host.capacity import Capacity, Seat
from overmind_agent.host.turns import LOOK_EVERY_S, OVERTAKE_S, OVERTAKES
from overmind_agent.jobs import NoJob, Result, StopReason
from overmind_agent.ports import Workspace
from overmind_agent.testing import FakeServer, VirtualClock

Start = Callable[..., Daemon]
HEAVY = {"prompt_tuning": 3}


def taken(capacity: Capacity, job_type: str) -> Seat:
    seat = capacity.take(job_type)
    assert seat is not None
    return seat


def test_heavy_and_light_jobs_never_take_more_than_there_is(clock: VirtualClock) -> None:
    capacity = Capacity(4, HEAVY, clock)

    heavy = taken(capacity, "prompt_tuning")
    light = taken(capacity, "inference")

    assert 0 == capacity.free
    assert (None, None) == (capacity.take("inference"), capacity.take("prompt_tuning"))
    assert frozenset() == capacity.fitting(["inference", "prompt_tuning"])
    light.leave()
    assert {"inference"} == capacity.fitting(["inference", "prompt_tuning"])
    heavy.leave()
    heavy.leave()
    assert 4 == capacity.free


def test_a_job_that_is_heavier_than_the_host_takes_all_of_it(clock: VirtualClock) -> None:
    capacity = Capacity(2, HEAVY, clock)

    taken(capacity, "prompt_tuning")

    assert 0 == capacity.free


def test_no_more_jobs_are_taken_than_may_be(clock: VirtualClock) -> None:
    capacity = Capacity(4, {}, clock, most_jobs=2)

    taken(capacity, "inference").refund()
    taken(capacity, "inference").leave()
    before = capacity.is_used_up
    taken(capacity, "inference").leave()

    assert [False, True] == [before, capacity.is_used_up]
    assert capacity.take("inference") is None
    assert 4 == capacity.free


def test_it_is_idle_when_nothing_runs_in_any_slot(clock: VirtualClock) -> None:
    capacity = Capacity(2, {}, clock)
    clock.advance(5)
    first_s = capacity.idle_s()
    one, two = taken(capacity, "inference"), taken(capacity, "inference")
    clock.advance(5)
    one.leave()
    busy_s = capacity.idle_s()
    two.leave()
    clock.advance(7)

    assert (5, 0, 7) == (first_s, busy_s, capacity.idle_s())


def test_many_threads_never_take_more_than_there_is(clock: VirtualClock) -> None:
    capacity = Capacity(5, HEAVY, clock)
    seen: list[int] = []

    def work(job_type: str) -> None:
        for _ in range(500):
            seat = capacity.take(job_type)
            seen.append(capacity.free)
            if seat is not None:
                seat.leave()

    threads = [
        threading.Thread(target=work, args=[job_type]) for job_type in ("inference", "prompt_tuning") for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(seen) <= set(range(6))
    assert 5 == capacity.free


# ------------------------------------------------------------------------------------ in the worker


def test_without_a_free_slot_nothing_is_asked_for(start: Start, server: FakeServer) -> None:
    daemon = start(slots=2, weights={"inference": 2})
    server.submit()
    taken(daemon.capacity, "inference")

    assert NoJob("no slot is free") == daemon.step()
    assert [] == server.calls


def test_only_what_fits_is_asked_for(start: Start, server: FakeServer) -> None:
    daemon = start(slots=3, weights={"inference": 3})
    taken(daemon.capacity, "function")
    server.submit("inference")

    assert NoJob("no slot is free") == daemon.step()
    assert 2 == daemon.capacity.free


TYPES = ("inference", "prompt_tuning")


def overtake(daemon: Daemon, server: FakeServer, times: int) -> list[str]:
    """A light job always runs; *times* more are begun and ended beside it. What was done instead is returned."""
    said = []
    for _ in range(times):
        server.submit("inference")
        step = daemon.step()
        said.append(step.message if isinstance(step, NoJob) else step.job_type)
    return said


def test_a_heavy_job_is_overtaken_a_few_times_and_then_has_its_turn(start: Start, server: FakeServer) -> None:
    """Its room is kept, and no light job is begun until it fits; then they are, again."""
    daemon = start(slots=2, weights={"prompt_tuning": 2}, job_types=TYPES)
    running = taken(daemon.capacity, "inference")
    server.submit("prompt_tuning")

    overtaking = overtake(daemon, server, OVERTAKES + 2)
    running.leave()
    first = daemon.step()
    running = taken(daemon.capacity, "inference")
    after = overtake(daemon, server, 2)

    kept = "room is kept for a job of type 'prompt_tuning'"
    assert [*["inference"] * OVERTAKES, kept, kept] == overtaking
    assert "prompt_tuning" == getattr(first, "job_type", first)
    assert ["inference"] * 2 == after


def test_a_heavy_job_has_its_turn_after_a_while_though_little_is_begun(
    start: Start, server: FakeServer, clock: VirtualClock
) -> None:
    daemon = start(slots=2, weights={"prompt_tuning": 2}, job_types=TYPES)
    taken(daemon.capacity, "inference")
    server.submit("prompt_tuning")

    before = overtake(daemon, server, 1)
    clock.advance(OVERTAKE_S)
    after = overtake(daemon, server, 1)

    assert ["inference", "room is kept for a job of type 'prompt_tuning'"] == before + after


def test_room_is_not_kept_for_a_job_that_another_host_has_taken(
    start: Start, server: FakeServer, clock: VirtualClock
) -> None:
    """It is looked after now and then, and not at every step: each look keeps the job from other hosts."""
    daemon = start(slots=2, weights={"prompt_tuning": 2}, job_types=TYPES)
    taken(daemon.capacity, "inference")
    heavy = server.submit("prompt_tuning")
    overtake(daemon, server, OVERTAKES + 1)
    calls = server.calls.count("next_job")
    overtake(daemon, server, 3)
    looks = server.calls.count("next_job") - calls

    server.cancel(heavy)
    clock.advance(LOOK_EVERY_S)

    assert 0 == looks
    assert ["inference"] == overtake(daemon, server, 1)


def test_without_a_heavy_job_nobody_waits(start: Start, server: FakeServer) -> None:
    daemon = start(slots=2, weights={"prompt_tuning": 2}, job_types=TYPES)
    taken(daemon.capacity, "inference")

    assert ["inference"] * 2 * OVERTAKES == overtake(daemon, server, 2 * OVERTAKES)


def test_a_server_that_offers_what_does_not_fit_is_not_claimed_from(start: Start, server: FakeServer) -> None:
    daemon = start(slots=2)
    job_id = server.submit()
    server.script("next_job", lambda: taken(daemon.capacity, "other") and taken(daemon.capacity, "other"))

    step = daemon.step()

    assert isinstance(step, NoJob)
    assert "for which no slot is free" in step.message
    assert ["next_job"] == server.calls
    assert server.jobs[job_id].holder is None


def failing_work(error: Exception) -> FakeLauncher:
    def work(_workspace: Workspace) -> Result:
        raise error

    return FakeLauncher(work)


VERBS = ("next_job", "claim", "read_parameters", "upload")
ERRORS: tuple[Callable[[str], Exception], ...] = (
    down,
    unauthorized,
    lambda verb: RejectedError(f"{verb}: 400", verb=verb, http_status=400),
    lambda verb: ClaimLost(f"{verb}: 409", verb=verb, http_status=409),
    lambda _verb: ProtocolError("not usable JSON"),
    lambda _verb: JournalError("the disk is full"),
    lambda _verb: OSError(5, "input/output error"),
    lambda _verb: ZeroDivisionError("a bug"),
)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_whatever_fails_gives_the_slot_back(
    start: Start, server: FakeServer, clock: VirtualClock, verb: str, number: int
) -> None:
    daemon = start(slots=2)
    server.submit()
    server.lease_s = 60
    error = ERRORS[number](verb)

    def fail() -> None:
        clock.advance(30)  # an error that is waited out ends with the lease
        raise error

    server.script(verb, *[fail] * 5)
    with suppress(OvermindAgentError, OSError, ZeroDivisionError):
        daemon.step()

    assert 2 == daemon.capacity.free
    assert () == daemon.held_jobs.all()


@pytest.mark.parametrize(
    "error",
    [
        JobError("no"),
        Stopped(StopReason.USER_REQUEST),
        Stopped(StopReason.LEASE_LOST),
        Stopped(StopReason.AGENT_STOPPING),
        JournalError("the disk is full"),
        OSError(28, "no space left on device"),
        MemoryError(),
        ZeroDivisionError("a bug"),
    ],
    ids=repr,
)
def test_however_the_work_ends_the_slot_is_free(start: Start, server: FakeServer, error: Exception) -> None:
    daemon = start(slots=2, launcher=failing_work(error))
    server.submit()

    with suppress(JournalError):
        daemon.step()

    assert 2 == daemon.capacity.free


def test_an_offer_that_cannot_be_read_takes_no_slot(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_job", BrokenJob("job: status: ?", job_id=job_id))

    daemon.step()

    assert 1 == daemon.capacity.free


def test_what_a_crash_left_waits_for_a_slot(start: Start, server: FakeServer) -> None:
    job_id = server.submit()
    daemon = start()
    daemon.claimed()
    later = daemon.again(slots=1, launcher=FakeLauncher(two_files))
    seat = taken(later.capacity, "other")

    first = later.step()
    seat.leave()
    ended = later.job()

    assert NoJob("no slot is free") == first
    assert job_id == ended.job_id


def test_fewer_slots_are_reached_by_jobs_that_end(clock: VirtualClock) -> None:
    """Those that run are not disturbed."""
    capacity = Capacity(3, HEAVY, clock)
    seats = [taken(capacity, "inference") for _ in range(3)]

    capacity.resize(1, {})

    assert (1, -2, None) == (capacity.slots, capacity.free, capacity.take("inference"))
    for seat in seats[:2]:
        seat.leave()
    assert None is capacity.take("inference")
    seats[2].leave()
    assert 1 == capacity.free
    taken(capacity, "prompt_tuning").leave()  # whose weight is no more than all slots
    assert 1 == capacity.free


def test_more_slots_are_there_at_once(clock: VirtualClock) -> None:
    capacity = Capacity(1, HEAVY, clock)
    seat = taken(capacity, "inference")

    capacity.resize(4, HEAVY)

    taken(capacity, "prompt_tuning").leave()
    seat.leave()
    assert 4 == capacity.free
