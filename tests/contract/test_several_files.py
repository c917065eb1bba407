"""Many small result files: a hundred in a call, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_parts import a_result_file
from overmind_agent.errors import ClaimLost, UploadError
from overmind_agent.files.together import together
from overmind_agent.jobs import Claim, Held, NoJob, ResultFile, StatusUpdate
from overmind_agent.lifecycle import Status
from overmind_agent.ports import ControlPlane

if TYPE_CHECKING:
    from conftest import Scene


def files_in(folder: Path, number: int) -> list[ResultFile]:
    return [a_result_file(folder, f"row-{n:05}.json", b'{"row": %d}' % n) for n in range(number)]


def claimed(scene: Scene, agent: ControlPlane) -> Claim:
    scene.submit()
    offer = agent.next_job(wait_s=0)
    assert not isinstance(offer, NoJob)
    return agent.claim(offer, key="key")


def say(agent: ControlPlane, claim: Claim, files: Sequence[ResultFile]) -> None:
    """All that is said of a job that ends well."""
    declared = [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]
    detail = {Status.UPLOADING: {"files": declared}}
    way = (Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED)
    for number, status in enumerate(way, start=1):
        agent.report(StatusUpdate(claim.job.id, claim.attempt, number, status, None, detail.get(status, {})))


@pytest.mark.timeout(600)
def test_many_small_files_go_in_few_calls(
    scene: Scene, agent: ControlPlane, tmp_path: Path, is_whole: bool
) -> None:
    """Two thousand in `make chaos`. COMPLETED is only taken when each is there, with its digest."""
    number = 2000 if is_whole else 120
    files = files_in(tmp_path, number)
    claim = claimed(scene, agent)
    calls = list(together(files))

    ids: list[str] = []
    for call in calls:
        ids += agent.upload_together(claim, call) or ()
        agent.heartbeat([Held(claim.job.id, claim.attempt)], draining=False, wait_s=0)
    again = agent.upload_together(claim, calls[0])
    say(agent, claim, files)

    assert -(-number // 100) == len(calls)
    assert (number, ids[: len(calls[0])]) == (len(set(ids)), list(again or ()))
    assert Status.COMPLETED is scene.history(claim.job.id)[-1]


def test_ten_thousand_files_can_be_declared_and_are_a_hundred_calls(
    scene: Scene, agent: ControlPlane, tmp_path: Path
) -> None:
    """And the job is not completed before they are there."""
    (one,) = files_in(tmp_path, 1)
    files = [replace(one, name=f"a name of some length, {n:05}.json") for n in range(10_000)]
    claim = claimed(scene, agent)

    with pytest.raises(ClaimLost) as refused:
        say(agent, claim, files)

    assert "files_missing" == refused.value.facts["code"]
    assert Status.UPLOADING is scene.history(claim.job.id)[-1]
    assert 100 == len(list(together(files)))


def test_of_several_files_none_is_stored_when_one_cannot_be(
    scene: Scene, agent: ControlPlane, tmp_path: Path
) -> None:
    files = files_in(tmp_path, 20)
    claim = claimed(scene, agent)
    files[7] = replace(files[7], sha256="0" * 64)

    with pytest.raises(UploadError):
        agent.upload_together(claim, files)

    assert [] == scene.files(claim.job.id)


def test_several_files_of_an_attempt_that_was_given_up_are_refused(
    scene: Scene, agent: ControlPlane, other: ControlPlane, tmp_path: Path
) -> None:
    claim = claimed(scene, agent)
    agent.report(StatusUpdate(claim.job.id, 1, 1, Status.PENDING, None, {}))
    offer = other.next_job(wait_s=0)
    assert not isinstance(offer, NoJob)
    other.claim(offer, key="key")

    with pytest.raises(ClaimLost):
        agent.upload_together(claim, files_in(tmp_path, 20))

    assert [] == scene.files(claim.job.id)
