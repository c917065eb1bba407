"""
What goes over the agent-pull wire, `/api/v2`: the models of both ends, and how an answer is read.

Names and shapes are those of `istari-digital-client` 9.0.0. Fields marked *ours* belong to the extensions of
`docs/protocol.md`; a client that does not know them never meets them. Readers ignore keys that they do not
know, so that either end may grow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from overmind_agent import jobs
from overmind_agent.errors import BrokenJob, ProtocolError
from overmind_agent.lifecycle import Status
from overmind_executors import strict_json

# Servers make UUIDs, but the published types say only `str`. What is accepted is safe in a path and in a URL.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]
Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# No NUL: neither a file system nor PostgreSQL takes one.
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
Message = Annotated[str, StringConstraints(max_length=4096)]


def _plain(name: str) -> str:
    if not jobs.is_plain_name(name):
        raise ValueError("a result file has a plain name, without a folder")
    return name


class Wire(BaseModel):
    """What all models share: strict types, no NaN, unknown keys ignored, built only when first used."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore", frozen=True, defer_build=True)


class Asked(Wire):
    """A request body: as `Wire`, but a key that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid")


# ------------------------------------------------------------------------------------------------- files


class FileToken(Wire):
    """Names one blob: `sha` is the hex SHA-384 of its bytes followed by `salt` in ASCII."""

    id: Id
    created: datetime
    sha: Sha
    salt: Salt
    created_by_id: str | None = None


class ArchiveEntry(Wire):
    """One line of a resource's, a file's or a revision's archive history."""

    id: Id
    created: datetime
    name: str
    reason: str | None = None
    created_by_id: str | None = None
    resource_id: str | None = None
    file_id: str | None = None
    file_revision_id: str | None = None


class RevisionLink(Wire):
    """A source or a product of a revision. A request needs `revision_id` alone; the server fills in the rest."""

    revision_id: Id
    relationship_identifier: Label | None = None
    file_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None


class FileRevision(Wire):
    """One version of a file: two blobs (content and properties) and what describes them."""

    id: Id
    created: datetime
    content_token: FileToken
    properties_token: FileToken
    archive_status_history: list[ArchiveEntry]
    file_id: str | None = None
    name: Name | None = None
    extension: Label | None = None
    size: int | None = Field(default=None, ge=0)
    mime: Label | None = None
    description: Label | None = None
    display_name: Label | None = None
    version_name: Label | None = None
    external_identifier: Label | None = None
    sources: list[RevisionLink] | None = None
    products: list[RevisionLink] | None = None
    created_by_id: str | None = None
    updated: datetime | None = None


MOST_REPORTS: Final = 16
"""How many status updates may be sent together."""

INLINE_BYTES: Final = 256 * 1024
"""How much of one blob may come with what names it, instead of by an address of its own."""


class NewArtifact(FileRevision):
    """
    Ours: a revision for a new artifact, with the blobs that are not stored yet.

    `blobs` has the base64 of each by its `sha`; at most INLINE_BYTES each before that.
    """

    blobs: Annotated[dict[Sha, str], Field(max_length=2)] | None = None


class File(Wire):
    """Revisions, oldest first, and who owns them."""

    id: Id
    created: datetime
    revisions: Annotated[list[FileRevision], Field(min_length=1)]
    archive_status_history: list[ArchiveEntry]
    resource_id: str | None = None
    resource_type: str | None = None
    created_by_id: str | None = None
    updated: datetime | None = None


class TemporaryUrl(Wire):
    """Where to PUT or GET one blob, without a token, until `expires`."""

    url: str
    expires: datetime


class ArrivedPart(Wire):
    """Ours: one part of a large blob that the server has."""

    PartNumber: Annotated[int, Field(ge=1)]
    ETag: str
    Size: Annotated[int, Field(ge=0)]


class MultipartUpload(Wire):
    """Where to PUT the parts of a large blob, by number; `parts`, ours, are those that have arrived."""

    upload_id: Id
    upload_urls: dict[str, TemporaryUrl]
    parts: list[ArrivedPart] = []


# ------------------------------------------------------------------------------------------------- jobs


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
    tool_versions: list[Any] = []
    operating_systems: list[OperatingSystem] = []
    function_schema: str | None = None
    tool_name: str | None = None
    tool_display_name: str | None = None


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


