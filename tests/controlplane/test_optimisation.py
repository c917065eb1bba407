"""The prompt-optimisation dialect: its calls, its fourteen keys, and how it says no."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import requests
from plane_calls import Api, Project
from test_dialects import make_dataset, make_in_optimisation, root

from overmind_controlplane.optimisation.records import read_progress

VERSION = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
KEYS = {
    "job_id", "status", "prompt_template_id", "original_version_id", "optimized_version_id", "test_run_id",
    "comparison_id", "run_test_after_optimization", "changes_summary", "error_message", "data_sources_used",
    "created_at", "completed_at", "progress",
}  # fmt: skip
NEVER_NULL = {
    "job_id", "status", "prompt_template_id", "original_version_id", "run_test_after_optimization", "created_at",
}  # fmt: skip
SUMMARY = {
    "job_id", "status", "prompt_template_id", "original_version_id", "created_at", "completed_at",
    "optimized_version_id",
}  # fmt: skip


def document(project: Project, job_id: str) -> Any:
    """The job as the dialect shows it."""
    return project.submit.read("GET", f"{root(project)}/{job_id}")


def parameters(project: Project, job_id: str) -> Any:
    """The job's parameters as an agent gets them."""
    revision = project.agent.job(job_id)["file"]["revisions"][-1]
    return json.loads(project.agent.get_blob(revision["content_token"]["sha"]))


def test_a_job_is_accepted_and_waits_for_an_agent(project: Project) -> None:
    dataset_id = make_dataset(project)
    body = {"prompt_template_version_id": VERSION, "dataset_id": dataset_id}

    made = project.submit.read("POST", root(project), body, status=202)

    assert {"job_id", "status", "created_at"} == set(made)
    assert "pending" == made["status"]
    shown = document(project, made["job_id"])
    assert KEYS == set(shown)
    assert NEVER_NULL == {name for name, value in shown.items() if value is not None}
    assert (VERSION, True) == (shown["original_version_id"], shown["run_test_after_optimization"])
    switches = ("use_best_practices", "use_labels", "use_customer_feedback", "run_test_after_optimization")
    expected = {**dict.fromkeys(switches, True), "user_instructions": None, **body}
    assert expected == parameters(project, made["job_id"])
    assert made["job_id"] == project.agent.next_job(project.agent.register())["id"]


@pytest.mark.parametrize(
    "switch", ["use_best_practices", "use_labels", "use_customer_feedback", "run_test_after_optimization"]
)
def test_a_switch_that_is_off_stays_off(project: Project, switch: str) -> None:
    body = {"prompt_template_version_id": VERSION, "dataset_id": make_dataset(project), switch: False}

    job_id = project.submit.read("POST", root(project), body, status=202)["job_id"]

    assert parameters(project, job_id)[switch] is False
    assert document(project, job_id)["run_test_after_optimization"] is (switch != "run_test_after_optimization")


def test_the_datasets_rows_are_the_jobs_input(project: Project) -> None:
    job = project.agent.job(make_in_optimisation(project))

    model = project.agent.read("GET", f"/api/v2/models/{job['model_id']}")
    content = project.agent.get_blob(model["file"]["revisions"][-1]["content_token"]["sha"])

    rows = [json.loads(line) for line in content.splitlines()]
    assert "model" == job["input"]
    assert [({"text": "good"}, "positive"), ({"text": "bad"}, None)] == [
        (row["input"], row["expected_output"]) for row in rows
    ]


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (b"Say yes or no.", "Say yes or no."),
        (b'[{"role": "system", "content": "x"}]', [{"role": "system", "content": "x"}]),
    ],
)
def test_a_version_that_is_an_uploaded_file_is_the_prompt(project: Project, content: bytes, prompt: Any) -> None:
    version = project.submit.make_model(content, "prompt.txt")["id"]
    body = {"prompt_template_version_id": version, "dataset_id": make_dataset(project)}

    job_id = project.submit.read("POST", root(project), body, status=202)["job_id"]

    assert prompt == parameters(project, job_id)["prompt"]


