"""The heartbeat: leases stay alive, wishes are heard, errors are waited out."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon_parts import Daemon, down, unauthorized
from overmind_agent.errors import ProtocolError, RejectedError
from overmind_agent.heartbeat import LEAST_GAP_S
from overmind_agent.jobs import REPLACED, Held, Progress, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.testing import AFTER, Beat, FakeServer, VirtualClock

Lose = Callable[[FakeServer, str], None]
Start = Callable[..., Daemon]


def finish(server: FakeServer, job_id: str) -> None:
    """Another agent's word."""
    server.expire(job_id)


def forget(server: FakeServer, job_id: str) -> None:
    """As after a restore from an old backup."""
    del server.jobs[job_id]


def test_a_beat_renews_the_lease_of_every_job(daemon: Daemon, server: FakeServer, clock: VirtualClock) -> None:
    server.submit()
    server.submit()
    first, second = daemon.claimed(), None
    job = daemon.plane.next_job(wait_s=0)
    daemon.journal.intend(job, "key-2")  # type: ignore[arg-type]
    second = type(first)(daemon.plane.claim(job, key="key-2"), clock, claimed_at_s=clock.now_s())  # type: ignore[arg-type]

    with daemon.held_jobs.holding(first), daemon.held_jobs.holding(second):
        for _ in range(10):
            clock.advance(40)
            daemon.heartbeat.beat()

    assert (None, None) == (first.stop_reason, second.stop_reason)


def test_the_lease_of_a_finished_job_is_kept_until_that_is_known(
    daemon: Daemon, server: FakeServer, clock: VirtualClock
) -> None:
    """Reports fail for longer than a lease, and heartbeats do not: nobody else is given the job meanwhile."""
    job_id = server.submit()
    daemon.job()

    for _ in range(10):
        server.script("report", down())
        clock.advance(40)
        daemon.delivery.deliver()
        daemon.heartbeat.beat()
    daemon.delivery.deliver()

    assert (Status.COMPLETED, 1) == (server.jobs[job_id].status, server.jobs[job_id].attempt)
    assert () == daemon.held_jobs.leased()


def test_a_job_whose_last_word_is_known_is_named_no_more(daemon: Daemon, server: FakeServer) -> None:
    """Also when it was delivered before the worker let go of the job."""
    server.submit()
    held = daemon.claimed()

    def is_said() -> bool:
        return daemon.journal.last_fate(held.claim.job.id, 1) != "waiting"

    with daemon.held_jobs.holding(held, is_said=is_said):
        daemon.job_run(held)
        daemon.delivery.deliver()

    assert () == daemon.held_jobs.leased()


