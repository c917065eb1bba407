"""The life of a job over the wire: every pair of statuses, cancels, declared files, outcomes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

import pytest
from plane_calls import Api, Project, names, revision

from overmind_agent.lifecycle import LIFECYCLE, Status

SALT = "0" * 32
WAY = ("Claimed", "Validating", "Running", "Uploading", "Completed")
REACHED = {"Pending": (), **{status: WAY[: position + 1] for position, status in enumerate(WAY)}}
REACHED |= {"Failed": ("Claimed", "Failed"), "Canceled": ("Claimed", "Canceled")}


def bring(project: Project, status: str) -> tuple[str, str]:
    """A job in *status* and the agent that brought it there."""
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()
    for step in REACHED[status]:
        assert 200 == project.agent.say(job_id, step, agent_id).status_code
    return job_id, agent_id


@pytest.mark.parametrize("present", REACHED)
def test_a_status_may_follow_as_the_life_of_a_job_says(project: Project, present: str) -> None:
    """
    All ten statuses after each that can be reached, by the agent that holds or held the job.

    A status that is there already is a repeat, with the same words, and no step; nobody holds a job that waits,
    so of it only a claim is heard.
    """
    answers, allowed = {}, {}
    for to in Status:
        job_id, agent_id = bring(project, present)
        answers[to.value] = project.agent.say(job_id, to.value, agent_id).status_code
        is_claim_or_held = to is Status.CLAIMED or present != "Pending"
        is_step = to in LIFECYCLE[Status(present)].next and is_claim_or_held
        is_repeat = to.value == present and present != "Pending"
        allowed[to.value] = 200 if is_step or is_repeat else 409

    assert allowed == answers


def test_who_prefers_a_minimal_answer_is_told_that_the_step_was_noted(project: Project) -> None:
    job_id, agent_id = bring(project, "Claimed")
    path = f"/api/v2/jobs/{job_id}/status?status_name=Validating&agent_id={agent_id}"

    answer = project.agent.read("PUT", path, headers={"Prefer": "return=minimal", "Overmind-Attempt": "1"})

    assert {"job_id": job_id, "attempt": 1} == answer
    assert "Validating" == project.submit.status(job_id)


def test_a_name_that_is_no_status_is_refused(project: Project) -> None:
    job_id, agent_id = bring(project, "Claimed")

    answer = project.agent.say(job_id, "running", agent_id)

    assert 422 == answer.status_code
    assert ["query", "status_name"] == answer.json()["detail"][0]["loc"]


@pytest.mark.parametrize("present", REACHED)
def test_a_person_can_cancel_until_a_job_is_final(project: Project, present: str) -> None:
    job_id, _ = bring(project, present)

    answer = project.submit.cancel(job_id)

    is_over = present in ("Completed", "Failed")
    assert (409 if is_over else 200) == answer.status_code
    assert (present if is_over else "Canceled") == project.submit.status(job_id)


def test_a_cancel_can_be_repeated(project: Project) -> None:
    job_id, _ = bring(project, "Pending")

    answers = [project.submit.cancel(job_id).status_code for _ in range(2)]

    assert [200, 200] == answers
    assert ["Pending", "Canceled"] == names(project.submit.job(job_id))


def test_a_holder_may_confirm_the_cancel_that_it_was_told_of(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    project.submit.cancel(job_id)

    confirmed = project.agent.say(job_id, "Canceled", agent_id, attempt=1, sequence=1)
    denied = project.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)

    assert 200 == confirmed.status_code
    assert (409, "illegal_transition") == (denied.status_code, denied.json()["code"])


def test_an_upload_for_a_canceled_job_is_refused(project: Project) -> None:
    """An agent that knows no heartbeat learns of a cancel here at the latest."""
    job = project.submit.make_job()
    agent_id = project.agent.register()
    project.agent.say(job["id"], "Claimed", agent_id)
    project.submit.cancel(job["id"])

    body = project.agent.upload(b"late", "result.json", (job["file"]["revisions"][0]["id"],))
    answer = project.agent.call("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)

    assert (409, "superseded") == (answer.status_code, answer.json()["code"])


def declare(name: str, data: bytes) -> dict[str, Any]:
    """A declared file."""
    return {"name": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def artifact(api: Api, job: dict[str, Any], data: bytes, name: str, **headers: str) -> dict[str, Any]:
    """Upload a result of *job*."""
    body = api.upload(data, name, (job["file"]["revisions"][-1]["id"],))
    path = f"/api/v2/models/{job['model_id']}/artifacts"
    made: dict[str, Any] = api.read("POST", path, body, headers=headers)
    return made


def test_a_job_completes_when_all_declared_files_are_there(project: Project) -> None:
    job = project.submit.make_job()
    agent_id = project.agent.register()
    project.agent.walk(job["id"], agent_id, "Running")
    files = [declare("result.json", b"{}"), declare("rows.jsonl", b"{}\n")]
    project.agent.say(job["id"], "Uploading", agent_id, body={"detail": {"files": files}})

    none = project.agent.say(job["id"], "Completed", agent_id)
    artifact(project.agent, job, b"{}", "result.json")
    artifact(project.agent, job, b"[]\n", "rows.jsonl")
    wrong = project.agent.say(job["id"], "Completed", agent_id)
    artifact(project.agent, job, b"{}\n", "rows.jsonl")
    done = project.agent.say(job["id"], "Completed", agent_id)

    assert (409, "files_missing", ["result.json", "rows.jsonl"]) == (
        none.status_code,
        none.json()["code"],
        none.json()["missing"],
    )
    assert (409, ["rows.jsonl"]) == (wrong.status_code, wrong.json()["missing"])
    assert 200 == done.status_code


def inline(job: dict[str, Any], data: bytes) -> dict[str, Any]:
    """A revision with its blobs."""
    blobs = {hashlib.sha384(part + SALT.encode()).hexdigest(): part for part in (data, b"{}")}
    source = job["file"]["revisions"][-1]["id"]
    told = revision("result.json", len(data), list(blobs), SALT, (source,))
    return told | {"blobs": {sha: base64.b64encode(part).decode() for sha, part in blobs.items()}}


def test_small_files_may_come_with_what_names_them(project: Project) -> None:
    job = project.submit.make_job()
    data = os.urandom(1000)

    project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", inline(job, data))

    assert data == project.submit.get_blob(hashlib.sha384(data + SALT.encode()).hexdigest())


def test_a_new_artifact_may_be_answered_by_its_id_alone(project: Project) -> None:
    """Also when it is told again."""
    job = project.submit.make_job()
    path = f"/api/v2/models/{job['model_id']}/artifacts"
    headers = {"Prefer": "return=minimal", "Idempotency-Key": "k"}
    told = inline(job, b"data")

    made = [project.agent.read("POST", path, told, headers=headers) for _ in range(2)]

    (listed,) = project.agent.read("GET", path)["items"]
    assert [{"id": listed["id"]}] * 2 == made


@pytest.mark.parametrize("case", ["damaged", "not base64", "too long", "not of this revision", "of no revision"])
def test_what_came_with_a_revision_is_checked(project: Project, case: str) -> None:
    job = project.submit.make_job()
    told = inline(job, b"x" * (256 * 1024 + 1) if case == "too long" else b"data")
    content = told["content_token"]["sha"]
    wrong = {
        "damaged": {content: base64.b64encode(b"other").decode()},
        "not base64": {content: "!"},
        "too long": told["blobs"],
        "not of this revision": {"a" * 96: base64.b64encode(b"stray").decode()},
        "of no revision": {hashlib.sha384(b"stray").hexdigest(): base64.b64encode(b"stray").decode()},
    }

    answer = project.agent.call(
        "POST", f"/api/v2/models/{job['model_id']}/artifacts", told | {"blobs": wrong[case]}
    )

    assert (422, "blobs") == (answer.status_code, answer.json()["detail"][0]["loc"][1])
    assert 404 == project.submit.call("GET", f"/api/v2/tokens/{content}/download-url").status_code


@pytest.mark.parametrize(("capability", "size_bytes"), [("lease", 10), ("lease", 256 * 1024), ("other", 10)])
def test_small_parameters_come_with_a_lease(project: Project, capability: str, size_bytes: int) -> None:
    parameters = {"text": "x" * size_bytes}
    job = project.submit.make_job(parameters)
    agent_id = project.agent.register(capability)

    told = project.agent.say(job["id"], "Claimed", agent_id).json()["parameters"]

    is_told = capability == "lease" and size_bytes < 1000
    assert (json.dumps(parameters).encode() if is_told else None) == (base64.b64decode(told) if told else None)


@pytest.mark.parametrize(("capability", "size_bytes"), [("lease", 10), ("lease", 256 * 1024 + 1), ("other", 10)])
def test_the_input_comes_with_a_lease(project: Project, capability: str, size_bytes: int) -> None:
    """With its content where that is small: the newest one, as of the claim."""
    model = project.submit.make_model(b"old", "rows.jsonl")
    job = project.submit.make_job(model_id=model["id"])
    content = b"x" * size_bytes
    changed = project.submit.read(
        "PUT", f"/api/v2/models/{model['id']}", project.submit.upload(content, "rows.jsonl")
    )
    revision = changed["file"]["revisions"][-1]
    agent_id = project.agent.register(capability)

    told = project.agent.say(job["id"], "Claimed", agent_id).json()["input_file"]

    token = revision["content_token"]
    is_small = size_bytes < 1000
    expected = {
        "revision_id": revision["id"],
        "name": "rows.jsonl",
        "sha": token["sha"],
        "salt": token["salt"],
        "size": size_bytes,
        "content": base64.b64encode(content).decode() if is_small else None,
    }
    assert (expected if capability == "lease" else None) == told


BAD_NAMES = ("../x", "/etc/passwd", "a/../../x", "a/b", "..", ".", "", "C:\\x", "a\0b", "x" * 256, "\u00e4" * 128)


@pytest.mark.parametrize("name", [*BAD_NAMES, "twice"], ids=ascii)
def test_a_file_is_declared_under_a_plain_name_and_once(project: Project, name: str) -> None:
    """COMPLETED would wait for it for ever, or somebody would put it where the name leads."""
    job_id, agent_id = bring(project, "Running")
    files = [declare(name, b"{}"), declare("twice", b"[]")]

    answer = project.agent.say(job_id, "Uploading", agent_id, body={"detail": {"files": files}})

    assert (422, ["body", "detail", "files"]) == (answer.status_code, answer.json()["detail"][0]["loc"][:3])
    assert "Running" == project.submit.status(job_id)


REPORTS: dict[str, tuple[dict[str, Any], int]] = {
    "as it should be": ({}, 200),
    "an unknown status": ({"status_name": "running"}, 422),
    "no sequence": ({"sequence": None}, 422),
    "an attempt of 0": ({"attempt": 0}, 422),
    "a key too many": ({"more": 1}, 422),
    "a job that is not there": ({"job_id": "nothing"}, 404),
    "an older attempt": ({"attempt": 2}, 409),
    "a step too far": ({"status_name": "Uploading"}, 409),
}


def test_of_several_reports_each_is_judged_by_itself(project: Project) -> None:
    """Eight jobs, eight reports in one call, a different fault in each but the first and the last."""
    agent_id = project.agent.register("lease")
    job_ids = [project.submit.make_job()["id"] for _ in range(len(REPORTS) + 1)]
    for job_id in job_ids:
        project.agent.say(job_id, "Claimed", agent_id, key=job_id)
    good = {"status_name": "Validating", "attempt": 1, "sequence": 1}
    told = [{"job_id": job_id, **good} for job_id in job_ids]
    faults = [*REPORTS.values(), ({}, 200)]
    reports: list[Any] = [one | fault for one, (fault, _) in zip(told, faults, strict=True)]
    reports[1:1] = ["no report"]

    heard = project.agent.read("POST", f"/api/v2/agents/{agent_id}/reports", {"reports": reports})["reports"]

    codes = [code for _, code in faults]
    assert [*codes[:1], 422, *codes[1:]] == [one["http_status"] for one in heard]
    assert ["body", "reports", 2, "status_name"] == heard[2]["error"]["detail"][0]["loc"]
    said = [project.submit.status(job_id) for job_id in (job_ids[0], job_ids[1], job_ids[-1])]
    assert ["Validating", "Claimed", "Validating"] == said


def test_a_file_of_another_job_is_not_the_declared_one(project: Project) -> None:
    job, other = project.submit.make_job(), project.submit.make_job()
    agent_id = project.agent.register()
    project.agent.walk(job["id"], agent_id, "Running")
    declared = {"detail": {"files": [declare("result.json", b"{}")]}}
    project.agent.say(job["id"], "Uploading", agent_id, body=declared)
    artifact(project.agent, other, b"{}", "result.json")

    answer = project.agent.say(job["id"], "Completed", agent_id)

    assert "files_missing" == answer.json()["code"]


def test_an_artifact_with_a_key_is_made_once(project: Project) -> None:
    job = project.submit.make_job()
    project.agent.say(job["id"], "Claimed", project.agent.register("lease"), key="a")
    body = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    path = f"/api/v2/models/{job['model_id']}/artifacts"
    headers = {"Idempotency-Key": "upload-1", "Overmind-Attempt": "1"}

    made = [project.agent.read("POST", path, body, headers=headers)["id"] for _ in range(2)]
    other = project.agent.call("POST", path, body | {"name": "else.json"}, headers=headers)

    assert made[0] == made[1]
    assert 1 == project.agent.read("GET", path)["total"]
    assert 422 == other.status_code


def test_results_are_products_of_the_job_and_the_job_is_their_source(project: Project) -> None:
    job = project.submit.make_job()
    made = artifact(project.agent, job, b"{}", "result.json")

    (product,) = project.submit.job(job["id"])["file"]["revisions"][-1]["products"]
    (source,) = project.submit.read("GET", f"/api/v2/artifacts/{made['id']}")["file"]["revisions"][0]["sources"]

    assert ("Artifact", made["id"], "job") == (
        product["resource_type"],
        product["resource_id"],
        product["relationship_identifier"],
    )
    assert ("Job", job["id"], job["file"]["id"]) == (
        source["resource_type"],
        source["resource_id"],
        source["file_id"],
    )


def test_an_outcome_longer_than_64_kib_is_refused(project: Project) -> None:
    job_id, agent_id = bring(project, "Uploading")

    answer = project.agent.say(
        job_id, "Completed", agent_id, body={"detail": {"outcome": {"text": "x" * 64 * 1024}}}
    )

    assert 422 == answer.status_code
    assert "Uploading" == project.submit.status(job_id)


def test_a_long_message_is_cut_with_a_sign(project: Project) -> None:
    job_id, agent_id = bring(project, "Claimed")

    answer = project.agent.say(job_id, "Validating", agent_id, body={"message": "x" * 5000})

    assert "x" * 4095 + "…" == answer.json()["status_history"][-1]["message"]


def test_parameters_can_be_replaced_while_a_job_waits(project: Project) -> None:
    job_id = project.submit.make_job({"a": 1})["id"]

    changed = project.submit.read("PUT", f"/api/v2/jobs/{job_id}", project.submit.upload(b'{"a": 2}', "p.json"))
    project.agent.say(job_id, "Claimed", project.agent.register())
    late = project.submit.call("PUT", f"/api/v2/jobs/{job_id}", project.submit.upload(b'{"a": 3}', "p.json"))

    assert 2 == len(changed["file"]["revisions"])
    assert b'{"a": 2}' == project.submit.get_blob(changed["file"]["revisions"][-1]["content_token"]["sha"])
    assert (409, "illegal_transition") == (late.status_code, late.json()["code"])


def test_an_archived_job_is_not_offered_until_it_is_restored(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()

    archived = project.submit.read("DELETE", f"/api/v2/jobs/{job_id}", {"reason": "later"})
    again = project.submit.call("DELETE", f"/api/v2/jobs/{job_id}")
    hidden = project.agent.next_job(agent_id)
    listed = {
        which: project.submit.read("GET", f"/api/v2/jobs?archive_status={which}")["total"]
        for which in ("active", "archived", "all")
    }
    restored = project.submit.read("POST", f"/api/v2/jobs/{job_id}:restore")

    assert ["Active", "Archived"] == [line["name"] for line in archived["archive_status_history"]]
    assert 409 == again.status_code
    assert {"message": "no job"} == hidden
    assert {"active": 0, "archived": 1, "all": 1} == listed
    assert ["Active", "Archived", "Active"] == [line["name"] for line in restored["archive_status_history"]]
    assert job_id == project.agent.next_job(agent_id)["id"]