WRONG = [
    ({}, "dataset_id"),
    ({"prompt_template_version_id": "x"}, "prompt_template_version_id"),
    ({"prompt_template_version_id": None}, "prompt_template_version_id"),
    ({"use_labels": "yes"}, "use_labels"),
    ({"use_labels": None}, "use_labels"),
    ({"user_instructions": 5}, "user_instructions"),
    ({"parameters": []}, "parameters"),
    ({"temperature": 1}, "temperature"),
]


@pytest.mark.parametrize(("told", "named"), WRONG)
def test_a_wrong_request_is_400_with_a_message(project: Project, told: dict[str, Any], named: str) -> None:
    body = {"prompt_template_version_id": VERSION, "dataset_id": make_dataset(project), **told} if told else {}

    refused = project.submit.read("POST", root(project), body, status=400)

    assert ["message"] == list(refused)
    assert named in refused["message"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"dataset_id": NaN}'])
def test_a_body_that_is_no_object_is_400_with_a_message(project: Project, raw: bytes) -> None:
    answer = project.submit.call("POST", root(project), raw)

    assert (400, ["message"]) == (answer.status_code, list(answer.json()))


def test_what_is_not_there_is_404_with_a_message(project: Project, stranger: Project) -> None:
    body = {"prompt_template_version_id": VERSION, "dataset_id": make_dataset(stranger)}
    job_id = make_in_optimisation(project)
    inference = project.submit.make_job()["id"]

    answers = [
        project.submit.call("POST", root(project), body),
        project.submit.call("GET", root(stranger)),
        project.submit.call("GET", f"{root(project)}/{VERSION}"),
        project.submit.call("GET", f"{root(project)}/x"),
        project.submit.call("GET", f"{root(project)}/{inference}"),
        stranger.submit.call("GET", f"{root(stranger)}/{job_id}"),
        stranger.submit.call("POST", f"{root(stranger)}/{job_id}/cancel"),
        project.submit.call("GET", "/api/v2/projects/x/nothing"),
    ]

    assert [(404, ["message"])] * len(answers) == [(one.status_code, list(one.json())) for one in answers]


def test_a_stranger_and_a_wrong_role_are_told_so_in_a_message(project: Project) -> None:
    job_id = make_in_optimisation(project)
    path = f"{project.url}{root(project)}/{job_id}"

    nobody = requests.get(path, timeout=10)
    agent = project.agent.call("POST", f"{root(project)}/{job_id}/cancel")

    assert (401, ["message"]) == (nobody.status_code, list(nobody.json()))
    assert (403, ["message"]) == (agent.status_code, list(agent.json()))


def test_a_list_is_newest_first_and_in_pages(project: Project) -> None:
    job_ids = [project.submit.make_job({}, "@overmind:prompt_tuning")["id"] for _ in range(3)]
    project.submit.make_job({}, "@overmind:inference")
    project.submit.cancel(job_ids[0])
    path = root(project)

    whole = project.submit.read("GET", path)
    second = project.submit.read("GET", path, params={"page": 2, "page_size": 2})
    found = {
        said: [job["job_id"] for job in project.submit.read("GET", path, params={"status": said})["data"]]
        for said in ("pending", "cancelled", "canceled", "failed")
    }

    assert job_ids[::-1] == [job["job_id"] for job in whole["data"]]
    assert {frozenset(SUMMARY)} == {frozenset(job) for job in whole["data"]}
    assert {"page": 1, "page_size": 50, "total": 3, "total_pages": 1, "has_next": False} == whole["pagination"]
    assert job_ids[:1] == [job["job_id"] for job in second["data"]]
    assert {"page": 2, "page_size": 2, "total": 3, "total_pages": 2, "has_next": False} == second["pagination"]
    assert {
        "pending": job_ids[:0:-1],
        "cancelled": job_ids[:1],
        "canceled": job_ids[:1],
        "failed": [],
    } == found


@pytest.mark.parametrize(
    "query", [{"page": 0}, {"page": "x"}, {"page_size": 201}, {"page_size": 0}, {"status": "open"}]
)
def test_a_wrong_query_is_400_with_a_message(project: Project, query: dict[str, Any]) -> None:
    assert ["message"] == list(project.submit.read("GET", root(project), params=query, status=400))