def test_a_beat_says_what_is_held_and_how_far_it_is(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    held.progress = Progress(3, 9, "rows")
    daemon.draining.set()

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()

    line = Held(held.claim.job.id, 1, Progress(3, 9, "rows"))
    assert [Beat((line,), draining=True, wait_s=10.0)] == server.beats


def test_a_step_of_a_search_is_told_again_until_a_beat_goes_well(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    held.add_iteration({"iteration_name": "i01c1", "order": 1})

    with daemon.held_jobs.holding(held):
        server.script("heartbeat", down(), AFTER)
        for _ in range(4):
            daemon.heartbeat.beat()

    told = [[step["order"] for line in beat.held for step in line.iterations] for beat in server.beats]
    assert [[1], [1], []] == told


def test_a_step_of_a_search_that_is_refused_is_not_told_again(daemon: Daemon, server: FakeServer) -> None:
    """Else every heartbeat after it would be refused, too, and the leases of all jobs run out."""
    server.submit()
    held = daemon.claimed()
    held.add_iteration({"iteration_name": "i01c1", "order": 1})

    with daemon.held_jobs.holding(held):
        server.script("heartbeat", RejectedError("heartbeat: 422", verb="heartbeat", http_status=422))
        for _ in range(2):
            daemon.heartbeat.beat()

    assert [()] == [line.iterations for beat in server.beats for line in beat.held]


def test_however_often_a_job_tells_of_its_progress_it_is_told_once_a_second_at_most(
    daemon: Daemon, server: FakeServer, clock: VirtualClock
) -> None:
    """Even by a server that wants something at each heartbeat; and what is told is the latest."""
    server.submit()
    held, other = daemon.claimed(), server.submit()
    closing, ends_at_s = threading.Event(), clock.now_s() + 60
    held_too = daemon.claimed("another key")
    server.cancel(other)
    turns = itertools.count()

    def work() -> None:
        turn = next(turns)
        if clock.now_s() >= ends_at_s:
            closing.set()
        for step in range(100):
            held.progress = Progress(100 * turn + step, 10_000, "rows")

    with daemon.held_jobs.holding(held), daemon.held_jobs.holding(held_too):
        server.script("heartbeat", *[work] * 1000)
        daemon.heartbeat.run(closing)

    assert 60 <= len(server.beats) <= 62
    told = [beat.held[0].progress for beat in server.beats]
    assert [None, *(Progress(100 * turn + 99, 10_000, "rows") for turn in range(len(told) - 1))] == told


@pytest.mark.parametrize(
    ("change", "stop"),
    [
        (FakeServer.cancel, StopReason.USER_REQUEST),
        (FakeServer.expire, StopReason.LEASE_LOST),
        (forget, StopReason.LEASE_LOST),
        (lambda _server, _job_id: None, None),
    ],
    ids=["canceled", "expired", "unknown", "continued"],
)
def test_what_the_control_plane_wants_reaches_the_work(
    daemon: Daemon, server: FakeServer, change: Lose, stop: StopReason | None
) -> None:
    job_id = server.submit()
    held = daemon.claimed()
    change(server, job_id)

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()

    assert stop is held.stop_reason


def test_an_order_for_a_job_that_has_ended_meanwhile_is_for_nobody(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    with daemon.held_jobs.holding(held):
        orders = daemon.plane.heartbeat(daemon.held_jobs.lines(), draining=False, wait_s=0)

    daemon.heartbeat._obey(orders, 0)

    assert held.stop_reason is None


def test_a_drain_is_obeyed(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    server.drain = True

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()

    assert ["the control plane asked for it"] == daemon.drains
    assert held.stop_reason is None


def test_an_agent_that_was_replaced_drains_and_says_why(daemon: Daemon, server: FakeServer) -> None:
    """Its job may end: the other one, on a copy of the state folder as it was before, may not know of it."""
    server.submit()
    held = daemon.claimed()
    server.is_replaced = True

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()

    assert [REPLACED] == daemon.drains
    assert held.stop_reason is None


@pytest.mark.parametrize(
    ("lease_s", "wait_s"), [(60.0, 10.0), (20.0, 5.0), (4.0, 1.0), (3600.0, 10.0), (None, 10.0)]
)
def test_several_beats_fit_into_a_lease(
    daemon: Daemon, server: FakeServer, lease_s: float | None, wait_s: float
) -> None:
    server.lease_s = lease_s
    server.submit()
    held = daemon.claimed()

    with daemon.held_jobs.holding(held):
        gap_s = daemon.heartbeat.beat()

    assert wait_s == server.beats[0].wait_s
    assert wait_s == gap_s


def test_a_job_that_was_claimed_during_a_beat_is_named_within_a_second(daemon: Daemon, server: FakeServer) -> None:
    """The server does not hold its answer then; a cancel is heard by who asks again."""
    server.submit()
    server.submit()
    first, second = daemon.claimed("first"), daemon.claimed("second")

    with daemon.held_jobs.holding(first), ExitStack() as meanwhile:
        server.script("heartbeat", lambda: meanwhile.enter_context(daemon.held_jobs.holding(second)))
        gap_s = daemon.heartbeat.beat()

    assert 1.0 == gap_s


@pytest.mark.parametrize(
    "error",
    [
        down("heartbeat"),
        ProtocolError("not usable JSON"),
        RejectedError("heartbeat: 400", verb="heartbeat", http_status=400),
    ],
    ids=["down", "unreadable", "rejected"],
)
def test_after_an_error_the_next_beat_comes_in_time(daemon: Daemon, server: FakeServer, error: Exception) -> None:
    """However long the outage: four tries fit into a lease."""
    server.submit()
    held = daemon.claimed()
    server.script("heartbeat", *[error] * 10)

    with daemon.held_jobs.holding(held):
        gaps = [daemon.heartbeat.beat() for _ in range(10)]

    assert all(0.5 <= gap <= 10.0 for gap in gaps)
    assert [] == daemon.fatal


def test_a_lost_answer_changes_nothing(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    server.script("heartbeat", AFTER)

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()
        daemon.heartbeat.beat()

    assert held.stop_reason is None


def test_a_refused_token_is_told(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    error = unauthorized("heartbeat")
    server.script("heartbeat", error)

    with daemon.held_jobs.holding(held):
        daemon.heartbeat.beat()

    assert [error] == daemon.fatal
    assert held.stop_reason is None


def test_the_thread_beats_while_a_job_is_held_and_ends_when_it_should(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    closing, beaten = threading.Event(), threading.Event()
    server.script("heartbeat", lambda: None, beaten.set)
    thread = threading.Thread(target=daemon.heartbeat.run, args=[closing])
    thread.start()

    with daemon.held_jobs.holding(held):
        has_beaten = beaten.wait(10)
        closing.set()
    thread.join(10)

    assert has_beaten
    assert not thread.is_alive()


def test_without_a_job_nothing_is_sent(daemon: Daemon, server: FakeServer) -> None:
    closing = threading.Event()
    thread = threading.Thread(target=daemon.heartbeat.run, args=[closing])
    thread.start()

    closing.set()
    thread.join(10)

    assert not thread.is_alive()
    assert [] == server.beats


def test_that_no_job_is_taken_is_told_once_for_each_gate_that_is_shut(start: Start, server: FakeServer) -> None:
    """Why it is shut changes with every byte of the disk, which is no news; an idle agent says it, too."""
    why = deque(["1 byte is free", "2 bytes are free", None, None])
    daemon = start(refusal=lambda: why[0])
    told = []

    for _ in range(len(why)):
        daemon.admission.refusal()
        if daemon.heartbeat.has_news():
            daemon.heartbeat.beat()
            told.append((server.beats[-1].not_accepting, server.beats[-1].wait_s))
        why.rotate(-1)

    assert [("disk: 1 byte is free", 0.0), (None, 0.0)] == told


def test_that_no_job_is_taken_is_told_again_when_nobody_heard_it(start: Start, server: FakeServer) -> None:
    daemon = start(refusal=lambda: "1 byte is free")
    daemon.admission.refusal()
    server.script("heartbeat", down())

    daemon.heartbeat.beat()
    is_news = daemon.heartbeat.has_news()
    daemon.heartbeat.beat()

    assert (True, False) == (is_news, daemon.heartbeat.has_news())
    assert ["disk: 1 byte is free"] == [beat.not_accepting for beat in server.beats]


class Meanwhile(VirtualClock):
    """Something happens at its first sleep; after a few more it is over."""

    def __init__(self, happens: Callable[[], object], closing: threading.Event) -> None:
        super().__init__(0.0)
        self._happens, self._closing = happens, closing

    def sleep(self, seconds: float) -> bool:
        """See Clock."""
        if not self.slept:
            self._happens()
        ended = super().sleep(seconds)
        if len(self.slept) >= 3:
            self._closing.set()
        return ended


def test_a_job_that_is_taken_after_a_beat_is_named_by_the_next_one_without_delay(
    tmp_path: Path, server: FakeServer
) -> None:
    """Its grant ended the beat before that, which came back before the worker had read it."""
    server.submit()
    server.submit()
    closing = threading.Event()
    with ExitStack() as held:
        clock = Meanwhile(lambda: held.enter_context(daemon.held_jobs.holding(daemon.claimed("two"))), closing)
        daemon = Daemon(tmp_path, server, clock)
        held.enter_context(daemon.held_jobs.holding(daemon.claimed("one")))
        held.callback(daemon.close)

        daemon.heartbeat.run(closing)

    assert [1, 2] == [len(beat.held) for beat in server.beats[:2]]
    assert [LEAST_GAP_S, LEAST_GAP_S, 10.0 - LEAST_GAP_S] == clock.slept[:3]
