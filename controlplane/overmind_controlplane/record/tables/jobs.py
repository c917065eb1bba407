"""Jobs: what they ask of an agent, what became of them, and what was said of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from overmind_agent.lifecycle import Status
from overmind_controlplane.record.tables.columns import Any_JSON, Id, Moment, Row, StatusName, new_id, now

OPEN: Final = text("status = 'Pending' AND NOT is_archived AND NOT is_deleted")
"""The jobs that wait. Written out, not bound: an index of a part is used only where the database sees its words."""


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
        signature: its submitter's, as it came; nobody here looks at it.
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
    signature: Mapped[str | None] = mapped_column(Text)
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
