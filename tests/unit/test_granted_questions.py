"""The worker, where the control plane grants what it would offer: one exchange, under a key that is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon_parts import Daemon, down
from overmind_agent.errors import BrokenJob, ClaimLost, ProtocolError, TransientError
from overmind_agent.interrupted import UNREADABLE_TRIES
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.lifecycle import Status
from overmind_agent.testing import AFTER, FakeServer

Start = Callable[..., Daemon]

PENDING, CLAIMED, COMPLETED, FAILED = Status.PENDING, Status.CLAIMED, Status.COMPLETED, Status.FAILED


@pytest.fixture(autouse=True)
def grants(server: FakeServer) -> None:
    server.grants = True


def test_a_step_takes_a_job_with_one_question(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()

    ended = daemon.job()

    assert (job_id, 1, COMPLETED) == (ended.job_id, ended.attempt, ended.status)
    assert "next_claim" == server.calls[0]
    assert {"next_job", "claim"}.isdisjoint(server.calls)


def test_the_key_is_on_disk_before_the_question_is_sent(daemon: Daemon, server: FakeServer) -> None:
    found: list[str | None] = []
    server.script("next_claim", lambda: found.append(daemon.journal.recall("claim_key")))

    daemon.step()

    assert [daemon.journal.claim_key()] == found


def test_a_question_that_brought_nothing_is_asked_again_under_its_key(daemon: Daemon) -> None:
    daemon.step()
    key = daemon.journal.claim_key()

    daemon.step()

    assert key == daemon.journal.claim_key()


def test_each_job_has_a_key_of_its_own(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    key = daemon.journal.claim_key()

    daemon.job()

    assert key != daemon.journal.claim_key()


def test_a_grant_whose_answer_was_lost_comes_with_the_next_question(daemon: Daemon, server: FakeServer) -> None:
    job_id, another = server.submit(), server.submit()
    server.script("next_claim", AFTER)
    with pytest.raises(TransientError):
        daemon.step()

    ended = daemon.job()

    assert (job_id, 1) == (ended.job_id, ended.attempt)
    assert [PENDING] == server.jobs[another].history


def test_a_grant_whose_answer_was_lost_comes_after_a_restart(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_claim", AFTER)
    with pytest.raises(TransientError):
        daemon.step()

    again = daemon.again()
    ended = again.job()
    again.close()

    assert (job_id, 1) == (ended.job_id, ended.attempt)


def test_a_grant_that_ran_out_before_it_was_heard_of_is_let_go(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_claim", AFTER)
    with pytest.raises(TransientError):
        daemon.step()
    server.expire(job_id)

    ended = daemon.job()

    assert (job_id, 2) == (ended.job_id, ended.attempt)


LOST = ClaimLost("superseded", verb="next_claim", http_status=409)


@pytest.mark.parametrize("answer", [LOST, BrokenJob("no job", job_id="nobody")])
def test_a_server_that_grants_nothing_that_can_be_begun_is_not_asked_without_end(
    daemon: Daemon, server: FakeServer, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    monkeypatch.setattr(daemon.plane, "refuse", lambda *_, **__: None)
    server.script("next_claim", *[answer] * 100)

    step = daemon.step()

    assert NoJob("offered nothing that can be begun") == step
    assert 10 == server.calls.count("next_claim")


def test_a_key_that_is_answered_with_nonsense_is_given_up_and_others_are_served(
    daemon: Daemon, server: FakeServer
) -> None:
    """What it brought, if anything, runs out with its lease; the worker would ask for it alone for ever."""
    job_id = server.submit()
    server.script("next_claim", *[ProtocolError("not a Job: a list")] * UNREADABLE_TRIES)
    key = daemon.journal.claim_key()
    for _ in range(UNREADABLE_TRIES):
        assert key == daemon.journal.claim_key()
        with pytest.raises(ProtocolError):
            daemon.step()

    ended = daemon.job()

    assert (job_id, COMPLETED) == (ended.job_id, ended.status)
    assert key != daemon.journal.claim_key()


def test_a_job_that_cannot_be_read_and_is_not_taken_back_is_given_up_as_well(
    daemon: Daemon, server: FakeServer
) -> None:
    server.script("next_claim", *[BrokenJob("no job", job_id="nobody")] * UNREADABLE_TRIES)
    key = daemon.journal.claim_key()
    for _ in range(UNREADABLE_TRIES):
        with pytest.raises(ProtocolError):
            daemon.step()

    assert key != daemon.journal.claim_key()


def given_back(daemon: Daemon, server: FakeServer, job_id: str) -> list[str | None]:
    """Deliver; the history is as of a job that was given back. Its reason."""
    daemon.delivery.deliver()
    assert [PENDING, CLAIMED, PENDING] == server.jobs[job_id].history
    assert [] == daemon.journal.held()
    return [update.detail.get("reason") for update in server.jobs[job_id].updates]


def test_a_job_that_is_granted_when_none_may_be_taken_any_more_is_given_back(
    start: Start, server: FakeServer
) -> None:
    job_id = server.submit()
    full: list[str] = []
    daemon = start(refusal=lambda: full[0] if full else None)
    server.script("next_claim", lambda: full.append("12 bytes are free"))

    step = daemon.step()

    assert NoJob("not accepting: disk: 12 bytes are free") == step
    assert ["not_accepting"] == given_back(daemon, server, job_id)


def test_a_job_of_a_type_that_is_not_run_any_more_is_given_back(start: Start, server: FakeServer) -> None:
    job_id = server.submit("tea_making")
    daemon = start(job_types=["tea_making"])
    server.script("next_claim", lambda: setattr(daemon, "job_types", ["inference"]))

    step = daemon.step()

    assert NoJob("offered a job of type 'tea_making', which this host does not run") == step
    assert ["not_accepting"] == given_back(daemon, server, job_id)


def test_a_job_for_which_no_slot_is_free_any_more_is_given_back(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_claim", lambda: daemon.capacity.take("inference"))

    step = daemon.step()

    assert NoJob("offered a job of type 'inference', for which no slot is free") == step
    assert ["not_accepting"] == given_back(daemon, server, job_id)


def test_a_job_that_is_granted_while_the_drain_begins_is_given_back(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_claim", daemon.draining.set)

    step = daemon.step()

    assert NoJob("draining") == step
    assert ["agent_stopping"] == given_back(daemon, server, job_id)


def test_what_a_question_brought_that_a_drain_cut_short_is_given_back(daemon: Daemon, server: FakeServer) -> None:
    """Nobody would ask again before the lease runs out."""
    job_id, another = server.submit(), server.submit()
    server.script("next_claim", AFTER)
    grant = server.grant_next

    def draining(*asked: object) -> object:
        daemon.draining.set()
        return grant(*asked)  # type: ignore[arg-type]

    server.grant_next = draining  # type: ignore[method-assign, assignment]
    with pytest.raises(TransientError):
        daemon.step()

    assert ["agent_stopping"] == given_back(daemon, server, job_id)
    assert [PENDING] == server.jobs[another].history


def test_a_job_that_cannot_be_read_is_failed_under_its_key_and_the_next_one_runs(
    daemon: Daemon, server: FakeServer
) -> None:
    broken_id, good_id = server.submit(), server.submit()

    def unreadable() -> None:
        server.grant_next(daemon.plane.agent_id or "", daemon.journal.claim_key())
        raise BrokenJob("not a Job: file: field required", job_id=broken_id)

    server.script("next_claim", unreadable)

    ended = daemon.job()

    assert good_id == ended.job_id
    assert [PENDING, CLAIMED, FAILED] == server.jobs[broken_id].history


def test_when_it_cannot_ask_nothing_is_lost(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_claim", down("next_claim"))
    with pytest.raises(TransientError):
        daemon.step()

    ended = daemon.step()

    assert isinstance(ended, Ended)
    assert (job_id, 1) == (ended.job_id, ended.attempt)


def test_a_lease_counts_from_the_question_and_not_from_its_answer(daemon: Daemon, server: FakeServer) -> None:
    """Nobody knows when in between the server granted it, unless it says so."""
    server.submit()
    server.script("next_claim", lambda: daemon.clock.sleep(50))
    left: list[float | None] = []
    daemon.job_run = lambda held: left.append(held.lease_left_s) or Ended("", "", 1, None)  # type: ignore[assignment, func-returns-value, return-value]
    daemon.another_worker().step(wait_s=20)

    assert [0.0] == left
