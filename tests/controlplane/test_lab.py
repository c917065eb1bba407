"""The Overmind Lab dialect: its fields, its errors, its lists, and how it shares its records."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from plane_calls import Api, Project

INT64 = 2**63
AN_ID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"

LIST_FIELDS = {
    "id", "created_at", "updated_at", "agent", "analyzer_model", "baseline_score", "best_score", "improvement",
    "job_type", "num_iterations", "project", "prompt_slug", "status",
}  # fmt: skip
DETAIL_FIELDS = LIST_FIELDS | {
    "iterations", "triggered_by", "backtest_results", "best_agent_code", "report_markdown",
    "candidates_per_iteration", "celery_task_id", "data_source", "result",
}  # fmt: skip
NULLABLE = {"agent", "project", "triggered_by", "baseline_score", "best_score", "improvement"}
ANY_JSON = {"backtest_results", "result"}


def make(api: Api, **fields: Any) -> Any:
    """A job of this dialect."""
    return api.read("POST", "/api/jobs/", {"job_type": "inference", "status": "pending", **fields}, status=201)


def test_a_job_has_the_published_fields_and_the_user(submitter: Api) -> None:
    made = make(submitter)
    (listed,) = submitter.read("GET", "/api/jobs/")["results"]

    assert DETAIL_FIELDS | {"user"} == set(made)
    assert LIST_FIELDS | {"user"} == set(listed)
    assert isinstance(made["user"], int)
    assert made == submitter.read("GET", f"/api/jobs/{made['id']}/")


def test_a_job_without_a_target_agent_names_one_that_is_always_the_same(submitter: Api) -> None:
    first, second = make(submitter, agent=None), make(submitter)

    assert first["agent"] == second["agent"]
    assert first["agent"] == str(uuid.UUID(first["agent"]))
    assert 2 == submitter.read("GET", "/api/jobs/", params={"agent": first["agent"]})["count"]


WRONG = [
    ("agent", "x", "Must be a valid UUID."),
    ("agent", 5, "Must be a valid UUID."),
    ("project", AN_ID, f'Invalid pk "{AN_ID}" - object does not exist.'),
    ("triggered_by", "x", "A valid integer is required."),
    ("triggered_by", True, "A valid integer is required."),
    ("analyzer_model", "x" * 129, "Ensure this field has no more than 128 characters."),
    ("analyzer_model", 5, "Not a valid string."),
    ("baseline_score", "x", "A valid number is required."),
    ("best_score", True, "A valid number is required."),
    ("improvement", [], "A valid number is required."),
    ("best_agent_code", 5, "Not a valid string."),
    ("report_markdown", {}, "Not a valid string."),
    ("candidates_per_iteration", 1.5, "A valid integer is required."),
    ("num_iterations", "1", "A valid integer is required."),
    ("celery_task_id", "x" * 256, "Ensure this field has no more than 255 characters."),
    ("data_source", "", "This field may not be blank."),
    ("data_source", "x" * 21, "Ensure this field has no more than 20 characters."),
    ("job_type", "agent_discovery", None),
    ("prompt_slug", "x" * 256, "Ensure this field has no more than 255 characters."),
    ("status", "canceled", None),
    ("status", "partially_completed", None),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_a_wrong_field_is_400_and_names_itself(submitter: Api, field: str, value: Any, message: str | None) -> None:
    created = submitter.read("POST", "/api/jobs/", {field: value}, status=400)
    patched = submitter.read("PATCH", f"/api/jobs/{make(submitter)['id']}/", {field: value}, status=400)

    assert [field] == list(created)
    assert created == patched
    assert message is None or [message] == created[field]


def test_six_fields_and_any_json_take_null(submitter: Api) -> None:
    job_id = make(submitter)["id"]
    writable = DETAIL_FIELDS - {"id", "created_at", "updated_at", "iterations"}

    statuses = {
        field: submitter.call("PATCH", f"/api/jobs/{job_id}/", {field: None}).status_code for field in writable
    }

    assert {field: 200 if field in NULLABLE | ANY_JSON else 400 for field in writable} == statuses


def test_all_wrong_fields_are_named_at_once(submitter: Api) -> None:
    wrong = submitter.read("POST", "/api/jobs/", {"agent": "x", "data_source": "", "prompt_slug": None}, status=400)

    assert {"agent", "data_source", "prompt_slug"} == set(wrong)


def test_the_ends_of_every_limit_are_taken(submitter: Api) -> None:
    fields = {
        "analyzer_model": "x" * 128,
        "celery_task_id": "x" * 255,
        "data_source": "x" * 20,
        "prompt_slug": "x" * 255,
        "num_iterations": INT64 - 1,
        "candidates_per_iteration": -INT64,
        "triggered_by": 7,
        "baseline_score": 1,
        "best_score": -0.5,
        "backtest_results": ["any", {"json": None}],
        "report_markdown": "",
        "agent": AN_ID,
    }

    made = make(submitter, **fields)

    assert fields == {name: made[name] for name in fields}


@pytest.mark.parametrize("raw", [b"", b"{", b'{"best_score": NaN}', b'{"best_score": Infinity}', b'{"a":1,"a":2}'])
def test_what_is_not_json_is_400_with_a_detail(submitter: Api, raw: bytes) -> None:
    answer = submitter.call("POST", "/api/jobs/", raw)

    assert 400 == answer.status_code
    assert ["detail"] == list(answer.json())


def test_a_body_that_is_no_object_is_400(submitter: Api) -> None:
    assert ["non_field_errors"] == list(submitter.read("POST", "/api/jobs/", [], status=400))


def test_what_clients_send_beyond_the_fields_is_ignored(submitter: Api) -> None:
    made = make(submitter, id=AN_ID, user=99, iterations=[], created_at="2026-01-02T03:04:05+0000", logs="x")

    assert AN_ID != made["id"]
    assert 99 != made["user"]


def test_parameters_are_never_lost(submitter: Api) -> None:
    job_id = make(submitter, result={"parameters": {"a": 1}, "validation_stats": {"n": 3}})["id"]

    without = submitter.read("PATCH", f"/api/jobs/{job_id}/", {"result": {"validation_stats": {"n": 4}}})
    nothing = submitter.read("PATCH", f"/api/jobs/{job_id}/", {"result": None})

    assert {"parameters": {"a": 1}, "validation_stats": {"n": 4}} == without["result"]
    assert {"parameters": {"a": 1}} == nothing["result"]


def test_parameters_can_be_replaced_only_while_the_job_waits(project: Project) -> None:
    job_id = make(project.submit, result={"parameters": {"a": 1}})["id"]
    path = f"/api/jobs/{job_id}/"

    waiting = project.submit.read("PATCH", path, {"result": {"parameters": {"a": 2}}})
    project.agent.say(job_id, "Claimed", project.agent.register())
    claimed = project.submit.read("PATCH", path, {"result": {"parameters": {"a": 3}}})

    assert ({"a": 2}, {"a": 2}) == (waiting["result"]["parameters"], claimed["result"]["parameters"])


WORDS = ("pending", "running", "completed", "failed", "cancelled")
# What PATCH answers, by how the job stands (rows) and the word that is written (columns, in the order of WORDS).
WRITES = {
    "pending": (200, 200, 200, 200, 200),
    "running": (200, 200, 200, 200, 200),
    "completed": (409, 409, 200, 409, 409),
    "failed": (409, 409, 409, 200, 409),
    "cancelled": (409, 409, 409, 409, 200),
}


@pytest.mark.parametrize("present", WORDS)
def test_a_status_is_written_as_the_table_says(submitter: Api, present: str) -> None:
    answers, after = [], []
    for word in WORDS:
        job_id = make(submitter, status=present)["id"]
        answers.append(submitter.call("PATCH", f"/api/jobs/{job_id}/", {"status": word}).status_code)
        after.append(submitter.read("GET", f"/api/jobs/{job_id}/")["status"])

    assert WRITES[present] == tuple(answers)
    assert [word if code == 200 else present for word, code in zip(WORDS, answers, strict=True)] == after


def test_a_job_that_an_agent_holds_can_only_be_cancelled(project: Project) -> None:
    answers = {}
    for word in WORDS:
        job_id = make(project.submit)["id"]
        project.agent.say(job_id, "Claimed", project.agent.register())
        answers[word] = project.submit.call("PATCH", f"/api/jobs/{job_id}/", {"status": word}).status_code

    assert {"pending": 409, "running": 200, "completed": 409, "failed": 409, "cancelled": 200} == answers


def test_a_refused_status_leaves_every_field_as_it_was(submitter: Api) -> None:
    job_id = make(submitter, status="completed")["id"]

    submitter.read("PATCH", f"/api/jobs/{job_id}/", {"status": "pending", "prompt_slug": "new"}, status=409)

    assert "" == submitter.read("GET", f"/api/jobs/{job_id}/")["prompt_slug"]


def test_a_job_that_its_submitter_runs_is_offered_to_nobody(project: Project) -> None:
    job_id = make(project.submit, status="running")["id"]
    agent_id = project.agent.register()

    claim = project.agent.say(job_id, "Claimed", agent_id)

    assert {"message": "no job"} == project.agent.next_job(agent_id)
    assert (409, "claim_taken") == (claim.status_code, claim.json()["code"])


def test_a_deleted_job_is_gone_in_both_dialects(project: Project) -> None:
    job_id = make(project.submit)["id"]

    deleted = project.submit.call("DELETE", f"/api/jobs/{job_id}/")

    assert (204, b"") == (deleted.status_code, deleted.content)
    assert 404 == project.submit.call("GET", f"/api/jobs/{job_id}/").status_code
    assert 404 == project.submit.call("GET", f"/api/v2/jobs/{job_id}").status_code
    assert {"message": "no job"} == project.agent.next_job(project.agent.register())


# ------------------------------------------------------------------------------------------------- lists


@pytest.fixture
def listed(project: Project) -> Project:
    """Three jobs, told apart by every filter."""
    make(project.submit, prompt_slug="triage", analyzer_model="m-1", data_source="dataset", best_score=10.0)
    make(project.submit, prompt_slug="triage", job_type="prompt_tuning", best_score=50.0, agent=AN_ID)
    make(project.submit, prompt_slug="50%_off", status="running", job_type="judge_scoring", best_score=90.0)
    return project


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 3),
        ({"prompt_slug": "triage"}, 2),
        ({"analyzer_model": "m-1"}, 1),
        ({"data_source": "dataset"}, 1),
        ({"job_type": "judge_scoring"}, 1),
        ({"status": "pending"}, 2),
        ({"status": "running"}, 1),
        ({"status": "completed"}, 0),
        ({"agent": AN_ID}, 1),
        ({"project": AN_ID}, 0),
        ({"score_min": "50"}, 2),
        ({"score_max": "50"}, 2),
        ({"score_min": "20", "score_max": "60"}, 1),
        ({"search": "TRIAGE"}, 2),
        ({"search": "%"}, 1),
        ({"search": "triage tuning"}, 1),
        ({"created_after": "2020-01-02T03:04:05.000000+0000"}, 3),
        ({"created_before": "2020-01-02T03:04:05Z"}, 0),
        ({"created_after": "2999-01-01"}, 0),
    ],
)
def test_a_filter_keeps_what_it_says(listed: Project, query: dict[str, str], count: int) -> None:
    assert count == listed.submit.read("GET", "/api/jobs/", params=query)["count"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "open"}, "status"),
        ({"job_type": "x"}, "job_type"),
        ({"agent": "x"}, "agent"),
        ({"score_min": "NaN"}, "score_min"),
        ({"score_max": "much"}, "score_max"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"ordering": "best_agent_code"}, "ordering"),
    ],
)
def test_a_wrong_filter_is_400_and_names_itself(submitter: Api, query: dict[str, str], field: str) -> None:
    assert [field] == list(submitter.read("GET", "/api/jobs/", params=query, status=400))


@pytest.mark.parametrize(
    ("ordering", "scores"),
    [
        ("best_score", [10.0, 50.0, 90.0]),
        ("-best_score", [90.0, 50.0, 10.0]),
        ("created_at", [10.0, 50.0, 90.0]),
        ("prompt_slug,-best_score", [90.0, 50.0, 10.0]),
        (None, [90.0, 50.0, 10.0]),
    ],
)
def test_a_list_is_in_the_order_that_was_asked_for(
    listed: Project, ordering: str | None, scores: list[float]
) -> None:
    rows = listed.submit.read("GET", "/api/jobs/", params={"ordering": ordering})["results"]

    assert scores == [row["best_score"] for row in rows]


def test_pages_are_followed_by_their_links(listed: Project) -> None:
    first = listed.submit.read("GET", "/api/jobs/", params={"page_size": 2})
    second = listed.submit.read("GET", first["next"].removeprefix(listed.url))
    beyond = listed.submit.read("GET", "/api/jobs/", params={"page": 9}, status=404)

    assert (3, 2, None) == (first["count"], len(first["results"]), first["previous"])
    assert (3, 1, None) == (second["count"], len(second["results"]), second["next"])
    assert second["previous"].startswith(listed.url)
    assert {"detail": "Invalid page."} == beyond


# -------------------------------------------------------------------------------------------- iterations


def test_an_iteration_has_all_verbs(submitter: Api) -> None:
    job_id = make(submitter)["id"]
    told = {"job": job_id, "iteration_name": "iter_001", "avg_score": 71.5, "order": 1, "status": "keep"}
    told |= {"agent_code": "print()", "description": "d", "dimension_scores": {"avg_a": 1}}

    made = submitter.read("POST", "/api/job-iterations/", told, status=201)
    path = f"/api/job-iterations/{made['id']}/"
    patched = submitter.read("PATCH", path, {"status": "discard"})
    put = submitter.read("PUT", path, {"job": job_id, "iteration_name": "renamed"})
    shown = submitter.read("GET", f"/api/jobs/{job_id}/")["iterations"]
    found = submitter.read("GET", "/api/job-iterations/", params={"job": job_id, "score_min": 71})
    deleted = submitter.call("DELETE", path)

    assert told == {name: made[name] for name in told}
    assert {"id", "created_at", "user", *told} == set(made)
    assert ("discard", "renamed") == (patched["status"], put["iteration_name"])
    assert [put] == shown == found["results"]
    assert (204, 404) == (deleted.status_code, submitter.call("GET", path).status_code)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"iteration_name": None}, "iteration_name"),
        ({"iteration_name": ""}, "iteration_name"),
        ({"iteration_name": "x" * 65}, "iteration_name"),
        ({"job": AN_ID}, "job"),
        ({"job": "x"}, "job"),
        ({"avg_score": "x"}, "avg_score"),
        ({"status": "kept"}, "status"),
        ({"order": 1.5}, "order"),
    ],
)
def test_a_wrong_iteration_is_400_and_names_its_field(submitter: Api, told: dict[str, Any], field: str) -> None:
    whole = {"job": make(submitter)["id"], "iteration_name": "x"}

    assert [field] == list(submitter.read("POST", "/api/job-iterations/", whole | told, status=400))


def test_an_iteration_needs_a_name_and_a_job(submitter: Api) -> None:
    wrong = submitter.read("POST", "/api/job-iterations/", {}, status=400)

    assert {name: ["This field is required."] for name in ("iteration_name", "job")} == wrong


# ------------------------------------------------------------------------------------- both dialects


def test_health_needs_no_token(project: Project) -> None:
    nobody = Api(project.url, None)

    assert {"status": "healthy"} == nobody.read("GET", "/health")
    nobody.close()


def test_who_one_is_is_the_user_of_ones_jobs(submitter: Api) -> None:
    me = submitter.read("GET", "/api/auth/me/")

    made = make(submitter)
    assert {"id", "email", "email_verified", "project"} == set(me)
    assert (me["id"], me["project"]) == (made["user"], made["project"])


def test_a_path_without_its_slash_is_redirected_for_get_and_refused_for_the_rest(submitter: Api) -> None:
    got = submitter.call("GET", "/api/jobs?page=1", allow_redirects=False)
    posted = submitter.call("POST", "/api/jobs", {})

    assert (301, "/api/jobs/?page=1") == (got.status_code, got.headers["Location"])
    assert (404, ["detail"]) == (posted.status_code, list(posted.json()))


def test_a_job_made_here_is_claimed_there_and_its_outcome_read_here(project: Project) -> None:
    job_id = make(project.submit, result={"parameters": {"target": "x"}, "validation_stats": {"n": 1}})["id"]
    agent_id = project.agent.register("lease")
    offered = project.agent.next_job(agent_id)
    content = project.agent.get_blob(offered["file"]["revisions"][-1]["content_token"]["sha"])
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    for sequence, status in enumerate(("Validating", "Running", "Uploading"), start=1):
        project.agent.say(job_id, status, agent_id, attempt=1, sequence=sequence)
    body = project.agent.upload(b"{}", "result.json", (offered["file"]["revisions"][-1]["id"],))
    artifact = project.agent.read("POST", f"/api/v2/models/{offered['model_id']}/artifacts", body)
    outcome = {"status": "improved", "best_score": 80, "baseline_score": 60.5, "improvement": 19.5}
    outcome |= {"report_markdown": "# Report", "best_agent_code": "x = 1", "backtest_results": {"m": 1}}
    project.agent.say(job_id, "Completed", agent_id, attempt=1, sequence=4, body={"detail": {"outcome": outcome}})

    read = project.submit.read("GET", f"/api/jobs/{job_id}/")

    assert (job_id, "none", "@overmind:inference") == (offered["id"], offered["input"], offered["function"]["name"])
    assert b'"target": "x"' in content
    assert "completed" == read["status"]
    assert {name: outcome[name] for name in outcome if name != "status"} == {
        name: read[name] for name in outcome if name != "status"
    }
    result = read["result"]
    assert ({"target": "x"}, {"n": 1}, "improved") == (
        result["parameters"],
        result["validation_stats"],
        result["status"],
    )
    assert [("result.json", 2, artifact["id"])] == [
        (file["name"], file["bytes"], file["ref"]) for file in result["files"]
    ]
    assert (agent_id, 1) == (result["agent_run"]["agent_id"], result["agent_run"]["attempt"])
    assert result["agent_run"]["started_at"] < result["agent_run"]["finished_at"]


def test_a_job_made_there_is_read_here(project: Project) -> None:
    job = project.submit.make_job({"rows": 3}, "@overmind:judge_scoring")
    project.submit.make_job(function="convert")

    listing = project.submit.read("GET", "/api/jobs/")
    read = project.submit.read("GET", f"/api/jobs/{job['id']}/")

    assert [job["id"]] == [row["id"] for row in listing["results"]]
    assert ("judge_scoring", "pending", {"parameters": {"rows": 3}}) == (
        read["job_type"],
        read["status"],
        read["result"],
    )


def test_a_model_named_as_items_file_is_the_jobs_input(project: Project) -> None:
    model = project.submit.make_model(b'[{"input": 1}]')

    made = make(project.submit, result={"parameters": {"items_file": model["id"]}})
    wrong = project.submit.read("POST", "/api/jobs/", {"result": {"parameters": {"items_file": AN_ID}}}, status=400)

    job = project.submit.job(made["id"])
    assert (model["id"], "model") == (job["model_id"], job["input"])
    assert ["result"] == list(wrong)


def test_a_failure_is_read_as_an_error(project: Project) -> None:
    job_id = make(project.submit)["id"]
    agent_id = project.agent.register()
    project.agent.say(job_id, "Claimed", agent_id)
    project.agent.say(
        job_id, "Failed", agent_id, body={"message": "target: missing", "detail": {"reason": "invalid_input"}}
    )

    read = project.submit.read("GET", f"/api/jobs/{job_id}/")

    assert "failed" == read["status"]
    assert [{"code": "invalid_input", "message": "target: missing", "retryable": False}] == read["result"]["errors"]


def test_a_cancel_here_reaches_the_holder_there(project: Project) -> None:
    job_id = make(project.submit)["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")

    project.submit.read("PATCH", f"/api/jobs/{job_id}/", {"status": "cancelled"})

    assert "cancel" == project.agent.heartbeat(agent_id, (job_id, 1), wait_s=10)["jobs"][0]["directive"]
