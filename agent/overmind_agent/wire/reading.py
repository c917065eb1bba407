"""How an answer is read: as one of the models, and as the value of ours behind it."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from overmind_agent import jobs
from overmind_agent.errors import BrokenJob, ProtocolError
from overmind_agent.lifecycle import Status
from overmind_agent.wire.basis import Id
from overmind_agent.wire.files import FileRevision
from overmind_agent.wire.jobs import Job, NoJobResponse, Replaced
from overmind_executors import strict_json

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
    """As `parse_offered`, with the job behind its wire form."""
    found = parse_offered(raw)
    return found if isinstance(found, jobs.NoJob) else read_job(found)


def parse_offered(raw: bytes) -> Job | jobs.NoJob:
    """
    Read a `ResponseGetJobForAgent`. A job that is given can be read by `read_job`.

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
        found = parse(Job, raw)
        read_job(found)
    except ProtocolError as error:
        raise _broken(body, str(error)) from error
    return found


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
        project=job.tenant_id,
        function_version=job.function.version,
        display_name=revision.display_name,
        signature=job.signature,
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
