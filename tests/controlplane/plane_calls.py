"""The calls that tests make, one line each: over HTTP, as any client would."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import requests

from server import ControlPlaneProcess, Tokens

TIMEOUT_S = 35


class Api:
    """Calls with one token. Answers are `requests.Response`; `read` insists on 200 and gives the JSON."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._session = requests.Session()
        self._storage = requests.Session()  # addresses of blobs need no token
        self._stored: dict[tuple[bytes, str], tuple[list[str], str]] = {}
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, verb: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        """One request; *body* is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        return self._session.request(verb, self.url + path, data=data, timeout=TIMEOUT_S, **more)

    def read(self, verb: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """The JSON of an answer that must have *status*."""
        answer = self.call(verb, path, body, **more)
        assert status == answer.status_code, answer.text
        return answer.json()

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()
        self._storage.close()

    # ------------------------------------------------------------------------------------------ files

    def put_blob(self, data: bytes, salt: str) -> str:
        """Upload *data*; its sha."""
        sha = hashlib.sha384(data + salt.encode()).hexdigest()
        told = self.call("GET", f"/api/v2/tokens/{sha}/upload-url")
        if told.status_code == 200:
            assert self._storage.put(told.json()["url"], data=data, timeout=TIMEOUT_S).ok
        return sha

    def upload(self, data: bytes, name: str, sources: tuple[str, ...] = ()) -> dict[str, Any]:
        """Upload a file; the revision that describes it."""
        salt = secrets.token_hex(16)
        shas = [self.put_blob(data, salt), self.put_blob(json.dumps({"file_name": name}).encode(), salt)]
        return revision(name, len(data), shas, salt, sources)

    def _described(self, data: bytes, name: str) -> dict[str, Any]:
        """As `upload`, of a file that is sent once only: most jobs of a test differ in nothing."""
        if (data, name) not in self._stored:
            sent = self.upload(data, name)
            shas = [sent[token]["sha"] for token in ("content_token", "properties_token")]
            self._stored[data, name] = shas, sent["content_token"]["salt"]
        return revision(name, len(data), *self._stored[data, name])

    def get_blob(self, sha: str) -> bytes:
        """The bytes under *sha*."""
        url = self.read("GET", f"/api/v2/tokens/{sha}/download-url")["url"]
        return self._storage.get(url, timeout=TIMEOUT_S).content

    # ------------------------------------------------------------------------------------------ submitting

    def make_model(self, data: bytes = b'{"rows": []}', name: str = "rows.json") -> dict[str, Any]:
        """A new model."""
        made: dict[str, Any] = self.read("POST", "/api/v2/models", self._described(data, name))
        return made

    def make_job(
        self,
        parameters: Any = None,
        function: str = "@overmind:inference",
        model_id: str | None = None,
        **query: Any,
    ) -> dict[str, Any]:
        """A new job, on a new model unless one is named."""
        model_id = model_id or self.make_model()["id"]
        body = self._described(json.dumps(parameters or {}).encode(), "parameters.json")
        path = f"/api/v2/models/{model_id}/jobs"
        made: dict[str, Any] = self.read("POST", path, body, params={"function_name": function, **query})
        return made

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        found: dict[str, Any] = self.read("GET", f"/api/v2/jobs/{job_id}")
        return found

    def status(self, job_id: str) -> str:
        """The job's last status."""
        name: str = self.job(job_id)["status_history"][-1]["name"]
        return name

    def cancel(self, job_id: str) -> requests.Response:
        """End the job, as a person."""
        return self.call("PUT", f"/api/v2/jobs/{job_id}/status?status_name=Canceled")

    # ------------------------------------------------------------------------------------------ working

    def register(self, *capabilities: str, modules: list[tuple[str, str]] | None = None) -> str:
        """A new agent; its id."""
        body = {"agent_version": "1.0", "host_os": "Debian", "capabilities": list(capabilities)}
        agent_id: str = self.read("POST", "/api/v2/agents", body)["id"]
        if modules is not None:
            told = [{"module_name": name, "module_version": version} for name, version in modules]
            self.read("PUT", f"/api/v2/agents/{agent_id}/modules", told)
        return agent_id

    def say(
        self,
        job_id: str,
        status: str,
        agent_id: str | None = None,
        *,
        attempt: int | None = None,
        sequence: int | None = None,
        key: str | None = None,
        body: Any = None,
    ) -> requests.Response:
        """A status update; what is None is left out."""
        told = {"Overmind-Attempt": attempt, "Overmind-Sequence": sequence, "Idempotency-Key": key}
        headers = {name: str(value) for name, value in told.items() if value is not None}
        params = {"status_name": status} | ({"agent_id": agent_id} if agent_id else {})
        return self.call("PUT", f"/api/v2/jobs/{job_id}/status", body, params=params, headers=headers)

    def walk(self, job_id: str, agent_id: str, to: str) -> None:
        """Claim the job and take it through every status up to *to*."""
        way = ("Claimed", "Validating", "Running", "Uploading", "Completed")
        for status in way[: way.index(to) + 1]:
            assert self.say(job_id, status, agent_id).status_code == 200

    def next_job(self, agent_id: str, wait_s: float = 0) -> Any:
        """What the agent is offered."""
        return self.read("GET", f"/api/v2/agents/{agent_id}/job", params={"wait_s": wait_s})

    def next_claim(self, agent_id: str, key: str, **asked: Any) -> requests.Response:
        """The answer to a question that is granted what there is."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", f"/api/v2/agents/{agent_id}/claims", asked, headers=headers)

    def heartbeat(self, agent_id: str, *held: tuple[str, int], wait_s: float = 0, **more: Any) -> Any:
        """One heartbeat for jobs and their attempts."""
        jobs = [{"job_id": job_id, "attempt": attempt, **more} for job_id, attempt in held]
        body = {"slots": 1, "wait_s": wait_s, "jobs": jobs}
        return self.read("POST", f"/api/v2/agents/{agent_id}/heartbeat", body)


class Project:
    """A project of one test: calls in each role."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self.url = url
        self.tokens = tokens
        self.submit = Api(url, tokens.submit)
        self.agent = Api(url, tokens.agent)
        self.admin = Api(url, tokens.admin)

    def close(self) -> None:
        """Give the connections back."""
        for api in (self.submit, self.agent, self.admin):
            api.close()


def project_on(plane: ControlPlaneProcess) -> Iterator[Project]:
    """A new project of *plane*, for a fixture to yield from."""
    made = Project(plane.url, plane.new_project())
    yield made
    made.close()


def revision(name: str, size: int, shas: list[str], salt: str, sources: tuple[str, ...] = ()) -> dict[str, Any]:
    """A revision as a client without native code would write it."""
    at = datetime.now(UTC).isoformat()
    tokens = [{"id": str(uuid.uuid4()), "created": at, "sha": sha, "salt": salt} for sha in shas]
    return {
        "id": str(uuid.uuid4()),
        "created": at,
        "content_token": tokens[0],
        "properties_token": tokens[1],
        "archive_status_history": [],
        "name": name,
        "extension": name.rpartition(".")[2],
        "size": size,
        "sources": [{"revision_id": source, "relationship_identifier": "job"} for source in sources],
    }


def names(job: Mapping[str, Any]) -> list[str]:
    """The statuses that a job went through."""
    return [line["name"] for line in job["status_history"]]


def eventually(is_so: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Ask again until *is_so*, which asks the server each time; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end, "it did not come to be so in time"
