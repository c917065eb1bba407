"""The two control planes that must not differ: the one in memory, and the real one behind HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from plane_calls import Project

from overmind_agent.lab.client import LabControlPlane, Shared
from overmind_agent.lab.host_results import HostResults
from overmind_agent.lifecycle import Status
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.client import HttpControlPlane
from overmind_agent.ports import ControlPlane
from overmind_agent.testing import FakeControlPlane, FakeServer, VirtualClock
from overmind_executors import strict_json
from server import ControlPlaneProcess, start_control_plane


class Scene(Protocol):
    """A project of a control plane, from the submitter's side."""

    def submit(self, parameters: Any = None, input_bytes: bytes | None = None) -> str:
        """A new job."""

    def cancel(self, job_id: str) -> None:
        """End it on request."""

    def history(self, job_id: str) -> list[Status]:
        """Every status that it had."""

    def files(self, job_id: str) -> list[tuple[str, bytes]]:
        """Its result files."""

    def log(self, job_id: str) -> bytes:
        """Its log."""

    def plane(self) -> ControlPlane:
        """A view of it for a new agent, registered."""

    def register_as(self, known_id: str | None) -> str:
        """Register as an agent that believes it is *known_id*."""


class InMemory:
    """FakeServer as a scene."""

    def __init__(self) -> None:
        self._server = FakeServer()
        self._server.grants = self._server.takes_enclosed = True

    def submit(self, parameters: Any = None, input_bytes: bytes | None = None) -> str:
        return self._server.submit("inference", parameters, input_bytes=input_bytes)

    def cancel(self, job_id: str) -> None:
        self._server.cancel(job_id)

    def history(self, job_id: str) -> list[Status]:
        return self._server.jobs[job_id].history

    def files(self, job_id: str) -> list[tuple[str, bytes]]:
        return [(name, content) for (name, _), content in self._server.jobs[job_id].files.items()]

    def log(self, job_id: str) -> bytes:
        return self._server.jobs[job_id].log

    def plane(self) -> ControlPlane:
        plane = FakeControlPlane(self._server)
        plane.register(None)
        return plane

    def register_as(self, known_id: str | None) -> str:
        return FakeControlPlane(self._server).register(known_id)

    def close(self) -> None:
        """Nothing to give back."""


class OverHttp:
    """A project of the real server as a scene."""

    def __init__(self, running: ControlPlaneProcess) -> None:
        self._project = Project(running.url, running.new_project())
        self._api = self._project.submit
        self._calls: list[HttpCalls] = []

    def submit(self, parameters: Any = None, input_bytes: bytes | None = None) -> str:
        if input_bytes is None:
            parameters_file = self._api.upload(strict_json.dumps(parameters or {}).encode(), "parameters.json")
            made = self._api.read("POST", f"/api/v2/models/{self._empty()}/jobs", parameters_file, params=_FUNCTION)
        else:
            model_id = self._api.make_model(input_bytes)["id"]
            made = self._api.make_job(parameters, model_id=model_id)
        return str(made["id"])

    def _empty(self) -> str:
        return str(self._api.make_model()["id"])

    def cancel(self, job_id: str) -> None:
        assert self._api.cancel(job_id).ok

    def history(self, job_id: str) -> list[Status]:
        return [Status.read(line["name"]) for line in self._api.job(job_id)["status_history"]]

    def files(self, job_id: str) -> list[tuple[str, bytes]]:
        job = self._api.job(job_id)
        revision_id = job["file"]["revisions"][-1]["id"]
        model = self._api.read("GET", f"/api/v2/models/{job['model_id']}")
        revisions = [artifact["file"]["revisions"][-1] for artifact in model["artifacts"]]
        return [
            (revision["name"], self._api.get_blob(revision["content_token"]["sha"]))
            for revision in revisions
            if revision_id in [source["revision_id"] for source in revision["sources"]]
        ]

    def log(self, job_id: str) -> bytes:
        return self._api.call("GET", f"/api/v2/jobs/{job_id}/logs").content

    def plane(self) -> ControlPlane:
        known: list[str] = []
        plane = self._client(lambda: known[0] if known else None)
        known.append(plane.register(None))
        return plane

    def register_as(self, known_id: str | None) -> str:
        return self._client(lambda: known_id).register(known_id)

    def _client(self, agent_id: Any) -> HttpControlPlane:
        token = self._project.tokens.agent
        self._calls.append(HttpCalls(self._project.url, lambda: token))
        return HttpControlPlane(
            self._calls[-1], job_types=["inference"], display_name="contract", slots=1, agent_id=agent_id
        )

    def close(self) -> None:
        """Give the connections back."""
        for calls in self._calls:
            calls.close()
        self._project.close()


class InRecords(OverHttp):
    """The same, for agents that speak the jobs REST; the settling of a claim takes no time."""

    def __init__(self, running: ControlPlaneProcess, folder: Path) -> None:
        super().__init__(running)
        self._folder = folder

    def submit(self, parameters: Any = None, input_bytes: bytes | None = None) -> str:
        assert input_bytes is None, "this dialect has no files"
        body = {"job_type": "inference", "status": "pending", "result": {"parameters": parameters or {}}}
        return str(self._api.read("POST", "/api/jobs/", body, status=201)["id"])

    def plane(self) -> ControlPlane:
        agent_id = str(uuid.uuid4())
        return self._lab(agent_id)

    def register_as(self, known_id: str | None) -> str:
        return self._lab("nobody yet").register(known_id)

    def _lab(self, agent_id: str) -> LabControlPlane:
        token = self._project.tokens.agent
        self._calls.append(HttpCalls(self._project.url, lambda: token))
        return LabControlPlane(
            self._calls[-1],
            job_types=["inference"],
            agent_id=lambda: agent_id,
            shared=Shared(HostResults(self._folder / "results", "contract")),
            clock=VirtualClock(),
        )


_FUNCTION = {"function_name": "@overmind:inference"}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """The real control plane, in a process of its own."""
    with start_control_plane(tmp_path_factory.mktemp("plane")) as process:
        yield process


@pytest.fixture(scope="session")
def plain_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """One that speaks only what the published client speaks."""
    with start_control_plane(tmp_path_factory.mktemp("plain"), arguments=("--plain",)) as process:
        yield process


@pytest.fixture(params=["in memory", "over HTTP"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = InMemory() if request.param == "in memory" else OverHttp(request.getfixturevalue("running"))
    yield made
    made.close()


@pytest.fixture(params=["in memory", "over HTTP", "plain", "in records"])
def any_scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Also those of which less is promised."""
    make = {
        "in memory": InMemory,
        "over HTTP": lambda: OverHttp(request.getfixturevalue("running")),
        "plain": lambda: OverHttp(request.getfixturevalue("plain_running")),
        "in records": lambda: InRecords(request.getfixturevalue("running"), tmp_path),
    }
    made: Any = make[request.param]()
    yield made
    made.close()


@pytest.fixture
def agent(scene: Scene) -> ControlPlane:
    return scene.plane()


@pytest.fixture
def other(scene: Scene) -> ControlPlane:
    return scene.plane()
