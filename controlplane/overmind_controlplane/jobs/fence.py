"""
The fence: which attempt of a job may still speak of it, or add to it.

An attempt that was granted later, to whomever, is the only one that may. What is said without an attempt comes from
a client that knows no fence.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import Conflict

RESTORE_STEP: Final = 1000
"""More attempts than a job has between a backup and the moment when it is put back."""


def superseded(job: Job) -> Conflict:
    """What an attempt that is over hears."""
    return Conflict(
        f"the job is no longer held so: its present attempt is {job.attempt}; drop it",
        code="superseded",
        attempt=job.attempt,
    )


def must_be_present(job: Job, attempt: int | None) -> None:
    """
    Raises:
        Conflict: the job is not held in *attempt* any more. Without one, only a canceled job is refused: that is
            how an agent that knows no fence learns of the cancel.
    """
    is_past = not LIFECYCLE[job.status].is_held or attempt != job.attempt
    if job.status is Status.CANCELED or (attempt is not None and is_past):
        raise superseded(job)


def may_add_file(job: Job, attempt: int | None) -> None:
    """
    Raises:
        Conflict: as `must_be_present`; but the last attempt of a canceled job may leave what it had made.
    """
    if job.status is not Status.CANCELED or attempt is None or attempt != job.attempt:
        must_be_present(job, attempt)


def must_be_latest(job: Job, attempt: int | None) -> None:
    """
    What comes after the end of a job, such as the rest of its log, is taken until another attempt is granted.

    Raises:
        Conflict: another one was granted; or there is no *attempt*, and the job is not held.
    """
    if attempt is None:
        must_be_present(job, None)
    elif attempt != job.attempt:
        raise superseded(job)


def is_fresh(job: Job, agent_id: str, attempt: int) -> bool:
    """Whether the agent holds the job in that attempt, and has not said a word about it yet."""
    return LIFECYCLE[job.status].is_held and (job.holder, job.attempt, job.sequence) == (agent_id, attempt, 0)


def fence_off(session: Session) -> int:
    """
    After an older state of the database was put back: no attempt that was granted since then is the present one of
    its job, or ever will be. How many jobs that were not final were moved so.
    """
    open_ones = [status for status, stage in LIFECYCLE.items() if not stage.is_final]
    moved = update(Job).where(Job.status.in_(open_ones)).values(attempt=Job.attempt + RESTORE_STEP)
    return session.connection().execute(moved).rowcount
