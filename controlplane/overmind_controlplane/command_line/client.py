"""
What a submitter asks of a control plane over HTTP, for the `job` commands: any server that speaks our dialects.

Errors carry the exit code of the command that met them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from overmind_agent.jobs import FUNCTION_SCOPE, RemoteFile
from overmind_agent.signing.claims import Work
from overmind_controlplane.dialects import JOB_TYPES, function_of

TIMEOUT_S: Final = (10, 60)
FUNCTION_VERSION: Final = "1.0.0"
"""What a control plane says of a function whose submitter asked for no version."""
_CHUNK: Final = 1 << 20
_PAGE: Final = 100
_TYPE: Final = "job_type:"
_MODEL: Final = "model:"


class JobCommandError(Exception):
    """
    A command cannot go on; the message says why.

    Attributes:
        exit_code: 1 refused, 69 out of reach, 77 credentials refused.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Announced:
    """
    What agents have between them; None where one of them does not say, where there is none, or where there are more
    than one page shows.

    Attributes:
        types: job types, and functions of hosts.
        models: chat models.
    """

    types: frozenset[str] | None
    models: frozenset[str] | None


def as_typed(job_type: str) -> str:
    """How `--type` has it: the five types by themselves, that of any other executor with its scope."""
    bare = job_type.removeprefix(FUNCTION_SCOPE)
    return bare if bare in JOB_TYPES else FUNCTION_SCOPE + bare


def _said(words: Collection[str], prefix: str) -> set[str]:
    return {word.removeprefix(prefix) for word in words if word.startswith(prefix)}


def _all_of(said: Sequence[set[str]], is_all: bool) -> frozenset[str] | None:
    return frozenset().union(*said) if is_all and said and all(said) else None


