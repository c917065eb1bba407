"""Jobs on the wire: what is to be done, as it is offered and claimed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from overmind_agent.wire.basis import Id, Name, Salt, Sha, Wire
from overmind_agent.wire.files import ArchiveEntry, File
from overmind_agent.wire.statuses import JobStatus

MAX_SIGNATURE_CHARS: Final = 8192


class FunctionStatus(Wire):
    """Whether a function is supported or deprecated."""

    id: Id
    created: datetime
    created_by_id: str
    name: str
    function_id: str
    reason: str | None = None


class OperatingSystem(Wire):
    """An operating system that a function runs on."""

    id: Id
    created: datetime
    name: str


class FunctionVersion(Wire):
    """What a job runs: `@overmind:<job type>`, or a function that a host registered."""

    id: Id
    created: datetime
    name: Name
    version: str
    module_name: str
    module_version: str
    entrypoint: str
    run_command: str
    created_by_id: str
    status: FunctionStatus
    tool_versions: list[Any] = Field(default=[])
    operating_systems: list[OperatingSystem] = Field(default=[])
    function_schema: str | None = None
    tool_name: str | None = None
    tool_display_name: str | None = None


class LeaseGrant(Wire):
    """
    Ours: how long a claim holds; `ttl_s` counts, `expires_at` is for people.

    `waited_s`: the call that was answered so had waited for so long when the lease began.
    """

    ttl_s: Annotated[float, Field(gt=0)]
    expires_at: datetime | None = None
    waited_s: Annotated[float, Field(ge=0)] | None = None


class Limits(Wire):
    """Ours: what the submitter grants a job at most."""

    timeout_s: Annotated[float, Field(gt=0)] | None = None
    max_attempts: Annotated[int, Field(ge=1)] | None = None


class InputFile(Wire):
    """Ours: the newest revision of a job's model; with the base64 of its content where that is small."""

    revision_id: Id
    name: Name | None = None
    sha: Sha
    salt: Salt
    size: int | None = Field(default=None, ge=0)
    content: str | None = None


class Job(Wire):
    """
    A job runs a function on a model and makes files. `attempt`, `lease`, `limits`, `priority`, `labels`, `input`,
    `parameters`, `input_file`, `traceparent` and `signature` are ours.

    `input` is `none` when the model is there only to own the job's files; absent means `model`. `parameters` is the
    base64 of the newest revision's content, in the answer to a claim with a lease, where that content is small;
    `input_file` is there, too.
    """

    id: Id
    created: datetime
    file: File
    comments: list[Any]
    archive_status_history: list[ArchiveEntry]
    created_by_id: str
    function: FunctionVersion
    assigned_agent_id: str | None = None
    agent_id: str | None = None
    tenant_id: str | None = None
    model_id: str | None = None
    status_history: list[JobStatus] | None = None
    attempt: Annotated[int, Field(ge=0)] | None = None
    lease: LeaseGrant | None = None
    limits: Limits | None = None
    priority: int | None = None
    labels: list[str] | None = None
    input: Literal["model", "none"] | None = None
    parameters: str | None = None
    input_file: InputFile | None = None
    traceparent: str | None = None
    signature: str | None = Field(default=None, max_length=MAX_SIGNATURE_CHARS)


class Attempt(Wire):
    """Ours: all that must be read of a claimed job to be able to write to it."""

    attempt: Annotated[int, Field(ge=1)]


class RawPage(Wire):
    """A page whose items are read one by one, so that one that is broken does not hide the others."""

    items: list[dict[str, Any]]


class PageJob(Wire):
    """One page of jobs; `pages` is the ceiling of `total` over `size`."""

    items: list[Job]
    total: int | None = None
    page: int | None = None
    size: int | None = None
    pages: int | None = None


class NoJobResponse(Wire):
    """There is nothing to do."""

    message: str


class Replaced(NoJobResponse):
    """Ours: there is nothing to do, and there will not be: another start of the agent asks for its jobs."""

    replaced: bool = False
