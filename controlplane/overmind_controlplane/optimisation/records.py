"""How the record looks in the prompt-optimisation dialect: fourteen keys, put together when they are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.dialects import Dialect, word
from overmind_controlplane.lab import records as lab_records
from overmind_controlplane.lab.checks import an_id
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import Job, JobEvent
from overmind_controlplane.storage.blobs import Blobs
from overmind_executors import strict_json

MAX_SUMMARY: Final = 1500
SUMMARY: Final = (
    "job_id",
    "status",
    "prompt_template_id",
    "original_version_id",
    "created_at",
    "completed_at",
    "optimized_version_id",
)
"""The keys of a line of the list."""

_HUMAN: Final = re.compile(r"\[(\d{1,9})/(\d{1,9})\] *(.*)", re.DOTALL)
_NUMBERS: Final = ("step", "total_steps")


def document(session: Session, blobs: Blobs, job: Job) -> dict[str, Any]:
    """A whole job."""
    told = lab_records.parameters(session, blobs, job)
    parameters: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    facts = _facts(job)
    version_id = original_version_id(job.project_id, parameters)
    sources = facts.get("data_sources_used")
    return {
        "job_id": job.id,
        "status": word(job.status, Dialect.OPTIMISATION),
        "prompt_template_id": _template_id(job, parameters, version_id),
        "original_version_id": version_id,
        "optimized_version_id": _optimized_version_id(job, facts),
        "run_test_after_optimization": parameters.get("run_test_after_optimization") is not False,
        "test_run_id": _id(facts.get("test_run_id")),
        "comparison_id": _id(facts.get("comparison_id")),
        "changes_summary": _text(facts.get("changes_summary")),
        "error_message": _error(job),
        "data_sources_used": sources if isinstance(sources, Mapping) else None,
        "created_at": lab_records.moment(job.created),
        "completed_at": lab_records.moment(job.finished_at),
        "progress": _progress(session, job),
    }


def summary(session: Session, blobs: Blobs, job: Job) -> dict[str, Any]:
    """A job as a line of the list."""
    whole = document(session, blobs, job)
    return {name: whole[name] for name in SUMMARY}


def original_version_id(project_id: str, parameters: Mapping[str, Any]) -> str:
    """
    The version that a job set out from: the one that it names, else one that stands for its prompt.

    Clients of this dialect refuse null here, so equal prompts get equal ids.
    """
    if (named := _id(parameters.get("prompt_template_version_id"))) is not None:
        return named
    return version_of(project_id, parameters.get("prompt", parameters))


def version_of(project_id: str, prompt: Any) -> str:
    """The id that stands for a prompt, be it text or messages: the same for the same prompt in a project."""
    return derived_id("prompt-version", project_id, hashlib.sha256(strict_json.canonical(prompt)).hexdigest())


def read_progress(message: str | None) -> dict[str, Any] | None:
    """
    How far a job is, from a message of RUNNING.

    Args:
        message: `[4/9] iteration 2 of 5 {"step": 4, "total_steps": 9, "step_name": "iteration 2 of 5", …}`, where
            either half may be missing.
    """
    if not message:
        return None
    human, brace, machine = message.partition("{")
    try:
        told = strict_json.loads(brace + machine)
    except strict_json.NotJson:
        told = None
    if (read := _three(told)) is not None:
        return read
    if (found := _HUMAN.match(human.strip())) is None:
        return None
    return {"step": int(found[1]), "total_steps": int(found[2]), "step_name": found[3].strip()}


def _facts(job: Job) -> dict[str, Any]:
    """What came out: what the jobs REST wrote, over it what an agent reported."""
    written = job.result if isinstance(job.result, Mapping) else {}
    return {**written, **(job.outcome or {})}


def _template_id(job: Job, parameters: Mapping[str, Any], version_id: str) -> str:
    told = _id(parameters.get("prompt_template_id"))
    return told or derived_id("prompt-template", job.project_id, job.prompt_slug or version_id)


def _optimized_version_id(job: Job, facts: Mapping[str, Any]) -> str | None:
    """None when no version was promoted, which is an outcome like any other."""
    if facts.get("promoted") is False:
        return None
    if (told := _id(facts.get("optimized_version_id"))) is not None:
        return told
    is_promoted = facts.get("promoted") is True and job.best_agent_code
    return version_of(job.project_id, job.best_agent_code) if is_promoted else None


def _error(job: Job) -> str | None:
    if job.status is not Status.FAILED:
        return None
    failure = job.failure or {}
    return str(failure.get("message") or failure.get("reason") or "the job failed and gave no reason")


def _progress(session: Session, job: Job) -> dict[str, Any] | None:
    """The last heartbeat's word, else what the jobs REST wrote, else RUNNING's message; complete at the end."""
    found = _three(job.progress) or _three(_facts(job).get("progress")) or read_progress(_running(session, job))
    if found is not None and job.status is Status.COMPLETED:
        found["step"] = found["total_steps"]
    return found


def _running(session: Session, job: Job) -> str | None:
    last = (
        select(JobEvent.message)
        .where(JobEvent.job_id == job.id, JobEvent.name == Status.RUNNING, JobEvent.attempt == job.attempt)
        .order_by(JobEvent.number.desc())
        .limit(1)
    )
    return session.scalar(last)


def _three(told: Any) -> dict[str, Any] | None:
    """The three keys of a progress, if they are what they should be."""
    if not isinstance(told, Mapping) or not isinstance(told.get("step_name"), str):
        return None
    numbers = {name: told.get(name) for name in _NUMBERS}
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in numbers.values()):
        return None
    return {**numbers, "step_name": told["step_name"]}


def _id(told: Any) -> str | None:
    try:
        return an_id(told)
    except ValueError:
        return None


def _text(told: Any) -> str | None:
    if not isinstance(told, str):
        return None
    return told if len(told) <= MAX_SUMMARY else told[: MAX_SUMMARY - 1] + "…"
