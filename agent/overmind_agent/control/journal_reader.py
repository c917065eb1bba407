"""The journal, read without the daemon or beside it: what is to be gone on with, and what lies in the outbox."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

WAIT_S: Final = 2.0


class NoJournal(Exception):
    """There is none, or it cannot be read; the message says which."""


class NoneYet(NoJournal):
    """No agent has worked there."""


@dataclass(frozen=True)
class KnownJob:
    """A job that is to be gone on with; *state* is `held` or, before its claim was answered, `intended`."""

    job_id: str
    job_type: str
    attempt: int | None
    state: str
    status: str | None
    changed_at: str


@dataclass(frozen=True)
class OutboxLine:
    """
    A status in the outbox.

    Attributes:
        position: names it.
        why: why it is parked; None for one that waits to be sent.
    """

    position: int
    job_id: str
    attempt: int
    status: str
    message: str | None
    posted_at: str
    why: str | None


@dataclass(frozen=True)
class Reading:
    """All of it that a person asks for. *paused_at* is None when new jobs are taken."""

    agent_id: str | None
    paused_at: str | None
    jobs: tuple[KnownJob, ...]
    outbox: tuple[OutboxLine, ...]


def read(state: Path) -> Reading:
    """
    What the journal in *state* says; nothing is changed, and no daemon is held up.

    Raises:
        NoJournal: see there.
    """
    with _open(state / "journal.sqlite") as db:
        known = dict(db.execute("SELECT name, value FROM identity WHERE name IN ('agent_id', 'paused_at')"))
        return Reading(known.get("agent_id"), known.get("paused_at") or None, tuple(_jobs(db)), tuple(_outbox(db)))


def age_s(moment: str) -> float:
    """Seconds since *moment*, which is as the journal writes times; by wall time."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        if not path.exists():
            raise NoneYet(f"no agent has worked on {path.parent} yet; --config or --state-dir names another")
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=WAIT_S)) as db:
            yield db
    except PermissionError as error:
        raise NoJournal(f"{path.parent} is another user's; ask as the agent's user or as root") from error
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise NoJournal(f"{path} cannot be read: {error}") from error


def _jobs(db: sqlite3.Connection) -> Iterator[KnownJob]:
    rows = db.execute(
        "SELECT job_id, document, attempt, state, changed_at,"
        " (SELECT status FROM outbox WHERE outbox.job_id = claim.job_id AND outbox.attempt = claim.attempt"
        "  ORDER BY sequence DESC LIMIT 1)"
        " FROM claim WHERE state IN ('intended', 'held') ORDER BY changed_at"
    )
    for job_id, document, attempt, state, changed_at, status in rows:
        found: dict[str, Any] = json.loads(document)
        yield KnownJob(job_id, found.get("job", found)["job_type"], attempt, state, status, changed_at)


def _outbox(db: sqlite3.Connection) -> Iterator[OutboxLine]:
    rows = db.execute(
        "SELECT position, job_id, attempt, status, message, posted_at,"
        " CASE WHEN fate = 'refused' THEN coalesce(fate_why, '') END"
        " FROM outbox WHERE fate IS NULL OR fate = 'refused' ORDER BY position"
    )
    yield from (OutboxLine(*row) for row in rows)
