"""The delivery: everything in order, once, for as long as it takes."""

from __future__ import annotations

import threading

import pytest

from daemon_parts import Daemon, down, unauthorized
from overmind_agent.errors import ClaimLost, ProtocolError, RejectedError, TransientError
from overmind_agent.held_jobs import HeldJob
from overmind_agent.jobs import Claim, NoJob, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.testing import AFTER, FakeServer, conflict

WAY = (Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED)


def finished(daemon: Daemon, server: FakeServer) -> Claim:
    """A job of which everything is said and nothing is sent."""
    server.submit()
    claim = begun(daemon)
    for status in WAY:
        daemon.journal.post(claim, status)
    return claim


def begun(daemon: Daemon) -> Claim:
    """A claimed job."""
    job = daemon.plane.next_job(wait_s=0)
    assert not isinstance(job, NoJob)
    daemon.journal.intend(job, f"key-{job.id}")
    claim = daemon.plane.claim(job, key=f"key-{job.id}")
    daemon.journal.hold(claim)
    return claim


def history(server: FakeServer, claim: Claim) -> list[Status]:
    """What the control plane heard after the claim."""
    return server.jobs[claim.job.id].history[2:]


def test_everything_is_sent_in_order(daemon: Daemon, server: FakeServer) -> None:
    claim = finished(daemon, server)

    wait_s = daemon.delivery.deliver()

    assert 0.0 == wait_s
    assert list(WAY) == history(server, claim)
    assert [] == list(daemon.journal.undelivered())


@pytest.mark.parametrize(
    "error", [down("report"), ProtocolError("not usable JSON"), AFTER], ids=["down", "?", "lost"]
)
@pytest.mark.parametrize("good", range(4))
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_after_an_outage_it_goes_on_where_it_was_and_says_nothing_twice(
    daemon: Daemon, server: FakeServer, error: Exception, good: int, *, together: bool
) -> None:
    claim = finished(daemon, server)
    server.hears_several = together
    server.script("report", *[lambda: None] * good, error)

    first = daemon.delivery.deliver()
    second = daemon.delivery.deliver()

    assert 0.5 <= first <= 30
    assert 0.0 == second
    assert list(WAY) == history(server, claim)


def test_a_long_outage_is_waited_out(daemon: Daemon, server: FakeServer) -> None:
    claim = finished(daemon, server)
    server.script("report", *[down("report")] * 50)

    waits = [daemon.delivery.deliver() for _ in range(50)]

    assert all(1 <= wait <= 60 for wait in waits)
    assert 0.0 == daemon.delivery.deliver()
    assert list(WAY) == history(server, claim)


def test_a_wish_of_the_server_is_kept_to(daemon: Daemon, server: FakeServer) -> None:
    finished(daemon, server)
    server.script("report", TransientError("busy", verb="report", http_status=429, retry_after_s=60))

    assert 60 <= daemon.delivery.deliver() <= 66


@pytest.mark.parametrize(
    "error",
    [
        conflict("report", "superseded"),
        conflict("report", "illegal_transition"),
        conflict("report", "files_missing"),
        ClaimLost("report: 404", verb="report", http_status=404),
        ClaimLost("report: 422", verb="report", http_status=422),
        RejectedError("report: 413", verb="report", http_status=413),
    ],
    ids=str,
)
def test_a_refused_status_ends_the_job_and_nothing_more_of_it_is_sent(
    daemon: Daemon, server: FakeServer, error: Exception
) -> None:
    server.submit()
    claim = begun(daemon)
    for status in WAY[:2]:
        daemon.journal.post(claim, status)
    held = HeldJob(claim, daemon.clock, claimed_at_s=daemon.clock.now_s())
    server.script("report", error)

    with daemon.held_jobs.holding(held):
        wait_s = daemon.delivery.deliver()

    assert 0.0 == wait_s
    assert StopReason.LEASE_LOST is held.stop_reason
    assert [] == history(server, claim)
    assert [] == list(daemon.journal.undelivered())


