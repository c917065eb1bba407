"""The order of what is said about an attempt: each word takes effect once, and none is left out."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.jobs import outcomes
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record.appending import append
from overmind_controlplane.record.tables import Job, JobEvent, Said
from overmind_controlplane.refusals import Conflict, wrong


def is_repeat(session: Session, job: Job, word: Word) -> bool:
    """
    Whether *word* was taken in before.

    Raises:
        Invalid: its number was, with other words.
    """
    if word.sequence is None:
        return is_same_again(session, job, word)
    # A holder that reports the cancel which it was told of is right, whatever was said before.
    if word.status is job.status is Status.CANCELED:
        return True
    if word.sequence > job.sequence:
        return False
    said = session.get(Said, (job.id, job.attempt, word.sequence))
    if said is not None and said.digest == word.digest:
        return True
    raise wrong(
        f"sequence {word.sequence} of attempt {job.attempt} was said with other words",
        "header",
        "Overmind-Sequence",
    )


def is_same_again(session: Session, job: Job, word: Word) -> bool:
    """As `is_repeat` of a word without a number: whether it is what the same agent said last."""
    if word.status is not job.status:
        return False
    if word.status is Status.CANCELED:
        return True
    last = session.scalars(
        select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.number.desc()).limit(1)
    ).one()
    return (last.agent_id, last.message) == (word.agent_id, outcomes.shortened(word.message))


def must_be_next(job: Job, word: Word) -> None:
    """
    Raises:
        Conflict: `expected_sequence`: words before it are missing.
    """
    expected = job.sequence + 1
    if word.sequence is not None and word.sequence != expected:
        raise Conflict(
            f"sequence {expected} comes next in attempt {job.attempt}, not {word.sequence}",
            code="expected_sequence",
            expected=expected,
        )


def note(session: Session, job: Job, word: Word) -> None:
    """*word* has taken effect."""
    if word.sequence is not None:
        job.sequence = word.sequence
        said = {"job_id": job.id, "attempt": job.attempt, "sequence": word.sequence, "digest": word.digest}
        append(session, Said, said)
