"""What the page shows, as plain values; `seen` reads them out of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from overmind_agent.lifecycle import LIFECYCLE, Status


@dataclass(frozen=True)
class JobLine:
    """
    A job in a list.

    Attributes:
        kind: its type, or the name of its function.
        step, total: how far it is; None while nobody has said.
        agent: what people call its holder.
        lasted_s: since it was claimed, until it ended or now.
    """

    id: str
    kind: str
    status: Status
    created: datetime
    agent: str
    step: int | None
    total: int | None
    doing: str
    score: float | None
    reason: str
    lasted_s: float | None

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return LIFECYCLE[self.status].is_final


@dataclass(frozen=True)
class Moment:
    """A line of a job's history; *lasted_s* is until the next one, None for the last."""

    name: Status
    at: datetime
    attempt: int | None
    agent: str
    message: str
    reason: str
    lasted_s: float | None


@dataclass(frozen=True)
class Made:
    """A result file."""

    artifact_id: str
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Step:
    """
    A step of a search.

    Attributes:
        score: 0 to 100, None when it has none.
        is_test: not a step of the search: the held-out rows, whose scores stand beside no others.
    """

    name: str
    score: float | None
    is_kept: bool
    is_test: bool
    word: str
    description: str


@dataclass(frozen=True)
class JobSeen:
    """
    One job, whole.

    Attributes:
        outcome: what its agent or its submitter wrote, parameters left out.
        facts: what of it is short, and has no place of its own on the page.
        scored_on: which rows the scores are of, such as `32 held-out rows`; empty where nobody has said.
        chosen_on: the same of the scores of its steps.
    """

    line: JobLine
    attempt: int
    max_attempts: int
    priority: int
    labels: Sequence[str]
    finished: datetime | None
    history: Sequence[Moment]
    made: Sequence[Made]
    steps: Sequence[Step]
    parameters: Any
    outcome: Mapping[str, Any]
    facts: Mapping[str, Any]
    scores: Mapping[str, float]
    scored_on: str
    chosen_on: str
    best: str
    report: str
    backtest: Any


@dataclass(frozen=True)
class AgentSeen:
    """An agent; *jobs* are those that it holds, *silent_s* the seconds since it was last heard of."""

    id: str
    name: str
    version: str
    host_os: str
    slots: int | None
    is_draining: bool
    not_accepting: str | None
    seen_at: datetime
    silent_s: float
    capabilities: Sequence[str]
    jobs: Sequence[JobLine]
