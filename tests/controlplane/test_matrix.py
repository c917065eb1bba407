"""
Every route with every kind of caller, both generated: the routes from the application, the callers from this list.

| caller | answer |
|---|---|
| without a token, with garbage, expired, revoked | 401 in the shape of the dialect |
| of another project | 404, exactly as for a thing that is not there; lists are empty |
| of a wrong role | 403 |
| the right one | anything but 401, 403 and 500 |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import APIRouter
from plane_calls import Api, Project
from sqlalchemy import select

from overmind_controlplane.access import make_token, revoke
from overmind_controlplane.answering import error_bodies
from overmind_controlplane.caller import Role
from overmind_controlplane.plane import open_database
from overmind_controlplane.record import tables
from overmind_controlplane.record.database import Database
from overmind_controlplane.serving.app import ROUTERS
from overmind_controlplane.serving.roles import EVERYBODY, UndeclaredRole, allowed, must_be_declared, routes_of
from server import ControlPlaneProcess

NOBODY = "00000000-0000-4000-8000-000000000000"
IN_PATH = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Call:
    """A route and one of its verbs."""

    verb: str
    path: str
    roles: frozenset[Role]

    @property
    def named(self) -> str:
        """How tests and the tables below call it."""
        return f"{self.verb} {self.path}"


def calls() -> Iterator[Call]:
    """Every call that needs a token."""
    for route in routes_of(*ROUTERS):
        if (roles := allowed(route)) is not None:
            yield from (Call(verb, route.path, roles) for verb in sorted(route.methods or ()))


CALLS = list(calls())

# What a call must say besides its path, to get as far as the thing that the path names.
QUERIES: dict[str, dict[str, Any]] = {
    "POST /api/v2/models/{model_id}/jobs": {"function_name": "x"},
    "PUT /api/v2/jobs/{job_id}/status": {"status_name": "Canceled"},
    "PUT /api/v2/jobs/{job_id}/logs": {"offset": 0},
    "GET /api/v2/tokens/multipart-upload": {"sha": "0" * 96, "upload_id": NOBODY},
    **{f"GET {path}/live": {"wait_s": 0} for path in ("/jobs", "/jobs/{job_id}", "/agents")},
}
AN_AGENT = {"agent_version": "1.0", "host_os": "Debian"}
A_JOB = {"iteration_name": "theirs", "job": NOBODY}
BODIES: dict[str, Any] = {
    "POST /api/v2/agents": AN_AGENT,
    "PUT /api/v2/agents/{agent_id}": AN_AGENT,
    "PUT /api/v2/agents/{agent_id}/display_name": {"display_name": "theirs"},
    "PUT /api/v2/agents/{agent_id}/modules": [],
    "PUT /api/v2/agents/{agent_id}/status": {"name": "Idle"},
    "POST /api/v2/agents/{agent_id}/heartbeat": {"slots": 1},
    "POST /api/v2/agents/{agent_id}/reports": {
        "reports": [{"job_id": "{job_id}", "status_name": "Validating", "attempt": 1, "sequence": 1}]
    },
    "PUT /api/v2/jobs/{job_id}/assigned_agent": {"agent_id": NOBODY},
    "PATCH /api/jobs/{job_id}/": {"prompt_slug": "theirs"},
    "PUT /api/jobs/{job_id}/": {"prompt_slug": "theirs"},
    "PATCH /api/job-iterations/{iteration_id}/": {"description": "theirs"},
    "PUT /api/job-iterations/{iteration_id}/": A_JOB,
    "POST /api/job-iterations/": A_JOB,
    "PATCH /api/agents/{agent_id}/": {"name": "theirs"},
    "PUT /api/agents/{agent_id}/": {"name": "theirs", "slug": "theirs", "project": "{project_id}"},
    "POST /api/v2/tokens/multipart-upload": {"sha": "0" * 96, "num_parts": 1},
    "PUT /api/v2/tokens/multipart-upload": {"action": "cancel", "sha": "0" * 96, "upload_id": NOBODY},
    "PUT /api/v2/access/{subject_type}/{subject_id}/{resource_type}/{resource_id}": {"relation": "owner"},
    "POST /api/v2/projects/{project_id}/prompt-optimization-jobs": {
        "prompt_template_version_id": NOBODY,
        "dataset_id": NOBODY,
    },
}
A_RELATION = {
    "subject_type": "user",
    "subject_id": "u",
    "relation": "viewer",
    "resource_type": "job",
    "resource_id": "{job_id}",
}
BODIES |= {
    "POST /api/v2/access": A_RELATION,
    "POST /api/v2/bulk/access": [A_RELATION],
    "PATCH /api/v2/jobs/{job_id}/access": A_RELATION,
    "PATCH /api/v2/models/{model_id}/access": A_RELATION,
    "PATCH /api/v2/artifacts/{artifact_id}/access": A_RELATION,
}
# Bodies that describe an uploaded file.
REVISIONS = {
    "POST /api/v2/models",
    "PUT /api/v2/models/{model_id}",
    "POST /api/v2/models/{model_id}/jobs",
    "POST /api/v2/models/{model_id}/artifacts",
    "PUT /api/v2/artifacts/{artifact_id}",
    "PUT /api/v2/jobs/{job_id}",
}
SEVERAL = "POST /api/v2/models/{model_id}/artifacts/together"
# What names nothing in its path that a project owns: a stranger makes or sees things of its own.
FREE = {
    "GET /api/v2/tokens/{sha}/upload-url",
}
# Roles that are asked for by what the call says, not by its path.
NARROWER: dict[str, frozenset[Role]] = {
    "PUT /api/v2/jobs/{job_id}/status": frozenset({Role.SUBMIT, Role.ADMIN}),
}


def things(project: Project) -> dict[str, str]:
    """One of each: what stands in paths, by its name there. `agent_id` is a worker's or a target agent's."""
    api = project.submit
    job = api.make_job({}, "@overmind:prompt_tuning")
    agent_id = project.agent.register(modules=[("none", "0")])
    project.agent.read("PUT", f"/api/v2/agents/{agent_id}/display_name", {"display_name": "one"})
    body = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    artifact = project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)
    iteration = api.read("POST", "/api/job-iterations/", A_JOB | {"job": job["id"]}, status=201)
    told = {"name": "a", "slug": "a", "project": project.tokens.project_id}
    target = api.read("POST", "/api/agents/", told, status=201)
    points = {"agent": target["id"], "datapoints": [{"input": 1}]}
    dataset = api.read("POST", "/api/datasets/", points, status=201)
    api.read("POST", "/api/v2/access", {**A_RELATION, "resource_id": job["id"]})
    return {
        "project_id": project.tokens.project_id,
        "job_id": job["id"],
        "model_id": job["model_id"],
        "agent_id": agent_id,
        "target_agent_id": target["id"],
        "artifact_id": artifact["id"],
        "iteration_id": iteration["id"],
        "dataset_id": dataset["id"],
        "sha": body["content_token"]["sha"],
        "subject_type": "user",
        "subject_id": "u",
        "resource_type": "job",
        "resource_id": job["id"],
    }


def path_of(call: Call, made: dict[str, str]) -> str:
    """The call's path, naming *made*."""
    target = made | {"agent_id": made["target_agent_id"]} if call.path.startswith("/api/agents/") else made
    return call.path.format(**target)