class _Token(requests.auth.AuthBase):
    """Sends the token; as an auth object it is not replaced by what a .netrc says."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class JobClient:
    """Calls with one token. Not safe between threads."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.auth = _Token(token)

    def __enter__(self) -> JobClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def submit(
        self,
        job_type: str,
        parameters: Mapping[str, Any],
        input_file: Path | None,
        sign: Callable[[Work], str] | None = None,
        asks: Mapping[str, Any] | None = None,
    ) -> str:
        """
        A new job; its id.

        Args:
            job_type: one of the five types, or the name of a registered function, which needs an input file.
            sign: gives the signature of the work; None for a job that is not signed.
            asks: `priority` and `labels`, where it has any.
        """
        query = {"function_name": function_of(job_type) if job_type in JOB_TYPES else job_type, **(asks or {})}
        if sign is not None:
            return self._submit_signed(job_type, parameters, input_file, sign, query)
        if input_file is None and job_type not in JOB_TYPES:
            raise JobCommandError(f"a function such as {job_type!r} works on a file; name it with --input")
        if input_file is None and not asks:
            body = {"job_type": job_type, "status": "pending", "result": {"parameters": parameters}}
            return str(self._call("POST", "/api/jobs/", body)["id"])
        revision = self._upload("parameters.json", json.dumps(parameters, indent=2).encode())
        given = self._upload(input_file.name, input_file.read_bytes()) if input_file else None
        model = self._call("POST", "/api/v2/models", given or revision)  # as of a signed one
        return str(self._call("POST", f"/api/v2/models/{model['id']}/jobs", revision, params=query)["id"])

    def _submit_signed(
        self,
        job_type: str,
        parameters: Mapping[str, Any],
        input_file: Path | None,
        sign: Callable[[Work], str],
        query: Mapping[str, Any],
    ) -> str:
        """All files of the job are made here, so that their digests can be signed before anybody else sees them."""
        if "signatures" not in self._call("GET", "/api/v2/capabilities")["extensions"]:
            raise JobCommandError("this control plane keeps no signatures; submit without --sign-with")
        if input_file is None and (named := {"items_file", "dataset_id"} & parameters.keys()):
            raise JobCommandError(f"{named.pop()} is no part of what is signed; give the rows with --input", 64)
        if input_file is None and job_type not in JOB_TYPES:
            raise JobCommandError(f"a function such as {job_type!r} works on a file; name it with --input")
        revision = self._upload("parameters.json", json.dumps(parameters, indent=2).encode())
        given = self._upload(input_file.name, input_file.read_bytes()) if input_file else None
        # A job that works on no file has its parameters for a model, which owns its results.
        model = self._call("POST", "/api/v2/models", given or revision)
        work = Work(
            project=str(self._call("GET", "/api/auth/me/")["project"]),
            job_type=job_type,
            function_version=FUNCTION_VERSION,
            display_name=None,
            parameters=_signed_file(revision),
            input=_signed_file(given) if given else None,
        )
        path = f"/api/v2/models/{model['id']}/jobs"
        return str(
            self._call("POST", path, revision, params=query, headers={"Overmind-Signature": sign(work)})["id"]
        )

    def jobs(self) -> Iterator[Mapping[str, Any]]:
        """The project's jobs, newest first, as many as are asked for."""
        page, pages = 1, 1
        while page <= pages:
            found = self._call("GET", "/api/v2/jobs", params={"sort": "-created", "size": _PAGE, "page": page})
            yield from found["items"]
            page, pages = page + 1, found["pages"]

    def announced(self) -> Announced:
        """What the project's agents say that they have."""
        found = self._call("GET", "/api/v2/agents", params={"size": _PAGE})
        is_all = found["pages"] <= 1
        types: list[set[str]] = []
        models: list[set[str]] = []
        for agent in found["items"]:
            words = agent["capabilities"] or ()
            modules = agent["modules_history"][-1:]
            names = {version["module_name"] for latest in modules for version in latest["module_versions"]}
            of_host = {name for name in names if not name.startswith(FUNCTION_SCOPE)}
            of_executors = {as_typed(job_type) for job_type in _said(words, _TYPE)}
            types.append(of_executors and of_executors | of_host)
            models.append(_said(words, _MODEL))
        return Announced(_all_of(types, is_all), _all_of(models, is_all))

    def job(self, job_id: str) -> Mapping[str, Any]:
        """The job; if it is of one of the five types, with `lab`: the same as the jobs REST shows it."""
        job = self._call("GET", f"/api/v2/jobs/{_segment(job_id)}")
        if job["function"]["name"] not in map(function_of, JOB_TYPES):
            return dict(job)
        return {**job, "lab": self._call("GET", f"/api/jobs/{_segment(job_id)}/")}

    def cancel(self, job_id: str) -> Mapping[str, Any]:
        """End the job."""
        query = {"status_name": "Canceled"}
        return dict(self._call("PUT", f"/api/v2/jobs/{_segment(job_id)}/status", params=query))

    def result_files(self, job: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The newest revision of each file that the job made, in the order in which they were uploaded."""
        products = [link for revision in job["file"]["revisions"] for link in revision["products"] or ()]
        ids = dict.fromkeys(link["resource_id"] for link in products if link["resource_type"] == "Artifact")
        return [self._call("GET", f"/api/v2/artifacts/{made}")["file"]["revisions"][-1] for made in ids]

    def download(self, revision: Mapping[str, Any], target: Path) -> str:
        """
        Store a file at *target*; the hex SHA-256 of its bytes.

        Raises:
            JobCommandError: the bytes do not have the digest that the control plane names; nothing is left of them.
        """
        token = revision["content_token"]
        address = self._call("GET", f"/api/v2/tokens/{token['sha']}/download-url")["url"]
        waiting = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}")
        salted, plain = hashlib.sha384(), hashlib.sha256()
        try:
            with waiting.open("xb") as file, self._request("GET", address, stream=True) as answer:
                for chunk in answer.iter_content(_CHUNK):
                    salted.update(chunk)
                    plain.update(chunk)
                    file.write(chunk)
            salted.update(token["salt"].encode())
            if salted.hexdigest() != token["sha"]:
                raise JobCommandError(f"{target.name} arrived damaged: its digest is not the one that was promised")
            waiting.replace(target)
        except requests.RequestException as error:
            raise _out_of_reach(error) from error
        finally:
            waiting.unlink(missing_ok=True)
        return plain.hexdigest()

    def _upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Store a file; the revision that describes it."""
        salt, at = secrets.token_hex(16), datetime.now(UTC).isoformat()
        extension = name.rpartition(".")[2] if "." in name else None
        described = json.dumps({"file_name": name, "extension": extension, "size": len(data)}).encode()
        tokens = []
        for content in (data, described):
            sha = hashlib.sha384(content + salt.encode()).hexdigest()
            place = self._call("GET", f"/api/v2/tokens/{sha}/upload-url")
            self._request("PUT", place["url"], data=content).close()
            tokens.append({"id": str(uuid.uuid4()), "created": at, "sha": sha, "salt": salt})
        return {
            "id": str(uuid.uuid4()),
            "created": at,
            "content_token": tokens[0],
            "properties_token": tokens[1],
            "archive_status_history": [],
            "name": name,
            "extension": extension,
            "size": len(data),
        }

    def _call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        with self._request(verb, self._url + path, json=body, params=params, headers=headers) as answer:
            try:
                return answer.json()
            except requests.JSONDecodeError as error:
                raise JobCommandError(f"{self._url} is no control plane: its answer is not JSON", 69) from error

    def _request(self, verb: str, url: str, **more: Any) -> requests.Response:
        # A signed address is its own credential, and may lead to another host: the token stays at home.
        auth = None if url.startswith(self._url + "/api/") else _nobody
        try:
            answer = self._session.request(verb, url, timeout=TIMEOUT_S, allow_redirects=False, auth=auth, **more)
        except requests.RequestException as error:
            raise _out_of_reach(error) from error
        if answer.status_code >= 300:
            raise _refused(answer)
        return answer


def _signed_file(revision: Mapping[str, Any]) -> RemoteFile:
    """The file of a revision as a host will see it."""
    token = revision["content_token"]
    return RemoteFile(revision["name"], token["sha"], token["salt"], revision["size"], "")


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _segment(job_id: str) -> str:
    """A job's id as a part of a path; anything else cannot be one."""
    if not job_id or set(job_id) - set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"):
        raise JobCommandError(f"{job_id[:64]!r} is no job id; see: job list", 64)
    return job_id


def _out_of_reach(error: requests.RequestException) -> JobCommandError:
    host = urlsplit(error.request.url or "").netloc if error.request is not None else "the address"
    return JobCommandError(f"{host} cannot be reached ({type(error).__name__}); is the control plane running?", 69)


def _refused(answer: requests.Response) -> JobCommandError:
    try:
        told: Any = answer.json()
    except requests.JSONDecodeError:
        told = None
    said = (told.get("detail") or told.get("message") or told) if isinstance(told, dict) else answer.reason
    text = said if isinstance(said, str) else json.dumps(said)
    exit_code = 77 if answer.status_code in (401, 403) else 69 if answer.status_code >= 500 else 1
    return JobCommandError(f"the control plane says {answer.status_code}: {text[:500]}", exit_code)
