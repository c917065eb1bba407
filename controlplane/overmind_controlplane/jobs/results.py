"""The result files of a job: those that come with a word about it, and those without which it is not COMPLETED."""

from __future__ import annotations

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


def add_artifacts(session: Session, caller: Caller, job: Job, word: Word) -> None:
    """Add what came with *word*, but for what came before by itself."""
    if not word.artifacts:
        return
    scope = files.artifact_scope(job.project_id, caller)
    known = idempotency.find_all(session, {(scope, new.key) for new in word.artifacts})
    news = [new for new in word.artifacts if not idempotency.same(known.get((scope, new.key)), new.asked)]
    owner = caller.within(job.project_id)
    made = files.add_artifacts(session, owner, job.model_id, job.file_id, [new.revision for new in news])
    for new, artifact_id in zip(news, made, strict=True):
        if new.as_model:
            files.add_model(session, owner, new.revision)
        idempotency.keep(session, scope, new.key, new.asked, made=artifact_id)


def must_be_there(session: Session, job: Job, word: Word) -> None:
    """
    Raises:
        Conflict: `files_missing`: *word* is that the job is COMPLETED, and what was declared is not all there.
    """
    if word.status is not Status.COMPLETED or not job.declared:
        return
    step(job.status, word.status)
    there = {(made.name, made.size, made.sha256) for _, made in files.results(session, job.file_id)}
    missing = [
        line["name"] for line in job.declared if (line["name"], line["size_bytes"], line["sha256"]) not in there
    ]
    if missing:
        more = f" and {len(missing) - MOST_SAID} more" if len(missing) > MOST_SAID else ""
        raise Conflict(
            f"declared files are not there: {', '.join(missing[:MOST_SAID])}{more}",
            code="files_missing",
            missing=missing[:MOST_LISTED],
        )