class LeaseGrant(Wire):
    """Ours: how long a claim holds; `ttl_s` counts, `expires_at` is for people."""

    ttl_s: Annotated[float, Field(gt=0)]
    expires_at: datetime | None = None


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
    `parameters`, `input_file` and `traceparent` are ours.

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


class Model(Wire):
    """Seed 003's model: an input file, its artifacts, and the jobs on it."""

    id: Id
    created: datetime
    file: File
    comments: list[Any]
    archive_status_history: list[ArchiveEntry]
    created_by_id: str
    artifacts: list[Artifact]
    jobs: list[Job] | None = None


class ModelFile(Wire):
    """A model, only what the daemon reads of it: the rest may be long."""

    file: File


class Artifact(Wire):
    """A file made by a job; its sources name the job's revision."""

    id: Id
    created: datetime
    file: File
    comments: list[Any]
    archive_status_history: list[ArchiveEntry]
    created_by_id: str
    model_id: str | None = None


class Made(Wire):
    """Ours: the answer to a new artifact that asked for `return=minimal`."""

    id: Id


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


class Report(StatusBody):
    """Ours: one of the status updates that an agent sends together."""

    job_id: Id
    status_name: str
    attempt: Annotated[int, Field(ge=1)]
    sequence: Annotated[int, Field(ge=1)]


class Reports(Asked):
    """Ours: the body of `POST /agents/{id}/reports`."""

    reports: Annotated[list[Report], Field(min_length=1, max_length=MOST_REPORTS)]


class AnyReports(Asked):
    """`Reports` as the server reads it: each report by itself, so that one that is wrong refuses no other."""

    reports: Annotated[list[Any], Field(min_length=1, max_length=MOST_REPORTS)]


class Heard(Wire):
    """Ours: what became of one report: the status and the body that it alone would have been answered with."""

    http_status: int
    error: dict[str, Any] | None = None


class ReportsAnswer(Wire):
    """Ours: one for each report, in their order."""

    reports: list[Heard]


# ------------------------------------------------------------------------------------------------- agents


class NewAgent(Asked):
    """The body of a registration. `capabilities` and `instance`, which names one start of the agent, are ours."""

    agent_version: Label
    host_os: Label
    capabilities: Annotated[list[Label], Field(max_length=64)] = []
    instance: Id | None = None


class Registration(NewAgent):
    """The body that makes an agent known. `agent_id` is ours: the id that it had, and wants to have again."""

    agent_id: Id | None = None


class ModuleVersion(Asked):
    """A module that an agent has. Jobs whose function belongs to it are offered to that agent."""

    module_name: Name
    module_version: Label


class AgentStatusName(Asked):
    """The body of `PUT /agents/{id}/status`."""

    name: str


class DisplayName(Asked):
    """The body of `PUT /agents/{id}/display_name`."""

    display_name: Name


class Agent(Wire):
    """An agent; only what this project's own daemon reads of the answer."""

    id: Id
    created: datetime


class ProgressLine(Asked):
    """Ours: how far a job is."""

    step: Annotated[int, Field(ge=0)]
    total_steps: Annotated[int, Field(ge=0)]
    step_name: Annotated[str, StringConstraints(max_length=255)]


class HeldJob(Asked):
    """
    Ours: one job of a heartbeat.

    `iterations` are steps of its search as an outcome has them; `ends` is how often the agent has ended in the
    midst of its work in this attempt, and gone on with it.
    """

    job_id: Id
    attempt: Annotated[int, Field(ge=1)]
    progress: ProgressLine | None = None
    iterations: Annotated[list[dict[str, Any]], Field(max_length=100)] = []
    ends: Annotated[int, Field(ge=0, le=1000)] = 0


class Heartbeat(Asked):
    """Ours: one exchange for all of an agent's jobs."""

    slots: Annotated[int, Field(ge=0, lt=1 << 31)]
    draining: bool = False
    wait_s: Annotated[float, Field(ge=0, le=30)] = 0
    jobs: Annotated[list[HeldJob], Field(max_length=1000)] = []
    instance: Id | None = None
    not_accepting: Label | None = None


