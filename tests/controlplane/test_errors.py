"""How the agent-pull dialect says no, and who may do what."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from plane_calls import Api, Project

from server import ControlPlaneProcess

NOBODY = "00000000-0000-4000-8000-000000000000"
AN_AGENT = {"agent_version": "1.0", "host_os": "Debian"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic dXNlcg=="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ovr_wrong"},
        {"Authorization": "Bearer " + "x" * 8000},
        {"X-Api-Key": "ovr_wrong"},
    ],
)
def test_a_call_without_a_good_token_is_401_with_a_detail(
    plane: ControlPlaneProcess, headers: dict[str, str]
) -> None:
    answers = [
        requests.get(plane.url + path, headers=headers, timeout=10) for path in ("/api/v2/jobs", "/api/jobs/")
    ]

    assert [401, 401] == [answer.status_code for answer in answers]
    assert [["detail"], ["detail"]] == [list(answer.json()) for answer in answers]


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Api-Key {}"])
def test_a_token_comes_in_any_of_three_ways(project: Project, form: str) -> None:
    headers = {"Authorization": form.format(project.tokens.submit)}

    by_scheme = requests.get(project.url + "/api/auth/me/", headers=headers, timeout=10)
    by_key = requests.get(project.url + "/api/auth/me/", headers={"X-Api-Key": project.tokens.submit}, timeout=10)

    assert (200, 200) == (by_scheme.status_code, by_key.status_code)
    assert by_scheme.json() == by_key.json()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "json_invalid"),
        (b"{", "json_invalid"),
        (b'{"agent_version": NaN, "host_os": "x"}', "json_invalid"),
        (b'{"agent_version": "1", "agent_version": "2", "host_os": "x"}', "json_invalid"),
        (b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", "json_invalid"),
        (b'{"agent_version": 1, "host_os": "x"}', "string_type"),
        (b'{"agent_version": "1"}', "missing"),
        (b'{"agent_version": "1", "host_os": "x", "status": "Idle"}', "extra_forbidden"),
        (b"[]", "model_type"),
    ],
)
def test_a_wrong_body_is_422_with_a_list(agent: Api, raw: bytes, kind: str) -> None:
    answer = agent.call("POST", "/api/v2/agents", raw)

    (problem,) = answer.json()["detail"]
    assert 422 == answer.status_code
    assert {"loc", "msg", "type"} == set(problem)
    assert (kind, "body") == (problem["type"], problem["loc"][0])


def test_a_refusal_does_not_repeat_what_was_sent(agent: Api) -> None:
    answer = agent.call("POST", "/api/v2/agents", {"agent_version": {"secret": "hunter2"}, "host_os": "x"})

    assert 422 == answer.status_code
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("path", "loc"),
    [
        ("/api/v2/jobs?page=0", ["query", "page"]),
        ("/api/v2/jobs?size=101", ["query", "size"]),
        ("/api/v2/jobs?page=x", ["query", "page"]),
        ("/api/v2/jobs?status_name=pending", ["query", "status_name"]),
        ("/api/v2/jobs?archive_status=some", ["query", "archive_status"]),
        ("/api/v2/tokens/xyz/upload-url", ["path", "sha"]),
        ("/api/v2/tokens/..%2f..%2fetc/download-url", None),
    ],
)
def test_a_wrong_query_names_itself(submitter: Api, path: str, loc: list[str] | None) -> None:
    answer = submitter.call("GET", path)

    if loc is None:
        assert 404 == answer.status_code
    else:
        assert 422 == answer.status_code
        assert loc == answer.json()["detail"][0]["loc"]


def test_a_body_over_the_limit_is_413(agent: Api) -> None:
    answer = agent.call("POST", "/api/v2/agents", b" " * (1 << 20) + b"{}")

    assert 413 == answer.status_code
    assert ["detail"] == list(answer.json())


def test_a_foreign_host_is_421(plane: ControlPlaneProcess) -> None:
    """A page in a browser of this machine may point a name of its own at 127.0.0.1."""
    port = plane.url.rpartition(":")[2]
    hosts = {"evil.example": 421, f"evil.example:{port}": 421, f"localhost:{port}": 200, "127.0.0.1": 200}

    answers = {
        host: requests.get(plane.url + "/health", headers={"Host": host}, timeout=10).status_code for host in hosts
    }

    assert hosts == answers


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/nothing", "/api/nothing/"])
def test_an_unknown_path_is_404_with_a_detail(submitter: Api, path: str) -> None:
    assert {"detail": "Not Found"} == submitter.read("GET", path, status=404)


def test_a_revision_whose_blob_is_missing_is_422(submitter: Api) -> None:
    body = submitter.upload(b"data", "rows.json")
    body["content_token"]["sha"] = "0" * 96

    answer = submitter.call("POST", "/api/v2/models", body)

    assert 422 == answer.status_code
    assert ["body", "content_token", "sha"] == answer.json()["detail"][0]["loc"]


def test_bytes_that_are_not_what_they_say_can_be_uploaded_again(submitter: Api) -> None:
    body = submitter.upload(b"right", "rows.json")
    other = submitter.upload(b"other", "rows.json")
    wrong = body | {"content_token": other["content_token"] | {"salt": "0" * 32}}

    answer = submitter.call("POST", "/api/v2/models", wrong)
    again = submitter.call("GET", f"/api/v2/tokens/{other['content_token']['sha']}/upload-url")

    assert 422 == answer.status_code
    assert 200 == again.status_code


def test_a_size_that_is_not_right_is_422(submitter: Api) -> None:
    answer = submitter.call("POST", "/api/v2/models", submitter.upload(b"data", "rows.json") | {"size": 5})

    assert (422, ["body", "size"]) == (answer.status_code, answer.json()["detail"][0]["loc"])


def test_a_source_that_is_not_there_is_422(submitter: Api) -> None:
    answer = submitter.call("POST", "/api/v2/models", submitter.upload(b"data", "rows.json", (NOBODY,)))

    assert 422 == answer.status_code
    assert ["body", "sources", 0, "revision_id"] == answer.json()["detail"][0]["loc"]


# ------------------------------------------------------------------------------------------------- roles

ALL = frozenset({"submit", "agent", "admin"})
SUBMIT = frozenset({"submit", "admin"})
AGENT = frozenset({"agent", "admin"})

ROUTES: list[tuple[str, str, frozenset[str]]] = [
    ("GET", "/api/v2/capabilities", ALL),
    ("POST", "/api/v2/agents", AGENT),
    ("GET", "/api/v2/agents", ALL),
    ("GET", "/api/v2/agents/{agent}", ALL),
    ("PUT", "/api/v2/agents/{agent}", AGENT),
    ("GET", "/api/v2/agents/{agent}/display_name", ALL),
    ("PUT", "/api/v2/agents/{agent}/display_name", AGENT),
    ("GET", "/api/v2/agents/{agent}/modules", ALL),
    ("PUT", "/api/v2/agents/{agent}/modules", AGENT),
    ("GET", "/api/v2/agents/{agent}/status", ALL),
    ("PUT", "/api/v2/agents/{agent}/status", AGENT),
    ("GET", "/api/v2/agents/{agent}/status/history", ALL),
    ("GET", "/api/v2/agents/{agent}/available_jobs", ALL),
    ("GET", "/api/v2/agents/{agent}/job", AGENT),
    ("POST", "/api/v2/agents/{agent}/heartbeat", AGENT),
    ("POST", "/api/v2/models", SUBMIT),
    ("GET", "/api/v2/models", ALL),
    ("GET", "/api/v2/models/{model}", ALL),
    ("PUT", "/api/v2/models/{model}", SUBMIT),
    ("GET", "/api/v2/models/{model}/jobs", ALL),
    ("POST", "/api/v2/models/{model}/jobs?function_name=x", SUBMIT),
    ("GET", "/api/v2/models/{model}/artifacts", ALL),
    ("POST", "/api/v2/models/{model}/artifacts", AGENT),
    ("GET", "/api/v2/artifacts", ALL),
    ("GET", "/api/v2/artifacts/{artifact}", ALL),
    ("PUT", "/api/v2/artifacts/{artifact}", AGENT),
    ("GET", "/api/v2/jobs", ALL),
    ("GET", "/api/v2/jobs/{job}", ALL),
    ("PUT", "/api/v2/jobs/{job}", SUBMIT),
    ("DELETE", "/api/v2/jobs/{job}", SUBMIT),
    ("POST", "/api/v2/jobs/{job}:restore", SUBMIT),
    ("PUT", "/api/v2/jobs/{job}/status?status_name=Canceled", SUBMIT),
    ("PUT", "/api/v2/jobs/{job}/status?status_name=Claimed&agent_id={agent}", AGENT),
    ("PUT", "/api/v2/jobs/{job}/assigned_agent", SUBMIT),
    ("DELETE", "/api/v2/jobs/{job}/assigned_agent", SUBMIT),
    ("GET", "/api/v2/jobs/{job}/logs", ALL),
    ("PUT", "/api/v2/jobs/{job}/logs?offset=0", AGENT),
    ("GET", "/api/v2/tokens/{sha}/upload-url", ALL),
    ("GET", "/api/v2/tokens/{sha}/download-url", ALL),
    ("POST", "/api/v2/tokens/multipart-upload", ALL),
    ("PUT", "/api/v2/tokens/multipart-upload", ALL),
    ("GET", "/api/auth/me/", ALL),
    ("GET", "/api/jobs/", ALL),
    ("POST", "/api/jobs/", SUBMIT),
    ("GET", "/api/jobs/{job}/", ALL),
    ("PATCH", "/api/jobs/{job}/", ALL),
    ("PUT", "/api/jobs/{job}/", ALL),
    ("DELETE", "/api/jobs/{job}/", SUBMIT),
    ("GET", "/api/job-iterations/", ALL),
    ("POST", "/api/job-iterations/", ALL),
    ("GET", "/api/job-iterations/{iteration}/", ALL),
    ("PATCH", "/api/job-iterations/{iteration}/", ALL),
    ("PUT", "/api/job-iterations/{iteration}/", ALL),
    ("DELETE", "/api/job-iterations/{iteration}/", ALL),
]

BODIES: dict[str, Any] = {
    "POST /api/v2/agents": AN_AGENT,
    "PUT /api/v2/agents/{agent}": AN_AGENT,
    "PUT /api/v2/agents/{agent}/display_name": {"display_name": "theirs"},
    "PUT /api/v2/agents/{agent}/modules": [],
    "PUT /api/v2/agents/{agent}/status": {"name": "Idle"},
    "POST /api/v2/agents/{agent}/heartbeat": {"slots": 1},
    "PUT /api/v2/jobs/{job}/assigned_agent": {"agent_id": NOBODY},
    "PATCH /api/jobs/{job}/": {"prompt_slug": "theirs"},
    "PUT /api/jobs/{job}/": {"prompt_slug": "theirs"},
    "PATCH /api/job-iterations/{iteration}/": {"description": "theirs"},
    "PUT /api/job-iterations/{iteration}/": {"iteration_name": "theirs", "job": NOBODY},
}

# What must be in the body is there already before the thing that the path names is looked for.
REVISION_ROUTES = {
    "PUT /api/v2/models/{model}",
    "POST /api/v2/models/{model}/jobs?function_name=x",
    "POST /api/v2/models/{model}/artifacts",
    "PUT /api/v2/artifacts/{artifact}",
    "PUT /api/v2/jobs/{job}",
}


def things(project: Project) -> dict[str, str]:
    """One of each: ids by name."""
    job = project.submit.make_job()
    agent_id = project.agent.register(modules=[("none", "0")])
    project.agent.read("PUT", f"/api/v2/agents/{agent_id}/display_name", {"display_name": "one"})
    body = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    artifact = project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)
    told = {"job": job["id"], "iteration_name": "first"}
    iteration = project.submit.read("POST", "/api/job-iterations/", told, status=201)
    return {
        "job": job["id"],
        "model": job["model_id"],
        "agent": agent_id,
        "artifact": artifact["id"],
        "iteration": iteration["id"],
        "sha": body["content_token"]["sha"],
    }


def test_a_role_may_call_what_it_is_for_and_nothing_else(project: Project) -> None:
    """Every route with every role: 403 exactly where the role does not cover it. Bodies are left out on purpose."""
    made = things(project)
    roles = {"submit": project.submit, "agent": project.agent, "admin": project.admin}

    forbidden, expected = set(), set()
    for verb, path, allowed in ROUTES:
        for role in sorted(ALL - allowed):
            expected.add((verb, path, role))
        for role in sorted(ALL):
            is_harmless = verb == "GET" or role not in allowed
            body = None if is_harmless else b"not json"
            target = path.format(**made) if is_harmless else path.format(**dict.fromkeys(made, NOBODY))
            if roles[role].call(verb, target, body).status_code == 403:
                forbidden.add((verb, path, role))

    assert expected == forbidden


def test_another_projects_things_are_not_there(project: Project, plane: ControlPlaneProcess) -> None:
    """Every route that names a thing: what belongs to someone else answers as what does not exist."""
    made = things(project)
    stranger = Project(plane.url, plane.new_project())
    upload = stranger.submit.upload(b"{}", "rows.json")

    answers = {}
    for verb, path, _ in ROUTES:
        if "{" not in path or path.endswith("upload-url"):
            continue
        body = upload if f"{verb} {path}" in REVISION_ROUTES else BODIES.get(f"{verb} {path}")
        answers[f"{verb} {path}"] = stranger.admin.call(verb, path.format(**made), body).status_code
    stranger.close()

    assert dict.fromkeys(answers, 404) == answers
    assert "Pending" == project.submit.status(made["job"])


def test_another_projects_things_are_in_no_list(project: Project, plane: ControlPlaneProcess) -> None:
    things(project)
    stranger = Project(plane.url, plane.new_project())

    paths = ("/api/v2/jobs", "/api/v2/models", "/api/v2/agents", "/api/v2/artifacts")
    totals = [stranger.admin.read("GET", path)["total"] for path in paths]
    counts = [stranger.admin.read("GET", path)["count"] for path in ("/api/jobs/", "/api/job-iterations/")]
    stranger.close()

    assert [0, 0, 0, 0, 0, 0] == totals + counts


def test_the_openapi_page_describes_every_route(project: Project) -> None:
    described = project.submit.read("GET", "/openapi.json")

    listed = {(verb.upper(), path) for path, verbs in described["paths"].items() for verb in verbs}
    named = {"agent": "agent_id", "job": "job_id", "model": "model_id", "artifact": "artifact_id"}
    named |= {"iteration": "iteration_id", "sha": "sha"}
    expected = {
        (verb, path.partition("?")[0].format(**{name: f"{{{field}}}" for name, field in named.items()}))
        for verb, path, _ in ROUTES
    }
    assert set() == expected - listed
    assert {"FileRevision", "NewAgent", "StatusBody", "Heartbeat"} <= set(described["components"]["schemas"])
    references = set(json.dumps(described).split('"#/components/schemas/')[1:])
    assert {text.partition('"')[0] for text in references} <= set(described["components"]["schemas"])
