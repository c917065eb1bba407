"""How the record looks in the Overmind Lab dialect, and what of it is put together when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_controlplane.dialects import Dialect, word
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import Iteration, Job
from overmind_controlplane.storage import files
from overmind_controlplane.storage.blobs import Blobs
from overmind_executors import strict_json

MAX_PARAMETERS_BYTES: Final = 8 << 20


def row(job: Job) -> dict[str, Any]:
    """A job as a line of the list."""
    return {
        "id": job.id,
        "created_at": moment(job.created),
        "updated_at": moment(job.updated),
        # One generated client refuses a null here, so a job without a target agent names one that stands for none.
        "agent": job.target_agent_id or no_target_agent(job.project_id),
        "analyzer_model": job.analyzer_model,
        "baseline_score": job.baseline_score,
        "best_score": job.best_score,
        "improvement": job.improvement,
        "job_type": job.job_type,
        "num_iterations": job.num_iterations,
        "project": job.project_id,
        "prompt_slug": job.prompt_slug,
        "status": word(job.status, Dialect.LAB),
        "user": job.user_number,
    }


def detail(session: Session, blobs: Blobs, job: Job) -> dict[str, Any]:
    """A whole job with its iterations."""
    steps = select(Iteration).where(Iteration.job_id == job.id).order_by(Iteration.order, Iteration.number)
    return row(job) | {
        "iterations": [iteration(step, job.user_number) for step in session.scalars(steps)],
        "triggered_by": job.triggered_by,
        "backtest_results": job.backtest_results,
        "best_agent_code": job.best_agent_code,
        "report_markdown": job.report_markdown,
        "candidates_per_iteration": job.candidates_per_iteration,
        "celery_task_id": job.celery_task_id,
        "data_source": job.data_source,
        "result": result(session, blobs, job),
    }


def iteration(step: Iteration, user_number: int) -> dict[str, Any]:
    """One step of a job's search; *user_number* is its job's."""
    return {
        "id": step.id,
        "created_at": moment(step.created),
        "iteration_name": step.iteration_name,
        "job": step.job_id,
        "agent_code": step.agent_code,
        "avg_score": step.avg_score or 0.0,
        "description": step.description,
        "dimension_scores": step.dimension_scores,
        "order": step.order,
        "status": step.status,
        "user": user_number,
    }


def result(session: Session, blobs: Blobs, job: Job) -> Any:
    """
    Parameters in, outcome out: what was written, over it the outcome, over that what we know ourselves.

    The parameters are read from the job's file, where every dialect keeps them; nothing that is written to a job
    can lose them.
    """
    if job.result is not None and not isinstance(job.result, Mapping):
        return job.result
    known: dict[str, Any] = {
        "progress": job.progress,
        "errors": _errors(job),
        "files": [
            {"name": made.name, "sha256": made.sha256, "bytes": made.size, "ref": artifact.id}
            for artifact, made in files.results(session, job.file_id)
        ],
        "agent_run": _agent_run(job),
    }
    return {
        **(job.result or {}),
        **(job.outcome or {}),
        **{name: value for name, value in known.items() if value},
        "parameters": parameters(session, blobs, job),
    }


def parameters(session: Session, blobs: Blobs, job: Job) -> Any:
    """The job's parameters; None when its file is not JSON, or too long to be read here."""
    revision = files.last_revision(session, job.file_id)
    raw = blobs.read(job.project_id, revision.content_sha, limit=MAX_PARAMETERS_BYTES)
    try:
        return strict_json.loads(raw) if raw is not None else None
    except strict_json.NotJson:
        return None


def moment(at: datetime | None) -> str | None:
    """A time as the dialect writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None


def no_target_agent(project_id: str) -> str:
    """The id that stands for "no target agent" in this project."""
    return derived_id("no-target-agent", project_id)


def _errors(job: Job) -> list[dict[str, Any]]:
    if job.failure is None or "errors" in (job.outcome or {}):
        return []
    code, message = job.failure.get("reason"), job.failure.get("message")
    return [{"code": code, "message": message, "retryable": False}] if code or message else []


def _agent_run(job: Job) -> dict[str, Any] | None:
    if job.attempt == 0 or job.is_driven:
        return None
    return {
        "agent_id": job.holder,
        "attempt": job.attempt,
        "started_at": moment(job.started_at),
        "finished_at": moment(job.finished_at),
    }
