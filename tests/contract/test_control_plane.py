"""What every control plane does, so that the daemon cannot tell them apart."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent_parts import a_result_file
from overmind_agent.errors import ClaimLost, InvalidInput, RejectedError
from overmind_agent.jobs import Claim, Directive, Enclosed, Held, Job, NoJob, Progress, ResultFile, StatusUpdate
from overmind_agent.lifecycle import Status
from overmind_agent.ports import ControlPlane

if TYPE_CHECKING:
    from conftest import Scene

C, V, R, U = Status.CLAIMED, Status.VALIDATING, Status.RUNNING, Status.UPLOADING
DONE, FAILED, CANCELED, PENDING = Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.PENDING
WAY = (V, R, U, DONE)


def offered(plane: ControlPlane) -> Job:
    job = plane.next_job(wait_s=0)
    assert isinstance(job, Job)
    return job


def claimed(plane: ControlPlane) -> Claim:
    return plane.claim(offered(plane), key=str(uuid.uuid4()))


def update(claim: Claim, sequence: int, status: Status, **more: Any) -> StatusUpdate:
    return StatusUpdate(claim.job.id, claim.attempt, sequence, status, **more)


def walk(plane: ControlPlane, claim: Claim, statuses: Sequence[Status]) -> None:
    for sequence, status in enumerate(statuses, start=1):
        plane.report(update(claim, sequence, status))


def directive(plane: ControlPlane, claim: Claim) -> Directive:
    line = Held(claim.job.id, claim.attempt)
    return plane.heartbeat([line], draining=False, wait_s=0).directives[claim.job.id]


def declared(*files: ResultFile) -> dict[str, Any]:
    return {"files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in files]}


# ------------------------------------------------------------------------------------ the agent


def test_a_new_agent_gets_an_id_of_its_own(scene: Scene) -> None:
    assert scene.register_as(None) != scene.register_as(None)


def test_a_known_agent_keeps_its_id(scene: Scene) -> None:
    agent_id = scene.register_as(None)

    assert agent_id == scene.register_as(agent_id)


def test_an_agent_that_was_forgotten_keeps_its_id(scene: Scene) -> None:
    forgotten = str(uuid.uuid4())

    assert forgotten == scene.register_as(forgotten)
    assert forgotten == scene.register_as(forgotten)


# ------------------------------------------------------------------------------------ getting a job


def test_without_a_job_there_is_none(agent: ControlPlane) -> None:
    assert isinstance(agent.next_job(wait_s=0), NoJob)


def test_the_oldest_job_is_offered_and_not_claimed(scene: Scene, agent: ControlPlane) -> None:
    first, second = scene.submit(), scene.submit()

    job = offered(agent)

    assert (first, "inference", PENDING, None) == (job.id, job.job_type, job.status, job.holder)
    assert [PENDING] == scene.history(first) == scene.history(second)


def test_an_offered_job_is_not_offered_to_another_agent(
    scene: Scene, agent: ControlPlane, other: ControlPlane
) -> None:
    first, second = scene.submit(), scene.submit()

    assert (first, second) == (offered(agent).id, offered(other).id)
    assert first == offered(agent).id


def test_a_claim_is_the_first_attempt_and_has_a_lease(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()

    claim = claimed(agent)

    assert (job_id, 1, C) == (claim.job.id, claim.attempt, claim.job.status)
    assert claim.lease is not None
    assert 60.0 == claim.lease.ttl_s
    assert [PENDING, C] == scene.history(job_id)


def test_the_same_key_gives_the_same_claim(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    job = offered(agent)

    first, second = agent.claim(job, key="key-1"), agent.claim(job, key="key-1")

    assert first == second
    assert [PENDING, C] == scene.history(job_id)


def test_the_same_key_gives_the_same_claim_after_it_was_begun(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    job = offered(agent)
    claim = agent.claim(job, key="key-1")
    walk(agent, claim, WAY[:2])

    assert 1 == agent.claim(job, key="key-1").attempt


def test_another_key_is_another_claim(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    job = offered(agent)
    agent.claim(job, key="key-1")

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-2")


def test_a_job_is_claimed_by_one_agent(scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    job_id = scene.submit()
    job = offered(agent)
    agent.claim(job, key="key-1")

    with pytest.raises(ClaimLost):
        other.claim(job, key="key-1")

    assert [PENDING, C] == scene.history(job_id)


def test_a_job_that_is_offered_to_one_agent_cannot_be_claimed_by_another(
    scene: Scene, agent: ControlPlane, other: ControlPlane
) -> None:
    scene.submit()
    job = offered(agent)

    with pytest.raises(ClaimLost):
        other.claim(job, key="key-1")

    assert 1 == agent.claim(job, key="key-1").attempt


def test_a_key_of_a_claim_that_is_over_gives_nothing(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    job = offered(agent)
    claim = agent.claim(job, key="key-1")
    agent.report(update(claim, 1, PENDING))

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")


def next_claim(plane: ControlPlane, key: str, job_types: Sequence[str] | None = None) -> Claim:
    claim = plane.next_claim(key=key, wait_s=0, job_types=job_types)
    assert isinstance(claim, Claim)
    return claim


def test_what_would_be_offered_is_granted_when_a_key_comes_with_the_question(
    scene: Scene, agent: ControlPlane, other: ControlPlane
) -> None:
    job_id = scene.submit()

    claim = next_claim(agent, "k")

    assert (job_id, 1, Status.CLAIMED) == (claim.job.id, claim.attempt, claim.job.status)
    assert claim.lease is not None
    assert 0 <= claim.lease.waited_s < 60
    assert [PENDING, C] == scene.history(job_id)
    assert isinstance(other.next_claim(key="k", wait_s=0), NoJob)
    walk(agent, claim, WAY)
    assert [PENDING, C, *WAY] == scene.history(job_id)


def test_without_a_job_there_is_none_to_grant(agent: ControlPlane) -> None:
    assert isinstance(agent.next_claim(key="k", wait_s=0), NoJob)
    assert isinstance(agent.next_claim(key="k", wait_s=0), NoJob)


def test_a_question_that_is_asked_again_has_the_same_answer(scene: Scene, agent: ControlPlane) -> None:
    job_id, another = scene.submit(), scene.submit()
    first = next_claim(agent, "k")

    again = next_claim(agent, "k")
    recalled = next_claim(agent, "k", ())

    assert {(job_id, 1)} == {(claim.job.id, claim.attempt) for claim in (first, again, recalled)}
    assert [PENDING, C] == scene.history(job_id)
    assert [PENDING] == scene.history(another)


def test_a_question_about_no_type_brings_no_new_job(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()

    assert isinstance(agent.next_claim(key="k", wait_s=0, job_types=()), NoJob)


@pytest.mark.parametrize("said", [V, FAILED, PENDING])
def test_a_key_brings_nothing_once_a_word_was_said_of_its_grant(
    scene: Scene, agent: ControlPlane, said: Status
) -> None:
    """Its holder knows what it has; who asks once more is a copy of it."""
    scene.submit()
    agent.report(update(next_claim(agent, "k"), 1, said))

    with pytest.raises(ClaimLost):
        agent.next_claim(key="k", wait_s=0)


def test_a_grant_can_be_named_by_its_key(scene: Scene, agent: ControlPlane) -> None:
    """So a job that cannot be read is failed under the key that brought it."""
    job_id = scene.submit()
    claim = next_claim(agent, "k")

    agent.refuse(claim.job.id, key="k", reason="invalid_job", message="no")

    assert [PENDING, C, FAILED] == scene.history(job_id)


@pytest.mark.parametrize("end", [CANCELED, DONE])
def test_a_job_that_ended_cannot_be_claimed(
    scene: Scene, agent: ControlPlane, other: ControlPlane, end: Status
) -> None:
    job_id = scene.submit()
    job = offered(agent)
    if end is CANCELED:
        scene.cancel(job_id)
    else:
        walk(agent, agent.claim(job, key="key-1"), WAY)

    with pytest.raises(ClaimLost):
        other.claim(job, key="key-2")


def test_a_job_that_nobody_knows_cannot_be_claimed(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    job = replace(offered(agent), id=str(uuid.uuid4()))

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")


# ------------------------------------------------------------------------------------ saying how it goes


def test_a_job_goes_its_way(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()

    walk(agent, claimed(agent), WAY)

    assert [PENDING, C, *WAY] == scene.history(job_id)


@pytest.mark.parametrize("said", range(1, 5))
def test_saying_something_again_changes_nothing(scene: Scene, agent: ControlPlane, said: int) -> None:
    """The last word, and any word before it."""
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, WAY)

    agent.report(update(claim, said, WAY[said - 1]))

    assert [PENDING, C, *WAY] == scene.history(job_id)


def test_saying_something_else_under_the_same_number_is_refused(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, WAY[:1])

    with pytest.raises(ClaimLost):
        agent.report(update(claim, 1, FAILED))

    assert [PENDING, C, V] == scene.history(job_id)


def test_a_number_that_was_left_out_is_refused(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)

    with pytest.raises(ClaimLost):
        agent.report(update(claim, 2, V))

    assert [PENDING, C] == scene.history(job_id)


@pytest.mark.parametrize(
    ("after", "status"),
    [
        ((), R),
        ((), DONE),
        ((V,), V),
        ((V, R), V),
        ((V, R), DONE),
        (WAY, FAILED),
        (WAY, PENDING),
        ((V, FAILED), R),
    ],
)
def test_a_step_that_the_life_of_a_job_does_not_have_is_refused(
    scene: Scene, agent: ControlPlane, after: Sequence[Status], status: Status
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, after)

    with pytest.raises(ClaimLost):
        agent.report(update(claim, len(after) + 1, status, message="again"))

    assert [PENDING, C, *after] == scene.history(job_id)


@pytest.mark.parametrize("status", [FAILED, CANCELED])
@pytest.mark.parametrize("after", [(), (V,), (V, R), (V, R, U)])
def test_a_job_may_end_at_any_time(
    scene: Scene, agent: ControlPlane, after: Sequence[Status], status: Status
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, [*after, status])

    assert status is scene.history(job_id)[-1]


def test_several_words_at_once_are_heard_in_order(scene: Scene, agent: ControlPlane) -> None:
    """And again, as after an answer that was lost."""
    job_id = scene.submit()
    claim = claimed(agent)
    words = [update(claim, number, status) for number, status in enumerate(WAY, start=1)]

    heard = [agent.report_together(words), agent.report_together(words)]

    assert [[None] * 4] * 2 == heard
    assert [PENDING, C, *WAY] == scene.history(job_id)


def test_of_several_words_only_the_refused_ones_are_lost(scene: Scene, agent: ControlPlane) -> None:
    first, second = scene.submit(), scene.submit()
    claims = {claim.job.id: claim for claim in (claimed(agent), claimed(agent))}
    words = [update(claims[first], 2, V), update(claims[second], 1, V), update(claims[second], 2, R)]

    heard = agent.report_together(words)

    assert [ClaimLost, type(None), type(None)] == [type(one) for one in heard or ()]
    assert [PENDING, C] == scene.history(first)
    assert [PENDING, C, V, R] == scene.history(second)


def test_only_the_holder_is_listened_to(scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)

    with pytest.raises(ClaimLost):
        other.report(update(claim, 1, V))

    assert [PENDING, C] == scene.history(job_id)


def test_a_word_about_a_job_that_nobody_knows_is_refused(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    claim = claimed(agent)

    with pytest.raises(ClaimLost):
        agent.report(replace(update(claim, 1, V), job_id=str(uuid.uuid4())))


# ------------------------------------------------------------------------------------ cancel, release


def test_a_cancel_reaches_the_holder(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    before = directive(agent, claim)

    scene.cancel(job_id)

    assert (Directive.CONTINUE, Directive.CANCEL) == (before, directive(agent, claim))


def test_the_holder_may_confirm_a_cancel_and_nothing_else(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, WAY[:1])
    scene.cancel(job_id)

    with pytest.raises(ClaimLost):
        agent.report(update(claim, 2, R))
    agent.report(update(claim, 2, CANCELED))

    assert [PENDING, C, V, CANCELED] == scene.history(job_id)


def test_a_released_job_is_a_new_attempt_for_whoever_takes_it(
    scene: Scene, agent: ControlPlane, other: ControlPlane
) -> None:
    job_id = scene.submit()
    first = claimed(agent)
    walk(agent, first, [V, R, PENDING])

    second = claimed(other)
    walk(other, second, WAY)

    assert (1, 2) == (first.attempt, second.attempt)
    assert [PENDING, C, V, R, PENDING, C, *WAY] == scene.history(job_id)


def test_an_old_attempt_is_not_listened_to(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    """Also when the same agent holds the new one."""
    job_id = scene.submit()
    old = claimed(agent)
    walk(agent, old, [V, PENDING])
    new = claimed(agent)
    walk(agent, new, [V, R, U])

    with pytest.raises(ClaimLost):
        agent.report(update(old, 3, FAILED))
    with pytest.raises(ClaimLost):
        agent.upload(old, a_result_file(tmp_path))
    with pytest.raises(ClaimLost):
        agent.append_log(old, offset=0, data=b"x")

    assert 2 == new.attempt
    assert U is scene.history(job_id)[-1]
    assert [] == scene.files(job_id)
    assert b"" == scene.log(job_id)


# ------------------------------------------------------------------------------------ heartbeats


def test_a_heartbeat_renews_the_leases_of_what_is_held(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    claim = claimed(agent)
    line = Held(claim.job.id, claim.attempt, Progress(1, 2, "rows"))

    orders = agent.heartbeat([line], draining=False, wait_s=0)

    assert {claim.job.id: Directive.CONTINUE} == orders.directives
    assert {claim.job.id: claim.lease} == orders.leases
    assert not orders.drain


def test_a_heartbeat_about_nothing_is_answered(agent: ControlPlane) -> None:
    assert {} == agent.heartbeat([], draining=True, wait_s=0).directives


def test_an_agent_that_has_left_may_come_back(scene: Scene, agent: ControlPlane) -> None:
    agent.leave()

    scene.submit()

    assert isinstance(agent.next_job(wait_s=0), Job)


@pytest.mark.parametrize("end", [DONE, FAILED, PENDING])
def test_what_is_not_held_any_more_is_superseded(scene: Scene, agent: ControlPlane, end: Status) -> None:
    scene.submit()
    claim = claimed(agent)
    walk(agent, claim, WAY if end is DONE else [V, end])

    assert Directive.SUPERSEDED is directive(agent, claim)


def test_what_somebody_else_holds_is_superseded(scene: Scene, agent: ControlPlane, other: ControlPlane) -> None:
    scene.submit()
    claim = claimed(agent)

    assert Directive.SUPERSEDED is directive(other, claim)
    assert Directive.SUPERSEDED is directive(agent, replace(claim, attempt=2))
    assert Directive.SUPERSEDED is directive(agent, replace(claim, job=replace(claim.job, id=str(uuid.uuid4()))))
    assert Directive.CONTINUE is directive(agent, claim)


# ------------------------------------------------------------------------------------ files and the log


@pytest.mark.parametrize("parameters", [{}, {"prompt": "ü\U0001f600", "n": 1.5, "deep": {"list": [None, True]}}])
def test_parameters_come_as_they_were_given(scene: Scene, agent: ControlPlane, parameters: Any) -> None:
    scene.submit(parameters)

    assert parameters == agent.read_parameters(claimed(agent).job)


def test_the_input_comes_as_it_was_given(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    scene.submit(input_bytes=content)
    claim = claimed(agent)

    file = agent.input_file(claim.job)
    assert file is not None
    agent.download(file, tmp_path / "input")

    assert content == (tmp_path / "input").read_bytes()
    assert len(content) == file.size_bytes
    assert ["input"] == [path.name for path in tmp_path.iterdir()]


def test_a_file_that_is_not_there_cannot_be_read(scene: Scene, agent: ControlPlane) -> None:
    scene.submit()
    job = claimed(agent).job

    with pytest.raises(InvalidInput, match="cannot be read"):
        agent.read_parameters(replace(job, parameters=replace(job.parameters, sha="0" * 96)))


def test_result_files_are_stored_and_can_be_read(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    first = a_result_file(tmp_path, "output.jsonl", b'{"a": 1}\n')
    second = a_result_file(tmp_path, "empty.txt", b"")
    walk(agent, claim, WAY[:2])
    agent.report(update(claim, 3, U, detail=declared(first, second)))

    ids = [agent.upload(claim, first), agent.upload(claim, second)]
    agent.report(update(claim, 4, DONE))

    assert 2 == len(set(ids))
    assert [("output.jsonl", b'{"a": 1}\n'), ("empty.txt", b"")] == scene.files(job_id)
    assert DONE is scene.history(job_id)[-1]


def last_words(claim: Claim, *files: ResultFile) -> list[StatusUpdate]:
    """All that is said of a short job, with *files* in the last word."""
    enclosed = Enclosed(claim, files)
    said = [update(claim, 1, V), update(claim, 2, R), update(claim, 3, U, detail=declared(*files))]
    return [*said, update(claim, 4, DONE, enclosed=enclosed)]


def test_small_files_go_with_the_last_word(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    files = [a_result_file(tmp_path, "a.jsonl", b"one"), a_result_file(tmp_path, "empty.txt", b"")]
    words = last_words(claimed(agent), *files)

    heard = [agent.report_together(words) for _ in range(2)]

    assert [[None] * 4] * 2 == heard
    assert [PENDING, C, *WAY] == scene.history(job_id)
    assert [("a.jsonl", b"one"), ("empty.txt", b"")] == sorted(scene.files(job_id))


def test_a_file_that_was_stored_before_is_not_stored_again_with_the_last_word(
    scene: Scene, agent: ControlPlane, tmp_path: Path
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    files = [a_result_file(tmp_path, "a.jsonl", b"one"), a_result_file(tmp_path, "b.jsonl", b"two")]
    agent.upload(claim, files[0])

    agent.report_together(last_words(claim, *files))

    assert [("a.jsonl", b"one"), ("b.jsonl", b"two")] == sorted(scene.files(job_id))


def test_a_word_that_is_refused_leaves_no_files(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    scene.cancel(job_id)

    heard = agent.report_together(last_words(claim, a_result_file(tmp_path, "a.jsonl", b"one")))

    assert heard is not None
    assert [ClaimLost] * 4 == [type(error) for error in heard]
    assert [] == scene.files(job_id)


def test_a_file_that_is_gone_is_missed_by_the_last_word(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    file = a_result_file(tmp_path, "a.jsonl", b"one")
    words = last_words(claimed(agent), file)
    file.path.unlink()

    heard = agent.report_together(words)

    assert heard is not None
    assert ["files_missing"] == [error.facts["code"] for error in heard if error is not None]
    assert [PENDING, C, V, R, U] == scene.history(job_id)


def test_large_files_do_not_go_with_a_word(agent: ControlPlane, tmp_path: Path) -> None:
    small = a_result_file(tmp_path, "a.jsonl", bytes(128 * 1024))

    assert [True, True, False] == [agent.encloses([small] * count) for count in (1, 2, 3)]


def test_the_same_file_twice_is_stored_once(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    file = a_result_file(tmp_path)
    walk(agent, claim, WAY[:3])

    first, second = agent.upload(claim, file), agent.upload(claim, file)

    assert first == second
    assert 1 == len(scene.files(job_id))


def test_a_job_is_not_completed_while_a_declared_file_is_missing(
    scene: Scene, agent: ControlPlane, tmp_path: Path
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    file = a_result_file(tmp_path)
    walk(agent, claim, WAY[:2])
    agent.report(update(claim, 3, U, detail=declared(file)))

    with pytest.raises(ClaimLost):
        agent.report(update(claim, 4, DONE))
    agent.upload(claim, file)
    agent.report(update(claim, 4, DONE))

    assert DONE is scene.history(job_id)[-1]


def test_what_a_canceled_job_had_made_is_taken(scene: Scene, agent: ControlPlane, tmp_path: Path) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, WAY[:3])
    scene.cancel(job_id)

    agent.upload(claim, a_result_file(tmp_path))

    assert [("output.jsonl", b"{}\n")] == scene.files(job_id)


@pytest.mark.parametrize("status", [DONE, FAILED])
def test_nothing_is_stored_for_a_job_that_has_ended(
    scene: Scene, agent: ControlPlane, tmp_path: Path, status: Status
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, [V, R, U, status])

    with pytest.raises(ClaimLost):
        agent.upload(claim, a_result_file(tmp_path))

    assert [] == scene.files(job_id)


def test_a_log_grows(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    claim = claimed(agent)

    offsets = [agent.append_log(claim, offset=0, data=b"")]
    offsets.append(agent.append_log(claim, offset=0, data=b"one\n"))
    offsets.append(agent.append_log(claim, offset=4, data=b"\xfftwo\n"))

    assert [0, 4, 9] == offsets
    assert b"one\n\xfftwo\n" == scene.log(job_id)


@pytest.mark.parametrize("offset", [0, 3, 5, 1000])
def test_a_wrong_offset_changes_nothing_and_is_answered_by_the_right_one(
    scene: Scene, agent: ControlPlane, offset: int
) -> None:
    job_id = scene.submit()
    claim = claimed(agent)
    agent.append_log(claim, offset=0, data=b"one\n")

    assert 4 == agent.append_log(claim, offset=offset, data=b"two\n")
    assert b"one\n" == scene.log(job_id)


def test_a_log_goes_on_in_the_next_attempt(scene: Scene, agent: ControlPlane) -> None:
    job_id = scene.submit()
    first = claimed(agent)
    agent.append_log(first, offset=0, data=b"one\n")
    walk(agent, first, [PENDING])
    second = claimed(agent)

    end = agent.append_log(second, offset=0, data=b"")
    agent.append_log(second, offset=end, data=b"two\n")

    assert 4 == end
    assert b"one\ntwo\n" == scene.log(job_id)


@pytest.mark.parametrize("status", [DONE, FAILED, CANCELED, PENDING])
def test_the_rest_of_a_log_is_taken_after_the_end_of_its_job(
    scene: Scene, agent: ControlPlane, status: Status
) -> None:
    """It may come late, after an outage; not once somebody else has got the job."""
    job_id = scene.submit()
    claim = claimed(agent)
    walk(agent, claim, [V, R, U, status])

    end = agent.append_log(claim, offset=0, data=b"late\n")

    assert (5, b"late\n") == (end, scene.log(job_id))


def test_an_agent_that_is_not_known_is_told_so(scene: Scene, agent: ControlPlane) -> None:
    """A 404 about the agent, not about a job: the slot registers anew."""
    _forget(agent)

    with pytest.raises(RejectedError) as caught:
        agent.next_job(wait_s=0)

    assert 404 == caught.value.http_status


def _forget(agent: Any) -> None:
    """Speak as an agent that nobody knows."""
    stranger = str(uuid.uuid4())
    if hasattr(agent, "agent_id"):
        agent.agent_id = stranger
    else:
        agent._known_id = lambda: stranger


def test_a_job_that_cannot_be_read_is_failed_for_good(scene: Scene, agent: ControlPlane) -> None:
    """It would be offered again and again, and block whatever comes after it."""
    job_id = scene.submit()

    agent.refuse(job_id, key="k", reason="invalid_job", message="file.revisions: field required")

    assert Status.FAILED is scene.history(job_id)[-1]
    assert isinstance(agent.next_job(wait_s=0), NoJob)
