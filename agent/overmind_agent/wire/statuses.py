"""What is said of a job on the wire: its statuses, one at a time, and its log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from overmind_agent import jobs
from overmind_agent.wire.basis import Asked, Id, Name, Sha256, Wire


def _plain(name: str) -> str:
    if not jobs.is_plain_name(name):
        raise ValueError("a result file has a plain name, without a folder")
    return name


class JobStatus(Wire):
    """One line of a job's history. `attempt` and `detail` are ours."""

    id: Id
    created: datetime
    job_id: Id
    name: str
    created_by_id: str | None = None
    message: str | None = None
    agent_id: str | None = None
    attempt: int | None = None
    detail: dict[str, Any] | None = None


class DeclaredFile(Wire):
    """Ours: a result file that the agent is about to upload; COMPLETED is refused until it is there."""

    name: Annotated[Name, AfterValidator(_plain)]
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class LogCounts(Asked):
    """Ours: what has become of a job's log when it ended, in bytes."""

    sent_bytes: Annotated[int, Field(ge=0)]
    left_bytes: Annotated[int, Field(ge=0)]
    lost_bytes: Annotated[int, Field(ge=0)]


class StatusDetail(Asked):
    """Ours: what a program reads of a status."""

    reason: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = None
    files: Annotated[list[DeclaredFile], Field(max_length=10_000)] | None = None
    outcome: dict[str, Any] | None = None
    log: LogCounts | None = None

    @field_validator("files")
    @classmethod
    def _each_once(cls, files: list[DeclaredFile] | None) -> list[DeclaredFile] | None:
        if len({file.name for file in files or ()}) < len(files or ()):
            raise ValueError("a file is declared once; give each another name")
        return files


class StatusBody(Asked):
    """The body of `PUT /jobs/{id}/status`; `detail` is ours. An empty body is the same as `{}`."""

    message: str | None = None
    detail: StatusDetail | None = None


class Noted(Wire):
    """Ours: the answer to a status update that asked for `return=minimal`."""

    job_id: Id
    attempt: int


class LogOffset(Wire):
    """Ours: how many bytes of a job's log the server has."""

    offset: Annotated[int, Field(ge=0)]
