"""Jobs, claims and results, as the tests of the daemon need them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from overmind_agent.jobs import Claim, Job, Lease, RemoteFile, ResultFile
from overmind_agent.lifecycle import Status

JOB_ID = "5d1b1f3a-0000-4000-8000-000000000001"


def a_file(name: str = "parameters.json", sha: str = "a" * 96) -> RemoteFile:
    """A file at the control plane."""
    return RemoteFile(name, sha, "b" * 32, 2, "revision-1")


def a_job(job_id: str = JOB_ID, job_type: str = "inference", **changes: object) -> Job:
    """A job that waits."""
    fields: dict[str, object] = {"parameters": a_file(), "model_id": "model-1", "status": Status.PENDING, **changes}
    return Job(id=job_id, job_type=job_type, **fields)  # type: ignore[arg-type]


def a_claim(job_id: str = JOB_ID, attempt: int = 1, *, lease_s: float | None = 60.0, **changes: object) -> Claim:
    """A job that is held."""
    return Claim(a_job(job_id, **changes), attempt, None if lease_s is None else Lease(lease_s))  # type: ignore[arg-type]


def a_result_file(folder: Path, name: str = "output.jsonl", content: bytes = b"{}\n") -> ResultFile:
    """A file in *folder*, as an executor leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return ResultFile(name, path, len(content), hashlib.sha256(content).hexdigest())
