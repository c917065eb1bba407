"""The outbox over days: outages, restarts, what is refused, and what is too old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_parts import JOB_ID, a_claim
from daemon_parts import Daemon, down
from overmind_agent.delivery import CAP_S
from overmind_agent.jobs import NoJob
from overmind_agent.journal.journal import KEEP_ENDED, WAITING_BYTES, SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.testing import FakeServer, VirtualClock, conflict

DAY_S = 24 * 3600.0
JOBS = 20
V, R, DONE, FAILED = Status.VALIDATING, Status.RUNNING, Status.COMPLETED, Status.FAILED


def test_after_a_day_without_a_control_plane_every_outcome_arrives_in_order(tmp_path: Path) -> None:
    """Twenty finished jobs, three restarts, and a server that is there again after a day."""
    clock = VirtualClock()
    server = FakeServer(clock, lease_s=None)
    daemon = Daemon(tmp_path, server, clock)
    jobs = [server.submit() for _ in range(JOBS)]
    for number in range(JOBS):
        claim = daemon.claimed(f"key-{number}").claim
        for status in (V, R, FAILED):
            daemon.journal.post(claim, status)
    ends_at_s = clock.now_s() + DAY_S
    waits: list[float] = []

    for part in range(1, 5):
        daemon = daemon.again() if part > 1 else daemon
        while clock.now_s() < ends_at_s - DAY_S + part * DAY_S / 4:
            server.script("report", down("report"))
            waits.append(daemon.delivery.deliver())
            clock.sleep(waits[-1])
    daemon.delivery.deliver()
    daemon.close()

    expected = [Status.PENDING, Status.CLAIMED, V, R, FAILED]
    assert [expected] * JOBS == [server.jobs[job_id].history for job_id in jobs]
    assert 1.0 <= min(waits)
    assert CAP_S * 0.9 < max(waits) <= CAP_S
    assert len(waits) < DAY_S / 20


@pytest.fixture
def book(tmp_path: Path) -> SqliteJournal:
    made = SqliteJournal(tmp_path / "journal.sqlite")
    claim = a_claim()
    made.intend(claim.job, "key")
    made.hold(claim)
    made.post(claim, V)
    made.post(claim, R)
    made.post(claim, FAILED, message="no", detail={"reason": "timeout"})
    return made


@pytest.mark.parametrize("status", [404, 409, 410])
def test_what_is_refused_is_parked_with_all_that_follows(daemon: Daemon, server: FakeServer, status: int) -> None:
    server.submit()
    daemon.run(daemon.claimed())
    refusal = conflict("report", "superseded")
    refusal.http_status = status
    server.script("report", refusal)

    daemon.delivery.deliver()

    parked = daemon.journal.parked()
    assert [V, R, Status.UPLOADING, DONE] == [each.update.status for each in parked]
    assert {"report: 409: superseded"} == {each.why for each in parked}
    assert [] == list(daemon.journal.undelivered())


def test_what_is_parked_is_sent_when_somebody_says_so(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    daemon.run(daemon.claimed())
    server.script("report", conflict("report", "superseded"))
    daemon.delivery.deliver()

    is_found = daemon.journal.retry(daemon.journal.parked()[0].position)
    daemon.delivery.deliver()

    assert is_found
    assert DONE is server.jobs[job_id].status
    assert [] == list(daemon.journal.parked())


def test_nothing_is_parked_under_a_number_that_nobody_gave(book: SqliteJournal) -> None:
    assert not book.retry(1)
    assert not book.retry(4711)


def test_what_waited_for_a_week_is_parked(book: SqliteJournal) -> None:
    now = datetime.now(UTC)

    book.prune(now + timedelta(days=7) - timedelta(minutes=1))
    before = len(book.undelivered()), len(book.parked())
    book.prune(now + timedelta(days=7, minutes=1))

    assert (3, 0) == before
    assert ([], ["waited too long"] * 3) == (list(book.undelivered()), [each.why for each in book.parked()])


def test_what_ended_long_ago_is_forgotten(book: SqliteJournal) -> None:
    later = datetime.now(UTC) + KEEP_ENDED + timedelta(minutes=1)
    book.prune(later)

    book.prune(later)

    assert [] == list(book.parked())
    assert not book.is_needed(JOB_ID)
    assert [] == list(book.statuses(a_claim()))


def test_a_job_that_is_held_is_never_forgotten(tmp_path: Path) -> None:
    book = SqliteJournal(tmp_path / "journal.sqlite")
    book.intend(a_claim().job, "key")
    book.hold(a_claim())

    book.prune(datetime.now(UTC) + 10 * KEEP_ENDED)

    assert [a_claim()] == list(book.held())


def test_the_outbox_takes_no_more_room_than_it_may(tmp_path: Path) -> None:
    """The newest words are kept: they are what still matters. Here of 5,000 bytes, else of 256 MiB."""
    assert 256 << 20 == WAITING_BYTES
    book = SqliteJournal(tmp_path / "journal.sqlite")
    jobs = 10
    outcome = {"outcome": "x" * 1000}
    for number in range(jobs):
        claim = a_claim(f"5d1b1f3a-0000-4000-8000-{number:012}")
        book.intend(claim.job, f"key-{number}")
        book.hold(claim)
        book.post(claim, FAILED, detail=outcome)

    book.prune(waiting_bytes=5000)

    assert jobs - 4 == len(book.parked())
    assert [f"{number:012}" for number in range(jobs - 4, jobs)] == [
        posted.update.job_id[-12:] for posted in book.undelivered()
    ]


def test_an_agent_that_was_forgotten_while_it_works_makes_itself_known_and_keeps_its_job(
    daemon: Daemon, server: FakeServer
) -> None:
    server.submit()
    held = daemon.claimed()
    with daemon.held_jobs.holding(held):
        server.forget_agents()

        wait_s = daemon.heartbeat.beat()

    assert wait_s <= 10
    assert None is held.stop_reason
    assert daemon.journal.agent_id() in server.agents
    assert not isinstance(daemon.plane.next_job(wait_s=0), type(None))
    assert isinstance(daemon.plane.next_job(wait_s=0), NoJob)
