"""Jobs with their files and histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, exists, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import ArchiveEntry, Job, JobEvent
from overmind_controlplane.shown.archives import archived
from overmind_controlplane.shown.files import show_files

_WAS_ARCHIVED: Final = exists().where(ArchiveEntry.resource_id == JobEvent.job_id)
_HISTORIES: Final = (
    select(JobEvent, _WAS_ARCHIVED)
    .where(JobEvent.job_id.in_(bindparam("job_ids", expanding=True)))
    .order_by(JobEvent.number)
)


def show_jobs(session: Session, rows: Sequence[Job]) -> list[wire.Job]:
    """Jobs with their files and histories, in the same order."""
    shown = show_files(session, [job.file_id for job in rows])
    history: defaultdict[str, list[wire.JobStatus]] = defaultdict(list)
    were_archived = set()
    for event, was_archived in session.execute(_HISTORIES, {"job_ids": [job.id for job in rows]}):
        history[event.job_id].append(_job_status(event))
        if was_archived:
            were_archived.add(event.job_id)
    told = archived(session, rows, were_archived)
    return [_job(job, shown[job.file_id], told[job.id], history[job.id]) for job in rows]


def show_job(session: Session, row: Job, lease: wire.LeaseGrant | None = None) -> wire.Job:
    """One job; *lease* when its holder asks."""
    (shown,) = show_jobs(session, [row])
    return shown.model_copy(update={"lease": lease}) if lease else shown


def _job(row: Job, file: wire.File, archived: list[wire.ArchiveEntry], history: list[wire.JobStatus]) -> wire.Job:
    is_held_by_agent = row.holder is not None and not row.is_driven
    return wire.Job(
        id=row.id,
        created=row.created,
        file=file,
        comments=[],
        archive_status_history=archived,
        created_by_id=row.created_by,
        function=_function(row),
        assigned_agent_id=row.assigned_agent_id,
        agent_id=row.holder if is_held_by_agent else None,
        tenant_id=row.project_id,
        model_id=row.model_id,
        status_history=history,
        attempt=row.attempt,
        limits=wire.Limits(timeout_s=row.timeout_s, max_attempts=row.max_attempts),
        priority=row.priority,
        labels=row.labels,
        input="model" if row.has_input else "none",
        traceparent=row.traceparent,
        signature=row.signature,
    )


def _function(row: Job) -> wire.FunctionVersion:
    version = row.function_version or "1.0.0"
    function_id = derived_id("function", row.function_name, version)
    status = wire.FunctionStatus(
        id=derived_id("function-status", function_id),
        created=row.created,
        created_by_id=row.created_by,
        name="supported",
        function_id=function_id,
    )
    return wire.FunctionVersion(
        id=function_id,
        created=row.created,
        name=row.function_name,
        version=version,
        module_name=row.module_name,
        module_version=row.module_version or version,
        entrypoint="overmind-agent",
        run_command="{entrypoint} --input-file {input_file} --output-file {output_file} --temp-dir {temp_dir}",
        created_by_id=row.created_by,
        status=status,
    )


def _job_status(event: JobEvent) -> wire.JobStatus:
    return wire.JobStatus(
        id=event.id,
        created=event.created,
        job_id=event.job_id,
        name=event.name.value,
        created_by_id=event.created_by,
        message=event.message,
        agent_id=event.agent_id,
        attempt=event.attempt,
        detail=event.detail,
    )
