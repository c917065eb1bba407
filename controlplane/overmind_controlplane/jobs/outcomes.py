"""What of a status update is kept in the record itself, for readers that do not go through the history."""

from __future__ import annotations

import json
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import wrong

MAX_MESSAGE: Final = 4096
MAX_OUTCOME_BYTES: Final = 64 * 1024


def keep(job: Job, word: Word) -> None:
    """
    Put declared files, the outcome and the reason of a failure where they will be looked for.

    Raises:
        Invalid: the outcome is too long.
    """
    if (declared := word.detail.get("files")) is not None:
        job.declared = declared
    if word.status is Status.FAILED:
        job.failure = {"reason": word.detail.get("reason"), "message": shortened(word.message)}
    if (outcome := word.detail.get("outcome")) is not None:
        _keep_outcome(job, outcome)


def _keep_outcome(job: Job, outcome: dict[str, Any]) -> None:
    if len(json.dumps(outcome, ensure_ascii=False).encode()) > MAX_OUTCOME_BYTES:
        raise wrong(f"the outcome is longer than {MAX_OUTCOME_BYTES} bytes", "body", "detail", "outcome")
    job.outcome = {name: value for name, value in outcome.items() if name != wire.ITERATIONS}
    for name, value in wire.record_fields(outcome).items():
        setattr(job, name, _without_nul(value) if isinstance(value, str) else value)


def shortened(message: str | None) -> str | None:
    """A message as it is kept: at most 4,096 characters and no NUL, with a sign where something is missing."""
    if message is None:
        return None
    kept = _without_nul(message)
    return kept if len(kept) <= MAX_MESSAGE else kept[: MAX_MESSAGE - 1] + "…"


def _without_nul(text: str) -> str:
    """What a program printed as it died, or what a prompt has in it: PostgreSQL keeps no NUL."""
    return text.replace("\0", "\ufffd")