class JobOrder(Wire):
    """Ours: what is wanted of one held job; `lease` comes with `continue` alone."""

    job_id: Id
    directive: str
    attempt: int | None = None
    lease: LeaseGrant | None = None


class HeartbeatAnswer(Wire):
    """Ours."""

    jobs: list[JobOrder]
    drain: bool = False
    replaced: bool = False
    server_time: datetime | None = None


class Capabilities(Wire):
    """Ours: the answer of `GET /api/v2/capabilities`."""

    protocol: str
    extensions: list[str]


class LogOffset(Wire):
    """Ours: how many bytes of a job's log the server has."""

    offset: Annotated[int, Field(ge=0)]


EXTENSIONS: Final = (
    "next_job",
    "lease",
    "fence",
    "heartbeat",
    "logs",
    "release",
    "declared_files",
    "inline_files",
    "log_counts",
    "agent_id",
    "instance",
    "reports",
    "iterations",
    "not_accepting",
    "ends",
)

# ---------------------------------------------------------------------------------------------- reading

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse(model: type[ModelT], raw: bytes) -> ModelT:
    """
    *raw* as *model*.

    Raises:
        ProtocolError: it is not JSON that fits. The message names where, never the value.
    """
    try:
        strict_json.loads(raw)
        return model.model_validate_json(raw)
    except strict_json.NotJson as error:
        raise ProtocolError(f"not usable JSON: {error}") from error
    except ValidationError as error:
        raise ProtocolError(f"not a {model.__name__}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """What pydantic found, as `file.revisions.0.size: input should be a valid integer; …`, without values."""
    found = [
        f"{'.'.join(map(str, line['loc'])) or 'body'}: {_lower_first(line['msg'])}"
        for line in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


_ID: Final[TypeAdapter[str]] = TypeAdapter(Id)
_ONLY_IN_A_JOB: Final = frozenset(Job.model_fields) - {"message"}


def parse_next_job(raw: bytes) -> jobs.Job | jobs.NoJob:
    """
    Read a `ResponseGetJobForAgent`.

    The published client tries `Job` and then, on any error, `NoJobResponse`, so that a broken job with a
    `message` passes for "nothing to do". Here the keys decide: a body with any key of a job is a job, and one
    that also has a `message` is neither.

    Raises:
        BrokenJob: a Job with something wrong in it.
        ProtocolError: neither a Job nor a NoJobResponse.
    """
    try:
        body = strict_json.loads(raw)
    except strict_json.NotJson as error:
        raise ProtocolError(f"not usable JSON: {error}") from error
    if not isinstance(body, dict):
        raise ProtocolError("neither a Job nor a NoJobResponse: not a JSON object")
    if _ONLY_IN_A_JOB.isdisjoint(body):
        if "replaced" not in body:
            return jobs.NoJob(parse(NoJobResponse, raw).message)
        told = parse(Replaced, raw)
        return jobs.NoJob(told.message, is_replaced=told.replaced)
    if "message" in body:
        raise ProtocolError("neither a Job nor a NoJobResponse: it has the keys of both")
    try:
        return read_job(parse(Job, raw))
    except ProtocolError as error:
        raise _broken(body, str(error)) from error


def _broken(body: dict[str, Any], why: str) -> ProtocolError:
    try:
        return BrokenJob(why, job_id=_ID.validate_python(body.get("id")))
    except ValidationError:
        return ProtocolError(why)


def read_job(job: Job) -> jobs.Job:
    """The job behind its wire form."""
    revision = job.file.revisions[-1]
    history = job.status_history or []
    return jobs.Job(
        id=job.id,
        job_type=jobs.job_type_of(job.function.name),
        parameters=read_revision(revision),
        model_id=job.model_id,
        status=Status.read(history[-1].name) if history else Status.UNKNOWN,
        has_input=job.input != "none",
        holder=job.agent_id,
        timeout_s=job.limits.timeout_s if job.limits else None,
        traceparent=job.traceparent,
    )


def read_revision(revision: FileRevision) -> jobs.RemoteFile:
    """The file behind a revision's wire form."""
    return jobs.RemoteFile(
        name=revision.name or "file",
        sha=revision.content_token.sha,
        salt=revision.content_token.salt,
        size_bytes=revision.size,
        revision_id=revision.id,
    )
