"""How the record looks in the agent-pull dialect: rows in, wire models out, a few queries for a whole page."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.jobs import agents as registry
from overmind_controlplane.record.tables import (
    Agent,
    AgentEvent,
    ArchiveEntry,
    Artifact,
    File,
    Job,
    JobEvent,
    Link,
    Model,
    Revision,
)

_NAMES: Final = uuid.UUID("8a4ff3a5-5d53-4f6a-9a9c-0d5f9a3f7c11")
"""The name space of ids that stand for things without a row of their own."""

MAX_JOBS_OF_MODEL: Final = 100


class _Owned(Protocol):
    id: str
    created: datetime
    created_by: str


def derived_id(*parts: str) -> str:
    """The same id for the same parts, always."""
    return str(uuid.uuid5(_NAMES, "/".join(parts)))


def jobs(session: Session, rows: Sequence[Job]) -> list[wire.Job]:
    """Jobs with their files and histories, in the same order."""
    shown = _files(session, [job.file_id for job in rows])
    told = _archived(session, rows)
    history: defaultdict[str, list[wire.JobStatus]] = defaultdict(list)
    events = select(JobEvent).where(JobEvent.job_id.in_([job.id for job in rows])).order_by(JobEvent.number)
    for event in session.scalars(events):
        history[event.job_id].append(_job_status(event))
    return [_job(job, shown[job.file_id], told[job.id], history[job.id]) for job in rows]


def job(session: Session, row: Job, lease: wire.LeaseGrant | None = None) -> wire.Job:
    """One job; *lease* when its holder asks."""
    (shown,) = jobs(session, [row])
    return shown.model_copy(update={"lease": lease}) if lease else shown


def artifacts(session: Session, rows: Sequence[Artifact]) -> list[wire.Artifact]:
    """Artifacts with their files, in the same order."""
    shown = _files(session, [row.file_id for row in rows])
    told = _archived(session, rows)
    return [
        wire.Artifact(
            id=row.id,
            created=row.created,
            file=shown[row.file_id],
            comments=[],
            archive_status_history=told[row.id],
            created_by_id=row.created_by,
            model_id=row.model_id,
        )
        for row in rows
    ]


def models(session: Session, rows: Sequence[Model], *, with_jobs: bool = False) -> list[wire.Model]:
    """Models with their files and artifacts and, if asked, their newest jobs; in the same order."""
    shown = _files(session, [row.file_id for row in rows])
    told = _archived(session, rows)
    made: defaultdict[str, list[wire.Artifact]] = defaultdict(list)
    of_models = select(Artifact).where(Artifact.model_id.in_([row.id for row in rows])).order_by(Artifact.number)
    for artifact in artifacts(session, list(session.scalars(of_models))):
        made[artifact.model_id or ""].append(artifact)
    return [
        wire.Model(
            id=row.id,
            created=row.created,
            file=shown[row.file_id],
            comments=[],
            archive_status_history=told[row.id],
            created_by_id=row.created_by,
            artifacts=made[row.id],
            jobs=_jobs_of(session, row) if with_jobs else None,
        )
        for row in rows
    ]


def agent(session: Session, row: Agent) -> dict[str, object]:
    """An agent with its histories, oldest entry first."""
    return {
        "id": row.id,
        "created": row.created.isoformat(),
        "created_by_id": row.created_by,
        "capabilities": row.capabilities,
        "draining": row.draining,
        "not_accepting": row.not_accepting,
        "information_history": [information(event, row) for event in _of(session, row, registry.INFORMATION)],
        "display_name_history": [entry(event) for event in _of(session, row, registry.DISPLAY_NAME)],
        "status_history": [entry(event) for event in _of(session, row, registry.STATUS)],
        "modules_history": [module_entry(event) for event in _of(session, row, registry.MODULES)],
    }


def entry(event: AgentEvent) -> dict[str, object]:
    """One entry of an agent's status or name history."""
    return {
        "id": event.id,
        "created": event.created.isoformat(),
        "agent_id": event.agent_id,
        "created_by_id": event.created_by,
        **event.value,
    }


def information(event: AgentEvent, row: Agent) -> dict[str, object]:
    """One entry of an agent's information history."""
    return entry(event) | {"tenant_id": row.project_id}


def module_entry(event: AgentEvent) -> dict[str, object]:
    """One entry of an agent's modules history."""
    versions = [
        {
            "id": derived_id(event.id, name, version),
            "created": event.created.isoformat(),
            "agent_modules_id": event.id,
            "module_version_id": derived_id("module", name, version),
            "module_name": name,
            "module_version": version,
            "created_by_id": event.created_by,
        }
        for name, version in event.value
    ]
    shared = {"id": event.id, "created": event.created.isoformat(), "agent_id": event.agent_id}
    return shared | {"created_by_id": event.created_by, "module_versions": versions}


