"""
The record, as tables. What a column means is said here; how it changes, in `board`, `files`, `agents` and `access`.

Every table that a caller can name things of has an `id` (a UUID as text, the name on the wire). Where order
matters there is a `number` that only grows, since two rows may share a moment.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from overmind_agent.lifecycle import Status

Id = String(36)
Any_JSON = JSON(none_as_null=True)

OPEN: Final = text("status = 'Pending' AND NOT is_archived AND NOT is_deleted")
"""The jobs that wait. Written out, not bound: an index of a part is used only where the database sees its words."""


class Moment(TypeDecorator[datetime]):
    """An aware time; SQLite forgets the zone, so all are kept and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """To UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """From UTC."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class StatusName(TypeDecorator[Status]):
    """A status by its name on the wire."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: Status | None, _dialect: Dialect) -> str | None:
        """Its name."""
        return value.value if value else None

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Status | None:
        """The status of that name."""
        return Status(value) if value else None


def new_id() -> str:
    """A fresh UUID, as text."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The time for people; leases and reservations look at `StoreClock`."""
    return datetime.now(UTC)


class Row(DeclarativeBase):
    """What all tables share."""


class Project(Row):
    """What tokens belong to; nothing is seen across projects."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)


class Token(Row):
    """
    A credential; the secret itself is never kept. `number` is the integer user of the Lab dialect.

    Attributes:
        more_projects: ids of those that an agent's token serves besides `project_id`.
    """

    __tablename__ = "tokens"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    more_projects: Mapped[list[str]] = mapped_column(Any_JSON, default=list, server_default="[]")
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255), default="")
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)


class Agent(Row):
    """
    A worker daemon.

    Attributes:
        modules: `[[name, version], …]`; empty when it reported none.
        capabilities: what it can do of our extensions; `lease` decides whether it gets one.
        slots, draining: as its last heartbeat said.
        instance: which start of it registered last; None from a client that does not say.
        not_accepting: why it takes no job, as its last heartbeat said; None when it does.
    """

    __tablename__ = "agents"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
    agent_version: Mapped[str] = mapped_column(String(255), default="")
    host_os: Mapped[str] = mapped_column(String(255), default="")
    status: Mapped[str] = mapped_column(String(32), default="")
    modules: Mapped[list[list[str]]] = mapped_column(Any_JSON, default=list)
    capabilities: Mapped[list[str]] = mapped_column(Any_JSON, default=list)
    slots: Mapped[int | None]
    draining: Mapped[bool] = mapped_column(default=False)
    instance: Mapped[str | None] = mapped_column(String(128))
    not_accepting: Mapped[str | None] = mapped_column(String(255))
    seen_at: Mapped[datetime] = mapped_column(Moment, default=now)


class AgentEvent(Row):
    """One entry of an agent's histories; *kind* is `information`, `display_name`, `modules` or `status`."""

    __tablename__ = "agent_events"
    __table_args__ = (Index("agent_events_by_kind", "agent_id", "kind", "number"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    kind: Mapped[str] = mapped_column(String(16))
    value: Mapped[Any] = mapped_column(Any_JSON)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class File(Row):
    """Revisions and who owns them: a Model, an Artifact or a Job."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    resource_type: Mapped[str] = mapped_column(String(16))
    resource_id: Mapped[str] = mapped_column(Id)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class Revision(Row):
    """
    One version of a file. `size` and `sha256` were measured by us; the rest is as its maker said.

    Blobs are kept under `content_sha` and `properties_sha`: hex SHA-384 of bytes and salt.
    """

    __tablename__ = "revisions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), index=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
    content_sha: Mapped[str] = mapped_column(String(96), index=True)
    content_salt: Mapped[str] = mapped_column(String(32))
    properties_sha: Mapped[str] = mapped_column(String(96), index=True)
    properties_salt: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None] = mapped_column(String(255))
    extension: Mapped[str | None] = mapped_column(String(255))
    mime: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(255))
    display_name: Mapped[str | None] = mapped_column(String(255))
    version_name: Mapped[str | None] = mapped_column(String(255))
    external_identifier: Mapped[str | None] = mapped_column(String(255))


class Link(Row):
    """*product* was made from *source*: a source of the one revision and a product of the other."""

    __tablename__ = "links"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    source_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"), index=True)
    product_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"), index=True)
    relationship_identifier: Mapped[str | None] = mapped_column(String(255))


class Model(Row):
    """An input file of jobs."""

    __tablename__ = "models"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class Artifact(Row):
    """A file that a job made."""

    __tablename__ = "artifacts"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class ArchiveEntry(Row):
    """A job was archived or restored; the first entry, "Active", is not kept."""

    __tablename__ = "archive_entries"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    resource_id: Mapped[str] = mapped_column(Id, index=True)
    name: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


def _only_where_known(name: str, column: str) -> tuple[Index]:
    known = text(f"{column} IS NOT NULL")
    return (Index(name, column, sqlite_where=known, postgresql_where=known),)


class Demand(Row):
    """
    What jobs ask of an agent. Jobs that ask the same share one, so that an agent is matched with a few of these
    and never with each of a hundred thousand jobs.

    Attributes:
        digest: of the rest.
        labels, models: an agent needs all of them.
    """

    __tablename__ = "demands"
    __table_args__ = (UniqueConstraint("project_id", "digest"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    digest: Mapped[str] = mapped_column(String(64))
    function_name: Mapped[str] = mapped_column(String(255))
    module_name: Mapped[str] = mapped_column(String(255))
    module_version: Mapped[str | None] = mapped_column(String(255))
    labels: Mapped[list[str]] = mapped_column(Any_JSON, default=list)
    models: Mapped[list[str]] = mapped_column(Any_JSON, default=list, server_default="[]")
    assigned_agent_id: Mapped[str | None] = mapped_column(Id)


class Job(Row):
    """
    The one record that all dialects show. Only `board` writes what is above the line.

    Attributes:
        holder: who claimed it; kept when the job is final, None while it waits.
        is_driven: its submitter moves it along (the Lab dialect); no agent is offered it and no lease ends it.
        is_leased: its holder has a lease.
        attempt: the present or last grant; only grows.
        lost_attempts: how many leases ran out.
        ends, ends_now: how often agents have ended in the midst of its work and gone on with it: in all, and in
            the present attempt.
        sequence: the last one of the present attempt.
        declared: files that must be there before COMPLETED, `[{name, size_bytes, sha256}]`.
        module_version: None when the submitter asked for no version: any will do.
        job_type: None for a function that is not one of the five.
        has_input: whether its model is an input; if not, the model only holds the parameters.
        result: what the Lab dialect wrote, without the parameters, which live in the job's file alone.
        demand: the number of its Demand.
        priority: higher first.
        reserved_for, reserved_until: the agent that it was offered to, and until when; seconds on `StoreClock`.
        lease_until: when the lease of its holder runs out, on the same clock; None without one.
        traceparent: the trace that the call which made it belonged to; None when it said none.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_status", "project_id", "status", "number"),
        Index("jobs_open", "demand", text("priority DESC"), "number", sqlite_where=OPEN, postgresql_where=OPEN),
        *_only_where_known("jobs_reserved", "reserved_until"),
        *_only_where_known("jobs_leased", "lease_until"),
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    status: Mapped[Status] = mapped_column(StatusName)
    holder: Mapped[str | None] = mapped_column(Id, index=True)
    is_driven: Mapped[bool] = mapped_column(default=False)
    is_leased: Mapped[bool] = mapped_column(default=False)
    attempt: Mapped[int] = mapped_column(default=0)
    lost_attempts: Mapped[int] = mapped_column(default=0)
    ends: Mapped[int] = mapped_column(default=0, server_default="0")
    ends_now: Mapped[int] = mapped_column(default=0, server_default="0")
    sequence: Mapped[int] = mapped_column(default=0)
    declared: Mapped[list[dict[str, Any]]] = mapped_column(Any_JSON, default=list)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(Any_JSON)
    failure: Mapped[dict[str, Any] | None] = mapped_column(Any_JSON)
    progress: Mapped[dict[str, Any] | None] = mapped_column(Any_JSON)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    is_archived: Mapped[bool] = mapped_column(default=False)
    is_deleted: Mapped[bool] = mapped_column(default=False)
    demand: Mapped[int] = mapped_column(default=0, server_default="0")
    reserved_for: Mapped[str | None] = mapped_column(Id)
    reserved_until: Mapped[float | None] = mapped_column(Float)
    lease_until: Mapped[float | None] = mapped_column(Float)
    # ---------------------------------------------------------------------------------------------------
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    updated: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
    user_number: Mapped[int]
    function_name: Mapped[str] = mapped_column(String(255))
    function_version: Mapped[str | None] = mapped_column(String(255))
    module_name: Mapped[str] = mapped_column(String(255))
    module_version: Mapped[str | None] = mapped_column(String(255))
    job_type: Mapped[str | None] = mapped_column(String(32))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    has_input: Mapped[bool] = mapped_column(default=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    assigned_agent_id: Mapped[str | None] = mapped_column(Id)
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    labels: Mapped[list[str]] = mapped_column(Any_JSON, default=list, server_default="[]")
    max_attempts: Mapped[int] = mapped_column(default=3)
    timeout_s: Mapped[float | None]
    traceparent: Mapped[str | None] = mapped_column(String(55))
    target_agent_id: Mapped[str | None] = mapped_column(Id)
    triggered_by: Mapped[int | None] = mapped_column(BigInteger)
    analyzer_model: Mapped[str] = mapped_column(String(128), default="")
    prompt_slug: Mapped[str] = mapped_column(String(255), default="")
    celery_task_id: Mapped[str] = mapped_column(String(255), default="")
    data_source: Mapped[str] = mapped_column(String(20), default="")
    num_iterations: Mapped[int] = mapped_column(BigInteger, default=0)
    candidates_per_iteration: Mapped[int] = mapped_column(BigInteger, default=0)
    baseline_score: Mapped[float | None]
    best_score: Mapped[float | None]
    improvement: Mapped[float | None]
    best_agent_code: Mapped[str] = mapped_column(Text, default="")
    report_markdown: Mapped[str] = mapped_column(Text, default="")
    backtest_results: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
    result: Mapped[Any] = mapped_column(Any_JSON, nullable=True)


class JobEvent(Row):
    """One line of a job's history."""

    __tablename__ = "job_events"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    name: Mapped[Status] = mapped_column(StatusName)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str | None] = mapped_column(Id)
    agent_id: Mapped[str | None] = mapped_column(Id)
    attempt: Mapped[int | None]
    message: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[dict[str, Any] | None] = mapped_column(Any_JSON)


class Said(Row):
    """A numbered status update that was applied: what makes a repeated one recognisable."""

    __tablename__ = "said"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))