@pytest.mark.parametrize(
    ("to", "status", "answer"),
    [("Pending", "cancelled", 200), ("Running", "cancelled", 200), ("Completed", "completed", 400)],
)
def test_only_a_job_that_is_not_over_can_be_cancelled(project: Project, to: str, status: str, answer: int) -> None:
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    if to != "Pending":
        project.agent.walk(job_id, project.agent.register(), to)

    first = project.submit.call("POST", f"{root(project)}/{job_id}/cancel")
    again = project.submit.call("POST", f"{root(project)}/{job_id}/cancel")

    assert (answer, answer) == (first.status_code, again.status_code)
    assert status == document(project, job_id)["status"]
    assert (["message"] if answer == 400 else ["job_id", "status", "created_at"]) == list(first.json())


def test_equal_prompts_have_equal_ids_and_others_have_others(project: Project) -> None:
    told = [{"prompt": "a"}, {"prompt": "a", "seed": 1}, {"prompt": "b"}]

    ids = [
        document(project, project.submit.make_job(one, "@overmind:prompt_tuning")["id"])["original_version_id"]
        for one in told
    ]

    assert ids[0] == ids[1] != ids[2]
    assert ids == [str(uuid.UUID(one)) for one in ids]


def test_jobs_of_one_slug_have_one_template(project: Project) -> None:
    bodies = [{"job_type": "prompt_tuning", "prompt_slug": slug} for slug in ("triage", "triage", "other")]

    ids = [
        document(project, project.submit.read("POST", "/api/jobs/", body, status=201)["id"])["prompt_template_id"]
        for body in bodies
    ]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("outcome", "has_version"),
    [
        ({"promoted": False, "optimized_version_id": VERSION, "changes_summary": "no gain"}, False),
        ({"promoted": False, "best_agent_code": "the original"}, False),
        ({"promoted": True, "best_agent_code": "a better prompt"}, True),
        ({"optimized_version_id": VERSION}, True),
        ({"optimized_version_id": "not an id"}, False),
        ({}, False),
    ],
)
def test_no_version_is_named_when_none_was_promoted(
    project: Project, outcome: dict[str, Any], has_version: bool
) -> None:
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    agent_id = project.agent.register()
    project.agent.walk(job_id, agent_id, "Uploading")

    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": outcome}})
    shown = document(project, job_id)

    assert has_version is (shown["optimized_version_id"] is not None)
    assert ("completed", outcome.get("changes_summary")) == (shown["status"], shown["changes_summary"])


PROGRESS = [
    (
        '[4/9] iteration 2 of 5 {"step":4,"total_steps":9,"step_name":"iteration 2 of 5","usd":[0.41,2.0]}',
        {"step": 4, "total_steps": 9, "step_name": "iteration 2 of 5"},
    ),
    ('{"step":0,"total_steps":1,"step_name":""}', {"step": 0, "total_steps": 1, "step_name": ""}),
    ("[1/6] baseline", {"step": 1, "total_steps": 6, "step_name": "baseline"}),
    ("[1/6] uses {braces}", {"step": 1, "total_steps": 6, "step_name": "uses"}),
    ('[1/6] x {"step":true,"total_steps":6,"step_name":"x"}', {"step": 1, "total_steps": 6, "step_name": "x"}),
    ('{"step":1,"total_steps":6}', None),
    ("running", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("message", "expected"), PROGRESS)
def test_a_progress_line_is_read_from_either_half(message: str | None, expected: Any) -> None:
    assert expected == read_progress(message)


def test_the_message_of_running_is_progress_where_no_heartbeat_tells_more(project: Project) -> None:
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Validating")

    project.agent.say(job_id, "Running", agent_id, body={"message": PROGRESS[0][0]})
    by_message = document(project, job_id)["progress"]
    later = {"step": 5, "total_steps": 9, "step_name": "iteration 3 of 5"}
    project.agent.heartbeat(agent_id, (job_id, 1), progress=later)

    assert PROGRESS[0][1] == by_message
    assert later == document(project, job_id)["progress"]


def test_a_long_summary_is_cut(submitter: Api, project: Project) -> None:
    body = {"job_type": "prompt_tuning", "status": "completed", "result": {"changes_summary": "x" * 2000}}
    job_id = submitter.read("POST", "/api/jobs/", body, status=201)["id"]

    assert 1500 == len(document(project, job_id)["changes_summary"])
