"""The one place where a job's status is written, with its line in the history and with all that follows from it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import iterations, outcomes
from overmind_controlplane.jobs.steps import step
from overmind_controlplane.jobs.waiting import agent_topic, log_topic, project_topic
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record.appending import append
from overmind_controlplane.record.database import ring
from overmind_controlplane.record.tables import Job, JobEvent, now


def move(session: Session, job: Job, word: Word, caller: Caller | None) -> None:
    """
    Give *job* the status of *word*; whoever waits for that is woken after the commit.

    Args:
        caller: None when nobody said so, as of a lease that ran out.

    Raises:
        Conflict: `illegal_transition`.
    """
    job.status = step(job.status, word.status)
    job.updated = now()
    line = {
        "job_id": job.id,
        "name": job.status,
        "created": job.updated,
        "created_by": caller.token_id if caller else None,
        "agent_id": word.agent_id,
        "attempt": job.attempt or None,
        "message": outcomes.shortened(word.message),
        "detail": dict(word.detail) or None,
    }
    append(session, JobEvent, line)
    outcomes.keep(job, word)
    iterations.attach_new(session, job, iterations.of_word(word))
    stage = LIFECYCLE[job.status]
    if stage.is_final:
        job.finished_at = job.updated
        job.progress = _at_the_end(job)
        job.lease_until = None
        ring(session, log_topic(job.id))
        is_its_own_word = caller is not None and word.agent_id == job.holder
        if job.holder and not is_its_own_word:  # its heartbeat has nothing to tell it
            ring(session, agent_topic(job.holder))
    elif not stage.is_held:
        job.holder, job.is_leased, job.is_driven, job.lease_until = None, False, False, None
        ring(session, project_topic(job.project_id))


def _at_the_end(job: Job) -> dict[str, Any] | None:
    """What the last heartbeat told, without the time left; a job that is complete has done all its steps."""
    if not job.progress:
        return job.progress
    told = {name: value for name, value in job.progress.items() if name != "eta_s"}
    if job.status is Status.COMPLETED:
        told |= {"step": told.get("total_steps"), "step_name": "done"}
    return told
