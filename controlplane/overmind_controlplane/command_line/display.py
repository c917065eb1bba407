"""How jobs are shown: a table, a page, a live bar on a terminal, JSON lines everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from overmind_controlplane.command_line.facts import Facts


class Watcher(Protocol):
    """Somebody who is shown what becomes of a job."""

    def show(self, facts: Facts) -> None:
        """The job is so now; may be called with what was shown already."""


class Lines:
    """Writes a JSON line whenever something has changed."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None

    def show(self, facts: Facts) -> None:
        """One line, if it says anything new."""
        told = {
            "id": facts.id,
            "status": facts.status.value,
            "attempt": facts.attempt,
            "progress": facts.progress,
            "message": facts.message,
        }
        if told != self._last:
            self._last = told
            sys.stdout.write(
                json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **told}) + "\n"
            )
            sys.stdout.flush()


class Bar:
    """A bar on a terminal, and a line for each status that was passed."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._status: str | None = None

    def show(self, facts: Facts) -> None:
        """Move the bar."""
        from rich.text import Text

        if facts.status.value != self._status:
            self._status = facts.status.value
            # Messages come from hosts that we do not know: as Text, nothing in them is markup.
            self._progress.console.print(Text(printable(f"{self._status:<11}{facts.message or ''}")))
        now = facts.progress or {}
        self._progress.update(
            self._task,
            description=printable(f"{facts.job_type} {now.get('step_name', '')}"),
            total=now.get("total_steps"),
            completed=now.get("step", 0),
        )


@contextmanager
def watcher() -> Iterator[Watcher]:
    """A bar if standard output is a terminal, else JSON lines."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), transient=True) as progress:
        yield Bar(progress)


def table(jobs: Sequence[Facts]) -> str:
    """One job a line."""
    return "\n".join(
        printable(
            f"{job.id}  {job.status.value:<10}  {job.job_type:<22}  {job.created[:19]}  {job.message or ''}"[:160]
        )
        for job in jobs
    )


def page(facts: Facts, files: Sequence[dict[str, Any]]) -> str:
    """All of a job, one fact a line."""
    told = [("id", facts.id), ("type", facts.job_type), ("status", facts.status.value), ("created", facts.created)]
    told += [("attempt", str(facts.attempt)), ("agent", facts.agent_id or "-")]
    if facts.progress and not facts.is_final:  # what it said last is not where it ended
        now = facts.progress
        told.append(("progress", f"{now.get('step')}/{now.get('total_steps')} {now.get('step_name')}"))
    told += [("message", facts.message)] if facts.message else []
    told += [("reason", facts.reason)] if facts.reason else []
    told += [(name, str(value)) for name, value in facts.scores.items()]
    said = {name: value for name, value in facts.outcome.items() if value not in (None, [], {}, "")}
    told += [(f"outcome.{name}", json.dumps(value)[:200]) for name, value in said.items()]
    told += [("file", f"{file['name']} ({file['size_bytes']} bytes)") for file in files]
    return "\n".join(printable(f"{name:<28}{value}") for name, value in told)


def printable(text: str) -> str:
    """*text* without characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