def test_a_refusal_of_an_old_attempt_does_not_stop_the_present_one(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    old = begun(daemon)
    daemon.journal.post(old, Status.VALIDATING)
    server.expire(old.job.id)
    present = HeldJob(Claim(old.job, 2, None), daemon.clock, claimed_at_s=daemon.clock.now_s())

    with daemon.held_jobs.holding(present):
        daemon.delivery.deliver()

    assert present.stop_reason is None
    assert [] == list(daemon.journal.undelivered())


def test_a_job_that_is_refused_does_not_hold_up_the_others(daemon: Daemon, server: FakeServer) -> None:
    first, second = finished(daemon, server), finished(daemon, server)
    server.script("report", conflict("report", "superseded"))

    daemon.delivery.deliver()

    assert [] == history(server, first)
    assert list(WAY) == history(server, second)


def test_a_job_for_which_the_server_breaks_does_not_hold_up_the_others(daemon: Daemon, server: FakeServer) -> None:
    """A bug over there in one job's record must not keep every other result of this host from arriving."""
    first, second = finished(daemon, server), finished(daemon, server)

    def break_for_the_first() -> None:
        raise TransientError("report: 500", verb="report", http_status=500)

    server.script("report", break_for_the_first, break_for_the_first)  # together with the others, and alone

    wait_s = daemon.delivery.deliver()

    assert 0.5 <= wait_s <= 30
    assert [] == history(server, first)
    assert list(WAY) == history(server, second)


def test_what_waits_is_said_together_and_what_is_refused_costs_the_others_nothing(
    daemon: Daemon, server: FakeServer
) -> None:
    first, second = finished(daemon, server), finished(daemon, server)
    server.script("report_together", lambda: None)
    server.script("report", conflict("report", "superseded"))

    daemon.delivery.deliver()

    assert 1 == server.calls.count("report_together")
    assert [] == history(server, first)
    assert list(WAY) == history(server, second)


@pytest.mark.parametrize("hears_several", [True, False])
def test_a_server_that_hears_one_word_at_a_time_hears_them_in_order(
    daemon: Daemon, server: FakeServer, hears_several: bool
) -> None:
    server.hears_several = hears_several
    first, second = finished(daemon, server), finished(daemon, server)

    daemon.delivery.deliver()

    assert list(WAY) == history(server, first)
    assert list(WAY) == history(server, second)


def test_a_server_out_of_reach_is_asked_once_and_not_for_every_job(daemon: Daemon, server: FakeServer) -> None:
    for _ in range(3):
        finished(daemon, server)
    server.script("report", *[down("report")] * 3)
    before = server.calls.count("report")

    daemon.delivery.deliver()

    assert 1 == server.calls.count("report") - before


def test_a_refused_token_is_told_and_nothing_is_lost(daemon: Daemon, server: FakeServer) -> None:
    claim = finished(daemon, server)
    error = unauthorized("report")
    server.script("report", error)

    wait_s = daemon.delivery.deliver()
    daemon.delivery.deliver()

    assert 10.0 == wait_s
    assert [error] == daemon.fatal
    assert list(WAY) == history(server, claim)


def test_what_an_earlier_start_left_is_sent_by_the_next(daemon: Daemon, server: FakeServer) -> None:
    claim = finished(daemon, server)

    after = daemon.again()
    after.delivery.deliver()
    after.close()

    assert list(WAY) == history(server, claim)


def test_the_thread_sends_what_is_posted_and_ends_when_it_should(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    claim = begun(daemon)
    closing = threading.Event()
    thread = threading.Thread(target=daemon.delivery.run, args=[closing])
    thread.start()

    daemon.journal.post(claim, Status.VALIDATING)
    is_sent = daemon.journal.wait_until_empty(10)
    closing.set()
    thread.join(10)

    assert is_sent
    assert not thread.is_alive()
    assert [Status.VALIDATING] == history(server, claim)
