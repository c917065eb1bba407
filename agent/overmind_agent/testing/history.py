"""
What happened, as values: a control plane's record of its jobs, what executors did, and who was disturbed when.

    history = read(plane_folder / "control-plane.db", ledger, disturbances=nemesis.log)
    assert not invariants.violations(history)

The control plane writes the line of a job's history in the transaction that changes the job, so the lines are the
total order of what happened, and each rule about them is one walk along them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from overmind_agent.lifecycle import Status

EXPIRED: Final = "the lease ran out"


@dataclass(frozen=True)
class Event:
    """One line of a job's history; `at_s` in seconds since 1970."""

    job_id: str
    status: Status
    attempt: int
    agent: str | None
    at_s: float
    message: str | None = None
    declared: frozenset[tuple[str, str]] = frozenset()
    reason: str | None = None


@dataclass(frozen=True)
class Stored:
    """A result file: what the control plane says of it, and the SHA-256 of the bytes that it really has."""

    job_id: str
    name: str
    sha256: str
    found_sha256: str | None


@dataclass(frozen=True)
class Effect:
    """A line of the ledger: that work was `begun`, or `ended` with the output *sha256*, on the host *where*."""

    job_id: str
    attempt: int
    what: str
    where: str
    at_s: float
    sha256: str | None = None


@dataclass(frozen=True)
class Disturbance:
    """What was done to whom: *kind* such as `kill`, `freeze`, `kill child`; *whom* an agent's name, or `server`."""

    kind: str
    whom: str
    at_s: float
    until_s: float


@dataclass(frozen=True)
class Grant:
    """A claim that was granted under an idempotency key."""

    job_id: str
    attempt: int
    key: str


@dataclass(frozen=True)
class History:
    """
    All of it.

    Attributes:
        events: in the order in which they happened.
        agents: names by id.
        is_noisy: whether faults of the network came on top, which may explain a lost lease of anybody.
        left_over: what should not be there any more: processes, statuses not delivered, temporary files.
        leaks: where a secret was found.
        calm_at_s: when the last disturbance had passed; None when it is not to be looked at.
        settle_s: within which time everything had to end after that.
    """

    jobs: Sequence[str]
    events: Sequence[Event]
    stored: Sequence[Stored] = ()
    effects: Sequence[Effect] = ()
    disturbances: Sequence[Disturbance] = ()
    grants: Sequence[Grant] = ()
    agents: Mapping[str, str] = field(default_factory=dict)
    is_noisy: bool = False
    left_over: Sequence[str] = ()
    leaks: Sequence[str] = ()
    calm_at_s: float | None = None
    settle_s: float = 60.0

    def of(self, job_id: str) -> list[Event]:
        """The events of one job."""
        return [event for event in self.events if event.job_id == job_id]

    def by_job(self) -> Mapping[str, list[Event]]:
        """The events of every job that has any."""
        found: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.job_id].append(event)
        return found

    def shape(self) -> dict[str, list[tuple[str, int]]]:
        """Statuses and attempts of every job: what is the same when nothing but time differs."""
        return {job_id: [(e.status.value, e.attempt) for e in events] for job_id, events in self.by_job().items()}


def read(database: Path, ledger: Path | None = None, **more: Any) -> History:
    """
    The history of a control plane that keeps its record in the SQLite file *database*.

    Args:
        ledger: JSON lines that executors wrote: `job_id`, `attempt`, `what`, `where`, `at_s`, `sha256`.
        more: further fields of History.
    """
    with closing(sqlite3.connect(database)) as db:
        return History(
            jobs=[row[0] for row in db.execute("SELECT id FROM jobs ORDER BY number")],
            events=[_event(*row) for row in db.execute(_EVENTS)],
            stored=[
                Stored(job_id, name, sha256, _digest(database.parent / "blobs" / project / content[:2] / content))
                for job_id, name, sha256, project, content in db.execute(_STORED)
            ],
            effects=_effects(ledger) if ledger and ledger.exists() else (),
            grants=[Grant(*row) for row in db.execute(_GRANTS)],
            agents={agent_id: json.loads(value)["display_name"] for agent_id, value in db.execute(_NAMES)},
            **more,
        )


_EVENTS: Final = """
SELECT job_id, name, coalesce(attempt, 0), agent_id, created, message, detail FROM job_events ORDER BY number
"""
_GRANTS: Final = "SELECT made, attempt, key FROM idempotency_keys WHERE scope LIKE '%:claim'"
# A job's result files: the artifacts whose first revision names a revision of the job's file as a source.
_STORED: Final = """
SELECT DISTINCT jobs.id, made.name, made.sha256, made.project_id, made.content_sha FROM jobs
JOIN revisions AS parameters ON parameters.file_id = jobs.file_id
JOIN links ON links.source_id = parameters.id
JOIN revisions AS made ON made.id = links.product_id
"""
_NAMES: Final = "SELECT agent_id, value FROM agent_events WHERE kind = 'display_name' ORDER BY number"


def _event(
    job_id: str, status: str, attempt: int, agent: str | None, created: str, message: str | None, detail: str | None
) -> Event:
    told = (json.loads(detail) or {}) if detail else {}
    return Event(
        job_id,
        Status.read(status),
        attempt,
        agent,
        datetime.fromisoformat(created).replace(tzinfo=UTC).timestamp(),
        message,
        frozenset((line["name"], line["sha256"]) for line in told.get("files") or ()),
        told.get("reason"),
    )


def _effects(ledger: Path) -> list[Effect]:
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [
        Effect(line["job_id"], line["attempt"], line["what"], line["where"], line["at_s"], line.get("sha256"))
        for line in lines
    ]


def _digest(blob: Path) -> str | None:
    return hashlib.sha256(blob.read_bytes()).hexdigest() if blob.is_file() else None
