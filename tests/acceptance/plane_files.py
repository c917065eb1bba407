"""Uploads for the tests, in the published client's way: token, blob, revision."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import requests


def make_job(
    url: str, token: str, content: bytes, name: str, parameters: dict[str, Any], *, job_type: str = "inference"
) -> str:
    """The id of a job over a model file that is uploaded first."""
    (job_id,) = make_jobs(url, token, content, name, parameters, job_type=job_type, number=1)
    return job_id


def make_jobs(
    url: str,
    token: str,
    content: bytes,
    name: str,
    parameters: dict[str, Any],
    *,
    job_type: str,
    number: int,
) -> list[str]:
    """The ids of jobs that have their model file and their parameters in common."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    with session:
        model = _post(session, f"{url}/api/v2/models", _upload(session, url, content, name))
        path = f"{url}/api/v2/models/{model['id']}/jobs?function_name=%40overmind%3A{job_type}"
        body = _upload(session, url, json.dumps(parameters).encode(), "parameters.json")
        return [str(_post(session, path, {**body, "id": str(uuid.uuid4())})["id"]) for _ in range(number)]


def _post(session: requests.Session, url: str, body: Any) -> Any:
    answer = session.post(url, json=body, timeout=30)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def _upload(session: requests.Session, url: str, content: bytes, name: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    salt = uuid.uuid4().hex
    tokens = []
    for blob in (content, json.dumps({"file_name": name}).encode()):
        sha = hashlib.sha384(blob + salt.encode()).hexdigest()
        place = session.get(f"{url}/api/v2/tokens/{sha}/upload-url", timeout=30).json()
        assert requests.put(place["url"], data=blob, timeout=30).ok
        tokens.append({"id": str(uuid.uuid4()), "created": now, "sha": sha, "salt": salt})
    return {
        "id": str(uuid.uuid4()),
        "created": now,
        "content_token": tokens[0],
        "properties_token": tokens[1],
        "archive_status_history": [{"id": str(uuid.uuid4()), "created": now, "name": "Active"}],
        "name": name,
        "extension": name.rpartition(".")[2],
        "size": len(content),
        "sources": [],
    }
