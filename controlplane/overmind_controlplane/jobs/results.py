"""The result files of a job: those that come with a word about it, and those without which it is not COMPLETED."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.steps import step
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import Conflict
from overmind_controlplane.storage import files

MOST_SAID: Final = 5
MOST_LISTED: Final = 100


Fact = tuple[str | None, int, str]
"""The name, the size in bytes and the SHA-256 of a result."""


def add_artifacts(session: Session, caller: Caller, job: Job, word: Word) -> Set[Fact]:
    """Add what came with *word*, but for what came before by itself; the results that the job has by it."""
    if not word.artifacts:
        return frozenset()
    scope = files.artifact_scope(job.project_id, caller)
    known = idempotency.find_all(session, {(scope, new.key) for new in word.artifacts})
    news = [new for new in word.artifacts if not idempotency.same(known.get((scope, new.key)), new.asked)]
    owner = caller.within(job.project_id)
    made = files.add_artifacts(session, owner, job.model_id, job.file_id, [new.revision for new in news])
    for new, artifact_id in zip(news, made, strict=True):
        if new.as_model:
            files.add_model(session, owner, new.revision)
        idempotency.keep(session, scope, new.key, new.asked, made=artifact_id)
    # Each source is a version of the job's own file, or it would have been refused.
    return {(new.revision.name, new.revision.size, new.revision.sha256) for new in news if new.revision.sources}


def must_be_there(session: Session, job: Job, word: Word, added: Set[Fact]) -> None:
    """
    Args:
        added: what has just come with *word*, and need not be looked for.

    Raises:
        Conflict: `files_missing`: *word* is that the job is COMPLETED, and what was declared is not all there.
    """
    if word.status is not Status.COMPLETED or not job.declared:
        return
    step(job.status, word.status)
    declared = [(line["name"], line["size_bytes"], line["sha256"]) for line in job.declared]
    if added >= set(declared):
        return
    there = {(made.name, made.size, made.sha256) for _, made in files.results(session, job.file_id)}
    missing = [name for name, *facts in declared if (name, *facts) not in there]
    if missing:
        more = f" and {len(missing) - MOST_SAID} more" if len(missing) > MOST_SAID else ""
        raise Conflict(
            f"declared files are not there: {', '.join(missing[:MOST_SAID])}{more}",
            code="files_missing",
            missing=missing[:MOST_LISTED],
        )
