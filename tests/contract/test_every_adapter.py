"""
What holds of every control plane, whatever its server lacks: with extensions or without, and over bare records.

A server of records shows one word where the others show four statuses, so a job's place is read as that word.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent_parts import a_result_file
from overmind_agent.errors import ClaimLost, InvalidInput
from overmind_agent.jobs import Claim, Directive, Held, Job, NoJob, Progress, StatusUpdate
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.ports import ControlPlane

if TYPE_CHECKING:
    from conftest import Scene

V, R, U = Status.VALIDATING, Status.RUNNING, Status.UPLOADING
DONE, FAILED, CANCELED, PENDING = Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.PENDING
WAY = (V, R, U, DONE)


@pytest.fixture
def agent(any_scene: Scene) -> ControlPlane:
    return any_scene.plane()


@pytest.fixture
def other(any_scene: Scene) -> ControlPlane:
    return any_scene.plane()


def word(scene: Scene, job_id: str) -> str:
    return LIFECYCLE[scene.history(job_id)[-1]].rest_name


def offered(plane: ControlPlane) -> Job:
    job = plane.next_job(wait_s=0)
    assert isinstance(job, Job)
    return job


def claimed(plane: ControlPlane) -> Claim:
    return plane.claim(offered(plane), key=str(uuid.uuid4()))


def say(plane: ControlPlane, claim: Claim, *statuses: Status, after: int = 0, **more: Any) -> None:
    for sequence, status in enumerate(statuses, start=after + 1):
        plane.report(StatusUpdate(claim.job.id, claim.attempt, sequence, status, **more))


def directive(plane: ControlPlane, claim: Claim, progress: Progress | None = None) -> Directive:
    line = Held(claim.job.id, claim.attempt, progress)
    return plane.heartbeat([line], draining=False, wait_s=0).directives[claim.job.id]


def test_a_known_agent_keeps_its_id(any_scene: Scene) -> None:
    agent_id = any_scene.register_as(None)

    assert agent_id == any_scene.register_as(agent_id)
    assert agent_id != any_scene.register_as(None)


def test_without_a_job_there_is_none(agent: ControlPlane) -> None:
    assert isinstance(agent.next_job(wait_s=0), NoJob)


def test_the_oldest_job_is_offered_and_not_claimed(any_scene: Scene, agent: ControlPlane) -> None:
    first, second = any_scene.submit(), any_scene.submit()

    job = offered(agent)

    assert (first, "inference", PENDING, None) == (job.id, job.job_type, job.status, job.holder)
    assert ["pending", "pending"] == [word(any_scene, first), word(any_scene, second)]


def test_a_claim_is_the_first_attempt(any_scene: Scene, agent: ControlPlane) -> None:
    job_id = any_scene.submit()

    claim = claimed(agent)

    assert (job_id, 1, Status.CLAIMED) == (claim.job.id, claim.attempt, claim.job.status)
    assert "running" == word(any_scene, job_id)


def test_the_same_key_gives_the_same_claim(any_scene: Scene, agent: ControlPlane) -> None:
    any_scene.submit()
    job = offered(agent)

    assert agent.claim(job, key="key-1") == agent.claim(job, key="key-1")


def test_a_job_is_claimed_by_one_agent(any_scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    any_scene.submit()
    job = offered(agent)
    claim = agent.claim(job, key="key-1")

    with pytest.raises(ClaimLost):
        other.claim(job, key="key-1")

    assert Directive.CONTINUE is directive(agent, claim)
    assert isinstance(other.next_job(wait_s=0), NoJob)


@pytest.mark.parametrize("end", [CANCELED, DONE, FAILED])
def test_a_job_that_ended_cannot_be_claimed(
    any_scene: Scene, agent: ControlPlane, other: ControlPlane, end: Status
) -> None:
    job_id = any_scene.submit()
    job = offered(agent)
    if end is CANCELED:
        any_scene.cancel(job_id)
    else:
        say(agent, agent.claim(job, key="key-1"), *(WAY if end is DONE else (end,)))

    with pytest.raises(ClaimLost):
        other.claim(job, key="key-2")

    assert LIFECYCLE[end].rest_name == word(any_scene, job_id)


def test_a_job_that_nobody_knows_cannot_be_claimed(any_scene: Scene, agent: ControlPlane) -> None:
    any_scene.submit()

    with pytest.raises(ClaimLost):
        agent.claim(replace(offered(agent), id=str(uuid.uuid4())), key="key-1")


def test_a_job_goes_its_way(any_scene: Scene, agent: ControlPlane) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)
    words = []

    for after, status in enumerate(WAY):
        say(agent, claim, status, after=after)
        words.append(word(any_scene, job_id))

    assert ["running", "running", "running", "completed"] == words


@pytest.mark.parametrize("length", range(1, 5))
def test_saying_the_last_word_again_changes_nothing(any_scene: Scene, agent: ControlPlane, length: int) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)
    say(agent, claim, *WAY[:length])
    before = any_scene.history(job_id)

    say(agent, claim, WAY[length - 1], after=length - 1)

    assert before == any_scene.history(job_id)


@pytest.mark.parametrize("status", [FAILED, CANCELED])
@pytest.mark.parametrize("after", range(4))
def test_a_job_may_end_at_any_time(any_scene: Scene, agent: ControlPlane, after: int, status: Status) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)

    say(agent, claim, *WAY[:after], status)

    assert status is any_scene.history(job_id)[-1]


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELED])
def test_nothing_is_said_after_the_end(any_scene: Scene, agent: ControlPlane, end: Status) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)
    steps = WAY if end is DONE else (V, end)
    say(agent, claim, *steps)

    with pytest.raises(ClaimLost):
        say(agent, claim, FAILED if end is not FAILED else DONE, after=len(steps))

    assert end is any_scene.history(job_id)[-1]


def test_only_the_holder_is_listened_to(any_scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)
    before = any_scene.history(job_id)

    with pytest.raises(ClaimLost):
        say(other, claim, FAILED)

    assert before == any_scene.history(job_id)


def test_a_word_about_a_job_that_nobody_knows_is_refused(any_scene: Scene, agent: ControlPlane) -> None:
    any_scene.submit()
    claim = claimed(agent)

    with pytest.raises(ClaimLost):
        say(agent, replace(claim, job=replace(claim.job, id=str(uuid.uuid4()))), V)


def test_a_cancel_reaches_the_holder_who_may_confirm_it(any_scene: Scene, agent: ControlPlane) -> None:
    job_id = any_scene.submit()
    claim = claimed(agent)
    say(agent, claim, V)
    before = directive(agent, claim)

    any_scene.cancel(job_id)
    after = directive(agent, claim)
    with pytest.raises(ClaimLost):
        say(agent, claim, R, after=1)
    say(agent, claim, CANCELED, after=1)

    assert (Directive.CONTINUE, Directive.CANCEL) == (before, after)
    assert CANCELED is any_scene.history(job_id)[-1]


@pytest.mark.parametrize("end", [DONE, FAILED, PENDING])
def test_what_is_not_held_any_more_is_superseded(any_scene: Scene, agent: ControlPlane, end: Status) -> None:
    any_scene.submit()
    claim = claimed(agent)
    say(agent, claim, *(WAY if end is DONE else (V, end)))

    assert Directive.SUPERSEDED is directive(agent, claim)


def test_what_somebody_else_holds_is_superseded(any_scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    any_scene.submit()
    claim = claimed(agent)
    unknown = replace(claim, job=replace(claim.job, id=str(uuid.uuid4())))

    found = [directive(other, claim), directive(agent, unknown), directive(agent, claim)]

    assert [Directive.SUPERSEDED, Directive.SUPERSEDED, Directive.CONTINUE] == found


def test_a_job_that_is_given_back_does_not_stay_running(any_scene: Scene, agent: ControlPlane) -> None:
    """Where a server cannot take it back, it is failed."""
    job_id = any_scene.submit()
    claim = claimed(agent)

    say(agent, claim, V, PENDING)

    assert word(any_scene, job_id) in ("pending", "failed")


def test_progress_may_be_told(any_scene: Scene, agent: ControlPlane) -> None:
    any_scene.submit()
    claim = claimed(agent)

    assert Directive.CONTINUE is directive(agent, claim, Progress(1, 2, "rows"))


def test_a_heartbeat_about_nothing_is_answered(agent: ControlPlane) -> None:
    assert {} == agent.heartbeat([], draining=True, wait_s=0).directives


@pytest.mark.parametrize("parameters", [{}, {"prompt": "ü\U0001f600", "n": 1.5, "deep": {"list": [None, True]}}])
def test_parameters_come_as_they_were_given(any_scene: Scene, agent: ControlPlane, parameters: Any) -> None:
    any_scene.submit(parameters)

    assert parameters == agent.read_parameters(claimed(agent).job)


def test_parameters_that_are_no_object_are_refused(any_scene: Scene, agent: ControlPlane) -> None:
    any_scene.submit([1, 2])

    with pytest.raises(InvalidInput):
        agent.read_parameters(claimed(agent).job)


def test_the_same_file_twice_is_one(any_scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    any_scene.submit()
    claim = claimed(agent)
    file, second = a_result_file(tmp_path / "out"), a_result_file(tmp_path / "out", "second.txt", b"")
    say(agent, claim, *WAY[:3])

    ids = [agent.upload(claim, file), agent.upload(claim, file), agent.upload(claim, second)]
    say(agent, claim, DONE, after=3)

    assert ids[0] == ids[1] != ids[2]
    assert isinstance(agent.next_job(wait_s=0), NoJob)


def test_a_log_is_taken_or_left(any_scene: Scene, agent: ControlPlane) -> None:
    """Never short of what was sent from the right place, or it would be sent for ever."""
    any_scene.submit()
    claim = claimed(agent)

    ends = [
        agent.append_log(claim, offset=0, data=b""),
        agent.append_log(claim, offset=0, data=b"one\n"),
        agent.append_log(claim, offset=4, data=b"two\n"),
    ]

    assert ends in ([0, 4, 8], [None, None, None])


def test_a_job_that_cannot_be_read_is_refused_for_good(any_scene: Scene, agent: ControlPlane) -> None:
    job_id = any_scene.submit()

    agent.refuse(job_id, key="key-1", reason="invalid_job", message="there is no function in it")

    assert FAILED is any_scene.history(job_id)[-1]
