"""What people and scripts want to know of a job: its record, read once into a few plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from overmind_agent.jobs import job_type_of
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.dialects import OTHER_SPELLINGS, WRITTEN, Dialect, statuses

SCORES: Final = ("baseline_score", "best_score", "improvement")


@dataclass(frozen=True)
class Facts:
    """
    One job.

    Attributes:
        progress: `step`, `total_steps`, `step_name`; None while nobody has said.
        message: the last that was said with a status.
        scores: those that the job has.
        outcome: what its agent reported at the end.
    """

    id: str
    job_type: str
    status: Status
    created: str
    attempt: int
    agent_id: str | None
    progress: Mapping[str, Any] | None
    message: str | None
    reason: str | None
    scores: Mapping[str, float] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return LIFECYCLE[self.status].is_final

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            **vars(self),
            "status": self.status.value,
            "scores": dict(self.scores),
            "outcome": dict(self.outcome),
        }


def read(job: Mapping[str, Any]) -> Facts:
    """The facts of a job as `JobClient.job` or `JobClient.jobs` gives it."""
    last = job["status_history"][-1]
    lab = job.get("lab") or {}
    written = lab.get("result")
    result: Mapping[str, Any] = written if isinstance(written, Mapping) else {}
    return Facts(
        id=job["id"],
        job_type=job_type_of(job["function"]["name"]),
        status=Status.read(last["name"]),
        created=job["created"],
        attempt=job.get("attempt") or 0,
        agent_id=job.get("agent_id"),
        progress=result.get("progress"),
        message=last.get("message"),
        reason=(last.get("detail") or {}).get("reason"),
        scores={name: lab[name] for name in SCORES if lab.get(name) is not None},
        outcome=(last.get("detail") or {}).get("outcome") or {},
    )


def wanted(said: str) -> frozenset[Status]:
    """
    The statuses that a person means: one of the ten names, or of the five words, in any case and spelling.

    Raises:
        ValueError: it is neither.
    """
    low = said.lower()
    by_word = statuses(OTHER_SPELLINGS.get(low, low), Dialect.LAB)
    by_name = frozenset(
        status for status in LIFECYCLE if status.value.lower() == low and status is not Status.UNKNOWN
    )
    # `running` is both: the word is the wider one.
    if found := by_word or by_name:
        return found
    names = [status.value.lower() for status in LIFECYCLE if status is not Status.UNKNOWN]
    raise ValueError(f"a status is one of {', '.join(sorted({*WRITTEN, *names}))} (got {said[:40]!r})")
