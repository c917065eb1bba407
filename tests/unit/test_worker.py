"""The worker: ask, claim, run; and what an interruption left comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from daemon_parts import Daemon, FakeLauncher, down, unauthorized
from overmind_agent.errors import (
    AuthError,
    BrokenJob,
    ClaimLost,
    JobError,
    JournalError,
    ProtocolError,
    RejectedError,
    Stopped,
    TransientError,
)
from overmind_agent.held_jobs import HeldJob
from overmind_agent.interrupted import InterruptedWork
from overmind_agent.jobs import Claim, Ended, NoJob, Result, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Workspace
from overmind_agent.testing import AFTER, FakeControlPlane, FakeServer, VirtualClock, conflict

Start = Callable[..., Daemon]


def losing(times: int) -> Callable[[Workspace], Result]:
    """Work that loses its lease *times* times, then fails so that the test is over."""
    rest = [Stopped(StopReason.LEASE_LOST)] * times

    def work(_workspace: Workspace) -> Result:
        if rest:
            raise rest.pop()
        raise JobError("over", reason="over")

    return work


def test_a_job_over_which_the_agent_breaks_is_tried_three_times_and_given_up(
    daemon: Daemon, server: FakeServer
) -> None:
    """Its lease runs out then, and the control plane counts the attempt; the slot is free all the while."""
    job_id = server.submit()

    def broken(_held: HeldJob) -> Ended:
        raise ZeroDivisionError("a bug")

    daemon.job_run = broken  # type: ignore[assignment]
    worker = daemon.another_worker()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            worker.step(wait_s=0)

    assert () == daemon.held_jobs.all()
    assert [] == daemon.journal.held()
    assert ["next_job", "claim", "heartbeat", "heartbeat"] == server.calls
    assert isinstance(worker.step(wait_s=0), NoJob)
    assert [Status.PENDING, Status.CLAIMED] == server.jobs[job_id].history


# ------------------------------------------------------------------------------------ a new job


def test_a_step_takes_a_job_from_the_question_to_its_end(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()

    ended = daemon.step()

    assert isinstance(ended, Ended)
    assert (job_id, "inference", 1, Status.COMPLETED) == (ended.job_id, ended.job_type, ended.attempt, ended.status)
    assert ["next_job", "claim", "input_file"] == server.calls[:3]
    assert () == daemon.held_jobs.all()


def test_without_a_job_there_is_none(daemon: Daemon, server: FakeServer) -> None:
    assert NoJob("no job") == daemon.step()
    assert ["next_job"] == server.calls


def test_the_wait_is_the_control_planes(daemon: Daemon, clock: VirtualClock) -> None:
    daemon.worker.step(wait_s=20)

    assert [20] == clock.slept


def test_a_job_of_a_type_that_this_host_does_not_run_is_left(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit("tea_making")

    step = daemon.step()

    assert NoJob("offered a job of type 'tea_making', which this host does not run") == step
    assert [Status.PENDING] == server.jobs[job_id].history
    assert ["next_job"] == server.calls


@pytest.mark.parametrize(("projects", "is_left"), [(None, False), (("ours", "yours"), False), (("yours",), True)])
def test_a_job_of_a_project_that_this_host_does_not_name_is_left(
    start: Start, server: FakeServer, projects: tuple[str, ...] | None, is_left: bool
) -> None:
    daemon = start(projects=projects)
    job_id = server.submit()
    server.alter(job_id, project="ours")

    with capture_logs() as lines:
        step = daemon.step()

    why = "it is of project 'ours', which policy.projects does not name"
    assert is_left == (step == NoJob(f"offered a job that may not run here: {why}"))
    assert is_left == (server.jobs[job_id].history == [Status.PENDING])
    assert [("wrong_project", why)] * is_left == [
        (line["reason"], line["message"]) for line in lines if line["event"] == "job.refused"
    ]


def test_a_job_of_no_project_is_of_none_that_is_named(start: Start, server: FakeServer) -> None:
    daemon = start(projects=("ours",))
    server.submit()

    assert isinstance(daemon.step(), NoJob)


def test_a_job_that_cannot_be_read_is_failed_and_the_next_one_runs(daemon: Daemon, server: FakeServer) -> None:
    """Nobody can run it, and it would be offered for ever."""
    broken_id, good_id = server.submit(), server.submit()
    server.script("next_job", BrokenJob("not a Job: file: field required", job_id=broken_id))

    ended = daemon.step()

    assert isinstance(ended, Ended)
    assert good_id == ended.job_id
    assert Status.FAILED is server.jobs[broken_id].history[-1]


def test_a_broken_job_that_the_server_keeps_is_no_hot_loop(daemon: Daemon, server: FakeServer) -> None:
    server.script("next_job", BrokenJob("not a Job", job_id="unknown"))

    with pytest.raises(ProtocolError, match="not taken back"):
        daemon.step()


def test_while_draining_nothing_is_asked_for(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    daemon.draining.set()

    assert NoJob("draining") == daemon.step()
    assert [] == server.calls


def test_a_job_that_is_offered_while_the_drain_begins_is_not_claimed(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("next_job", daemon.draining.set)

    assert NoJob("draining") == daemon.step()
    assert [Status.PENDING] == server.jobs[job_id].history


def test_without_room_on_the_disk_nothing_is_asked_for(start: Start, server: FakeServer) -> None:
    daemon = start(refusal=lambda: "1 bytes are free, fewer than 2")
    server.submit()

    assert NoJob("not accepting: disk: 1 bytes are free, fewer than 2") == daemon.step()
    assert [] == server.calls


def test_a_job_that_somebody_else_was_quicker_to_claim_is_theirs(daemon: Daemon, server: FakeServer) -> None:
    first, second = server.submit(), server.submit()
    other = FakeControlPlane(server)
    other.register(None)

    def claim_it() -> None:
        server.jobs[first].offered_to = None
        server.grant(other.agent_id or "", first, "other-key")

    server.script("claim", claim_it)

    ended = daemon.job()

    assert second == ended.job_id
    assert other.agent_id == server.jobs[first].holder
    assert [] == list(daemon.journal.intended())


def test_a_job_that_is_offered_and_then_refused_again_is_not_asked_for_for_ever(
    daemon: Daemon, server: FakeServer
) -> None:
    server.submit()
    server.script("claim", *[conflict("claim", "claim_taken")] * 5)

    assert NoJob("offered only a job that it then refuses") == daemon.step()
    assert ["next_job", "claim", "next_job"] == server.calls


@pytest.mark.parametrize("http_status", [400, 405, 413])
def test_a_claim_that_is_refused_for_good_does_not_keep_the_agent_from_other_jobs(
    daemon: Daemon, server: FakeServer, http_status: int
) -> None:
    server.submit()
    server.script("claim", RejectedError("claim: no", verb="claim", http_status=http_status))

    first, second = daemon.step(), daemon.step()

    assert NoJob("offered only a job that it then refuses") == first
    assert isinstance(second, Ended)
    assert 0 == len(daemon.interrupted)


def test_the_intention_is_on_disk_before_the_claim_is_sent(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    seen: list[str] = []
    server.script("claim", lambda: seen.extend(job.id for job, _ in daemon.journal.intended()))

    daemon.step()

    assert [job_id] == seen


@pytest.mark.parametrize("error", [down("next_job"), ProtocolError("not usable JSON"), unauthorized("next_job")])
def test_when_it_cannot_ask_the_worker_says_so(daemon: Daemon, server: FakeServer, error: Exception) -> None:
    server.script("next_job", error)

    with pytest.raises(type(error)):
        daemon.step()

    assert 0 == len(daemon.interrupted)


def test_idle_workers_ask_one_at_a_time(daemon: Daemon, server: FakeServer) -> None:
    """Their turn is a lock that a worker holds while it asks."""
    worker, turn = daemon.worker, daemon.worker._poll_turn
    seen: list[bool] = []
    server.script("next_job", lambda: seen.append(turn.locked()))

    worker.step(wait_s=0)

    assert [True] == seen
    assert not turn.locked()


# ------------------------------------------------------------------------------------ a lost answer


def test_a_claim_whose_answer_was_lost_is_asked_for_with_the_same_key(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("claim", AFTER, down("claim"))

    ended = daemon.job()

    assert (1, Status.COMPLETED) == (ended.attempt, ended.status)
    assert 3 == server.calls.count("claim")
    assert 1 == server.jobs[job_id].history.count(Status.CLAIMED)


def test_a_claim_whose_answer_never_comes_is_resolved_before_anything_else_is_asked(
    daemon: Daemon, server: FakeServer
) -> None:
    job_id = server.submit()
    server.script("claim", AFTER, AFTER, AFTER)
    with pytest.raises(TransientError):
        daemon.step()
    server.calls.clear()

    ended = daemon.job()

    assert (job_id, 1, Status.COMPLETED) == (ended.job_id, ended.attempt, ended.status)
    assert ["claim", "input_file"] == server.calls[:2]
    assert 1 == server.jobs[job_id].history.count(Status.CLAIMED)


def test_a_claim_that_stays_unresolved_is_kept_once(daemon: Daemon, server: FakeServer) -> None:
    """Twice, and two workers would run the same job."""
    server.submit()
    server.script("claim", *[AFTER] * 9)

    for _ in range(3):
        with pytest.raises(TransientError):
            daemon.step()
        assert 1 == len(daemon.interrupted)

    daemon.job()

    assert 0 == len(daemon.interrupted)


def test_a_claim_whose_answer_never_came_is_resolved_after_a_restart(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("claim", AFTER, AFTER, AFTER)
    with pytest.raises(TransientError):
        daemon.step()

    after = daemon.again()
    ended = after.job()
    after.close()

    assert (job_id, 1, Status.COMPLETED) == (ended.job_id, ended.attempt, ended.status)
    assert ["claim", "input_file"] == server.calls[:2]


def test_a_claim_that_was_never_granted_is_let_go(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("claim", down(), down(), down())
    with pytest.raises(TransientError):
        daemon.step()
    server.cancel(job_id)

    assert NoJob("no job") == daemon.step()
    assert [] == list(daemon.journal.intended())


# ------------------------------------------------------------------------------------ an interruption


def test_a_held_job_is_gone_on_with_when_the_control_plane_says_so(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    daemon.claimed()

    after = daemon.again()
    ended = after.job()
    after.close()

    assert (job_id, 1, Status.COMPLETED) == (ended.job_id, ended.attempt, ended.status)
    assert ["heartbeat", "input_file"] == server.calls[:2]


@pytest.mark.parametrize("lose", [FakeServer.cancel, FakeServer.expire], ids=["canceled", "expired"])
def test_a_held_job_that_is_not_ours_any_more_is_dropped(
    daemon: Daemon, server: FakeServer, lose: Callable[[FakeServer, str], None]
) -> None:
    job_id = server.submit()
    daemon.claimed()
    lose(server, job_id)
    server.jobs[job_id].offered_to, server.jobs[job_id].offered_until_s = "someone", 1e9

    after = daemon.again()
    step = after.step()
    left = list(after.journal.held())
    after.close()

    assert NoJob("no job") == step
    assert [] == left
    assert ["heartbeat", "next_job"] == server.calls


def test_while_it_cannot_ask_a_held_job_is_kept(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    daemon.claimed()
    after = daemon.again()
    server.script("heartbeat", down("heartbeat"), unauthorized("heartbeat"))

    with pytest.raises(TransientError):
        after.step()
    with pytest.raises(AuthError):
        after.step()
    ended = after.job()
    after.close()

    assert Status.COMPLETED is ended.status
    assert 0 == len(after.interrupted)


def test_an_old_claim_that_is_superseded_takes_nothing_from_the_new_one(daemon: Daemon, server: FakeServer) -> None:
    """It could not be asked about before the same job was claimed anew, run and finished."""
    job_id = server.submit()
    daemon.claimed()
    server.expire(job_id)
    after = daemon.again()
    server.script("heartbeat", ProtocolError("not usable JSON"))

    ended = after.job()
    after.step()
    after.delivery.deliver()
    after.close()

    assert (2, Status.COMPLETED) == (ended.attempt, ended.status)
    assert (2, Status.COMPLETED) == (server.jobs[job_id].attempt, server.jobs[job_id].status)


def test_two_workers_share_what_was_interrupted(daemon: Daemon, server: FakeServer) -> None:
    ids = [server.submit(), server.submit()]
    daemon.claimed()
    server.jobs[ids[0]].offered_to = None
    daemon.journal.intend(server.jobs[ids[1]].job, "second")
    daemon.journal.hold(daemon.plane.claim(server.jobs[ids[1]].job, key="second"))
    after = daemon.again()

    found = [after.worker.step(wait_s=0), after.another_worker().step(wait_s=0)]
    after.close()

    assert sorted(ids) == sorted(step.job_id for step in found if isinstance(step, Ended))


def test_a_lost_lease_is_asked_about_before_anything_else(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=FakeLauncher(losing(1)))
    job_id = server.submit()
    first = daemon.step()
    server.submit()
    server.calls.clear()

    second = daemon.step()

    assert isinstance(first, Ended)
    assert (None, "lease_lost") == (first.status, first.reason)
    assert isinstance(second, Ended)
    assert (job_id, 1, "over") == (second.job_id, second.attempt, second.reason)
    assert "heartbeat" == server.calls[0]
    assert "next_job" not in server.calls


def test_a_lost_lease_is_not_reported(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=FakeLauncher(losing(1)))
    job_id = server.submit()

    daemon.step()
    daemon.delivery.deliver()

    assert [Status.CLAIMED, Status.VALIDATING, Status.RUNNING] == server.jobs[job_id].history[1:]


def test_a_job_whose_status_was_refused_is_not_gone_on_with(start: Start, server: FakeServer) -> None:
    """
    Were it gone on with, its next status would have a number that the control plane does not expect, it would be
    refused as well, and so on for ever.
    """
    daemon = start()

    def refuse(workspace: Workspace) -> Result:
        server.script("report", ClaimLost("report: 422", verb="report", http_status=422))
        daemon.delivery.deliver()
        raise Stopped(daemon.held_jobs.all()[0].stop_reason or StopReason.TIMEOUT)

    daemon.launcher.work = refuse
    server.submit()

    ended = daemon.job()
    step = daemon.step()

    assert (None, "lease_lost") == (ended.status, ended.reason)
    assert NoJob("no job") == step
    assert [] == list(daemon.journal.held())


def test_an_error_about_the_agent_comes_out_and_the_job_stays_held(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("read_parameters", unauthorized("read_parameters"))

    with pytest.raises(AuthError):
        daemon.step()

    assert [job_id] == [claim.job.id for claim in daemon.journal.held()]
    assert () == daemon.held_jobs.all()


def test_without_a_journal_nothing_is_claimed(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    daemon.journal._db.execute("PRAGMA query_only = 1")

    with pytest.raises(JournalError):
        daemon.step()

    assert [Status.PENDING] == server.jobs[job_id].history


def test_of_many_workers_each_gets_a_job_of_its_own(start: Start, server: FakeServer) -> None:
    daemon = start(slots=4)
    ids = {server.submit() for _ in range(4)}
    start, found = threading.Barrier(4), []

    def take() -> None:
        worker = daemon.another_worker()
        start.wait(10)
        found.append(worker.step(wait_s=0))

    threads = [threading.Thread(target=take) for _ in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert ids == {step.job_id for step in found if isinstance(step, Ended)}
    assert {Status.COMPLETED} == {step.status for step in found if isinstance(step, Ended)}


def test_a_claim_answered_with_nonsense_holds_up_no_other_job(daemon: Daemon, server: FakeServer) -> None:
    """It may have been granted, so it is asked about again; but the job behind it runs, and that ends one day."""
    odd_id, good_id = server.submit(), server.submit()
    me = str(daemon.plane.agent_id)

    def nonsense() -> None:
        server.grant(me, odd_id, "a key")
        raise ProtocolError("the answer to a claim is about another job, or another agent")

    server.script("claim", *[nonsense] * 3, lambda: None, *[nonsense] * 6)

    first = daemon.step()
    later = [daemon.step() for _ in range(4)]

    assert isinstance(first, Ended)
    assert good_id == first.job_id
    assert all(isinstance(step, NoJob) for step in later)
    assert [] == list(daemon.journal.intended())


def test_jobs_that_ended_their_agent_together_go_on_one_by_one_and_nothing_beside_them(
    start: Start, server: FakeServer
) -> None:
    """The next end is that of the one that is at work then; it is on disk which one, before it begins."""
    daemon = start(slots=2)
    held = [daemon.claimed(f"key {server.submit()}").claim for _ in range(2)]
    new_id = server.submit()
    probed: list[str | None] = []
    daemon.interrupted = InterruptedWork(
        held,
        suspects={(claim.job.id, claim.attempt) for claim in held},
        on_probe=lambda claim: probed.append(claim.job.id if claim else None),
    )
    seen: list[tuple[str | None, object]] = []
    run = daemon.job_run
    other = daemon.another_worker()

    def beside(job: HeldJob) -> Ended:
        seen.append((probed[-1], other.step(wait_s=0)))
        return run(job)

    daemon.job_run = beside  # type: ignore[assignment]
    worker = daemon.another_worker()
    ended = [worker.step(wait_s=0) for _ in range(2)]
    last = other.step(wait_s=0)

    ids = [claim.job.id for claim in held]
    assert [*ids, new_id] == [step.job_id for step in (*ended, last) if isinstance(step, Ended)]
    waits = [NoJob("jobs that ended this agent together go on one by one"), NoJob("no slot is free")]
    assert list(zip(ids, waits, strict=True)) == seen
    assert [ids[0], None, ids[1], None] == probed


def test_a_suspect_that_the_disk_does_not_take_is_gone_on_with_later(start: Start, server: FakeServer) -> None:
    """Its lease is kept meanwhile, so that nobody else would ever run it."""
    daemon = start(slots=2)
    claim = daemon.claimed(f"key {server.submit()}").claim
    faults = [JournalError("disk full")]

    def note(found: Claim | None) -> None:
        if found is not None and faults:
            raise faults.pop()

    suspects = {(claim.job.id, claim.attempt)}
    daemon.interrupted = InterruptedWork([claim], suspects=suspects, on_probe=note)
    worker = daemon.another_worker()

    with pytest.raises(JournalError):
        worker.step(wait_s=0)
    was_suspect = daemon.interrupted.suspects_wait()
    ended = worker.step(wait_s=0)

    assert was_suspect
    assert isinstance(ended, Ended)
    assert claim.job.id == ended.job_id