def send(api: Api, call: Call, made: dict[str, str], upload: Any = None, body: Any = None) -> Any:
    """The call with all that it must say."""
    told = body if body is not None else BODIES.get(call.named)
    if call.named in REVISIONS:
        told = upload
    if call.named == SEVERAL:
        told = {"artifacts": [{**upload, "key": "k"}]} if upload else None
    if isinstance(told, dict | list):
        told = json.dumps(told)
        for name in ("project_id", "job_id"):
            told = told.replace("{" + name + "}", made[name])
        told = told.encode()
    return api.call(call.verb, path_of(call, made), told, params=QUERIES.get(call.named))


def shape(path: str, answer: Any) -> list[str]:
    """The keys of a refusal, and those that the dialect of *path* has."""
    return [sorted(answer.json()), ["message"] if error_bodies.is_optimisation(path) else ["detail"]]


@pytest.fixture
def database(plane: ControlPlaneProcess) -> Iterator[Database]:
    """The server's own database."""
    opened = open_database(plane.data, plane.database_url)
    yield opened
    opened.close()


def test_no_token_garbage_expired_and_revoked_are_401_on_every_route(
    project: Project, plane: ControlPlaneProcess, database: Database
) -> None:
    made = things(project)
    secrets = {"none": None, "garbage": "ovr_garbage", "expired": "", "revoked": ""}
    with database.write() as session:
        name = next(iter(project_names(session, project)))
        secrets["expired"], _ = make_token(session, name, Role.ADMIN, expires_days=-1)
        secrets["revoked"], token = make_token(session, name, Role.ADMIN)
        revoke(session, token.id)

    answers = {}
    for kind, secret in secrets.items():
        api = Api(plane.url, secret)
        for call in CALLS:
            answer = send(api, call, made, body=b"not json")
            seen, expected = shape(call.path, answer)
            if answer.status_code != 401 or seen != expected or "WWW-Authenticate" not in answer.headers:
                answers[kind, call.named] = (answer.status_code, seen)
        api.close()

    assert {} == answers


def project_names(session: Any, project: Project) -> Iterator[str]:
    """The project's name, by which tokens are made."""
    yield from session.scalars(select(tables.Project.name).where(tables.Project.id == project.tokens.project_id))


def test_a_token_ends_with_the_call_that_revokes_it(
    project: Project, plane: ControlPlaneProcess, database: Database
) -> None:
    with database.write() as session:
        secret, token = make_token(session, next(iter(project_names(session, project))), Role.SUBMIT)
    api = Api(plane.url, secret)

    before = api.call("GET", "/api/v2/jobs").status_code
    with database.write() as session:
        revoke(session, token.id)
    after = api.call("GET", "/api/v2/jobs").status_code
    api.close()

    assert (200, 401) == (before, after)