def _of(session: Session, row: Agent, kind: str) -> list[AgentEvent]:
    return registry.history(session, row.id, kind)


def _jobs_of(session: Session, row: Model) -> list[wire.Job]:
    newest = select(Job).where(Job.model_id == row.id, Job.is_deleted.is_(False)).order_by(Job.number.desc())
    return jobs(session, list(session.scalars(newest.limit(MAX_JOBS_OF_MODEL)))[::-1])


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


def _archived(session: Session, rows: Sequence[_Owned]) -> dict[str, list[wire.ArchiveEntry]]:
    told = {row.id: [_active(row, "resource_id", row.id)] for row in rows}
    entries = select(ArchiveEntry).where(ArchiveEntry.resource_id.in_(list(told))).order_by(ArchiveEntry.number)
    for line in session.scalars(entries):
        told[line.resource_id].append(
            wire.ArchiveEntry(
                id=line.id,
                created=line.created,
                name=line.name,
                reason=line.reason,
                created_by_id=line.created_by,
                resource_id=line.resource_id,
            )
        )
    return told


def _active(row: _Owned, key: str, owner_id: str) -> wire.ArchiveEntry:
    """The first entry of every archive history."""
    return wire.ArchiveEntry(
        id=derived_id("active", owner_id),
        created=row.created,
        name="Active",
        reason="Initial",
        created_by_id=row.created_by,
        resource_id=owner_id if key == "resource_id" else None,
        file_id=owner_id if key == "file_id" else None,
        file_revision_id=owner_id if key == "file_revision_id" else None,
    )


def _files(session: Session, file_ids: Sequence[str]) -> dict[str, wire.File]:
    is_linked = or_(exists().where(Link.product_id == Revision.id), exists().where(Link.source_id == Revision.id))
    both = select(File, Revision, is_linked).join(Revision, Revision.file_id == File.id)
    found = session.execute(both.where(File.id.in_(file_ids)).order_by(Revision.number)).all()
    owners, versions = {file.id: file for file, _, _ in found}, [version for _, version, _ in found]
    sources, products = _links(session, [version.id for _, version, has_links in found if has_links])
    by_file: defaultdict[str, list[wire.FileRevision]] = defaultdict(list)
    for version in versions:
        by_file[version.file_id].append(_revision(version, sources[version.id], products[version.id]))
    return {file_id: _file(file, by_file[file_id]) for file_id, file in owners.items()}


def _file(file: File, revisions: list[wire.FileRevision]) -> wire.File:
    return wire.File(
        id=file.id,
        created=file.created,
        revisions=revisions,
        archive_status_history=[_active(file, "file_id", file.id)],
        resource_id=file.resource_id,
        resource_type=file.resource_type,
        created_by_id=file.created_by,
        updated=revisions[-1].created,
    )


_Links = defaultdict[str, list[wire.RevisionLink]]


def _links(session: Session, revision_ids: Sequence[str]) -> tuple[_Links, _Links]:
    sources: _Links = defaultdict(list)
    products: _Links = defaultdict(list)
    if not revision_ids:  # as it is for most
        return sources, products
    for own, other, found in (
        (Link.product_id, Link.source_id, sources),
        (Link.source_id, Link.product_id, products),
    ):
        lines = (
            select(own, Revision.id, Link.relationship_identifier, File.id, File.resource_type, File.resource_id)
            .join(Revision, Revision.id == other)
            .join(File, File.id == Revision.file_id)
            .where(own.in_(revision_ids))
            .order_by(Link.number)
        )
        for own_id, other_id, relationship, file_id, resource_type, resource_id in session.execute(lines):
            found[own_id].append(
                wire.RevisionLink(
                    revision_id=other_id,
                    relationship_identifier=relationship,
                    file_id=file_id,
                    resource_type=resource_type,
                    resource_id=resource_id,
                )
            )
    return sources, products


def _revision(
    row: Revision, sources: list[wire.RevisionLink], products: list[wire.RevisionLink]
) -> wire.FileRevision:
    return wire.FileRevision(
        id=row.id,
        created=row.created,
        content_token=_token(row, "content", row.content_sha, row.content_salt),
        properties_token=_token(row, "properties", row.properties_sha, row.properties_salt),
        archive_status_history=[_active(row, "file_revision_id", row.id)],
        file_id=row.file_id,
        name=row.name,
        extension=row.extension,
        size=row.size,
        mime=row.mime,
        description=row.description,
        display_name=row.display_name,
        version_name=row.version_name,
        external_identifier=row.external_identifier,
        sources=sources,
        products=products,
        created_by_id=row.created_by,
    )


def _token(row: Revision, kind: str, sha: str, salt: str) -> wire.FileToken:
    return wire.FileToken(
        id=derived_id(row.id, kind), created=row.created, sha=sha, salt=salt, created_by_id=row.created_by
    )