class IdempotencyKey(Row):
    """
    A call that was granted under a key.

    Attributes:
        scope: project, who and which verb, so that no caller meets another's key.
        digest: of what was asked.
        made: what the call was about: the job's id, or the made artifact's.
    """

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(String(128), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    made: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(Moment, default=now, index=True)


class Iteration(Row):
    """One step of a job's search, as the Lab dialect knows it."""

    __tablename__ = "iterations"
    __table_args__ = (UniqueConstraint("id"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    iteration_name: Mapped[str] = mapped_column(String(64))
    agent_code: Mapped[str] = mapped_column(Text, default="")
    avg_score: Mapped[float | None]
    description: Mapped[str] = mapped_column(Text, default="")
    dimension_scores: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
    order: Mapped[int] = mapped_column(BigInteger, default=0)
    status: Mapped[str] = mapped_column(String(16), default="keep")


class Sweep(Row):
    """
    One row: who holds it, sweeps.

    Attributes:
        swept_at: when somebody did, seconds on `StoreClock`.
        pruned: when old records were last thrown away.
    """

    __tablename__ = "sweeps"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    swept_at: Mapped[float] = mapped_column(Float)
    pruned: Mapped[datetime | None] = mapped_column(Moment)


class AuditEntry(Row):
    """
    A change that was made, or a call that was refused.

    Attributes:
        who: the token's name; the secret is nowhere.
        verb, object: the method and the path of the call.
        decision: `granted` or `refused`.
        http_status, code: of a refusal.
        calls: how many refusals alike it stands for.
    """

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now, index=True)
    project_id: Mapped[str | None] = mapped_column(Id)
    token_id: Mapped[str | None] = mapped_column(Id)
    who: Mapped[str] = mapped_column(String(255), default="")
    verb: Mapped[str] = mapped_column(String(16))
    object: Mapped[str] = mapped_column(String(512))
    decision: Mapped[str] = mapped_column(String(16))
    http_status: Mapped[int | None]
    code: Mapped[str | None] = mapped_column(String(32))
    calls: Mapped[int] = mapped_column(default=1, server_default="1")