def test_a_wrong_role_is_403_on_every_route_and_a_right_one_is_not(project: Project) -> None:
    made = things(project)
    apis = {Role.SUBMIT: project.submit, Role.AGENT: project.agent, Role.ADMIN: project.admin}
    wrong = dict.fromkeys(made, NOBODY) | {"project_id": made["project_id"], "sha": made["sha"]}

    answers = {}
    for call in CALLS:
        roles = NARROWER.get(call.named, call.roles)
        for role, api in apis.items():
            # Things that are not there, and a body that is none: what is allowed does no harm.
            answer = send(
                api, call, wrong if call.verb != "GET" else made, body=b"not json" if role in roles else None
            )
            if call.named in NARROWER:
                answer = send(api, call, made)
            if (answer.status_code == 403) is (role in roles) or answer.status_code in (401, 500):
                answers[call.named, role] = answer.status_code

    assert {} == answers


def test_another_projects_things_are_404_on_every_route(project: Project, stranger: Project) -> None:
    made = things(project)
    nothing = dict.fromkeys(made, NOBODY) | {name: made[name] for name in ("subject_type", "subject_id", "sha")}
    nothing |= {"resource_type": "job", "sha": "0" * 96}
    upload = stranger.submit.upload(b"{}", "rows.json")

    answers = {}
    for call in CALLS:
        if not IN_PATH.search(call.path) or call.named in FREE:
            continue
        theirs = send(stranger.admin, call, made, upload)
        unknown = send(stranger.admin, call, nothing | {"project_id": stranger.tokens.project_id}, upload)
        if theirs.status_code != 404 or ("project" not in call.path and masked(theirs) != masked(unknown)):
            answers[call.named] = (theirs.status_code, theirs.text, unknown.text)

    assert {} == answers
    assert "Pending" == project.submit.status(made["job_id"])


def masked(answer: Any) -> tuple[int, str]:
    """An answer without the ids that were asked for."""
    return answer.status_code, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "…", answer.text)


def test_another_projects_things_are_in_no_list(project: Project, stranger: Project) -> None:
    things(project)

    listed = {
        call.path: stranger.admin.read("GET", call.path)
        for call in CALLS
        if call.verb == "GET"
        and call.path.startswith("/api/")
        and not IN_PATH.search(call.path)
        and call.path.count("/") <= 3
    }

    totals = {
        path: page.get("total", page.get("count"))
        for path, page in listed.items()
        if "next" in page or "pages" in page
    }
    assert {
        "/api/v2/agents": 0,
        "/api/v2/artifacts": 0,
        "/api/v2/jobs": 0,
        "/api/v2/models": 0,
        "/api/agents/": 0,
        "/api/datasets/": 0,
        "/api/job-iterations/": 0,
        "/api/jobs/": 0,
    } == totals


def test_a_route_that_does_not_say_who_may_call_it_is_refused_at_the_start() -> None:
    router = APIRouter()
    router.add_api_route("/secret", lambda: None)
    outer = APIRouter()
    outer.include_router(router)

    with pytest.raises(UndeclaredRole, match="GET /secret does not say"):
        must_be_declared(outer)


def test_every_route_declares_something() -> None:
    declared = {(verb, route.path): allowed(route) for route in routes_of(*ROUTERS) for verb in route.methods or ()}

    visit = {
        ("GET", "/"),
        ("GET", "/static/{name}"),
        ("GET", "/docs"),
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
        ("POST", "/sign-out"),
    }
    assert {("GET", "/health"), ("GET", "/blobs/{sha}"), ("PUT", "/blobs/{sha}")} | visit == {
        (verb, path) for (verb, path), roles in declared.items() if roles is None and not is_redirect(path)
    }
    assert EVERYBODY == declared["GET", "/api/v2/jobs/{job_id}"]
    assert len(CALLS) >= 75  # lest nothing be walked


def is_redirect(path: str) -> bool:
    """Whether a path of the jobs REST lacks its slash."""
    return path.startswith("/api/") and not path.startswith("/api/v2/") and not path.endswith("/")


def test_the_openapi_page_describes_every_route(project: Project) -> None:
    described = project.submit.read("GET", "/openapi.json")

    listed = {(verb.upper(), path) for path, verbs in described["paths"].items() for verb in verbs}
    expected = {(call.verb, call.path) for call in CALLS if call.path.startswith("/api/")}  # the page is for people
    references = set(json.dumps(described).split('"#/components/schemas/')[1:])
    assert set() == expected - listed
    assert {text.partition('"')[0] for text in references} <= set(described["components"]["schemas"])
    without_body = {
        (verb, path)
        for path, verbs in described["paths"].items()
        for verb, told in verbs.items()
        if verb in ("put", "patch", "post") and "requestBody" not in told
    }
    assert {
        ("put", "/blobs/{sha}"),
        ("put", "/api/v2/jobs/{job_id}/logs"),
        ("post", "/api/datasets/{dataset_id}/activate/"),
        ("post", "/api/v2/projects/{project_id}/prompt-optimization-jobs/{job_id}/cancel"),
    } == without_body
