"""What a person sees while a job runs: one line with a bar, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from overmind_agent.held_jobs import HeldJob
from overmind_agent.lifecycle import LIFECYCLE, Status

if TYPE_CHECKING:
    from rich.progress import TaskID


class Display:
    """A bar for each held job, nothing where nobody watches. Safe to use from any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, held: HeldJob, status: Status) -> None:
        """*held* has come to *status*, or has gone on within it."""
        if self._progress is None:
            return
        job = held.claim.job
        bar = self._bars.get(job.id)
        if bar is None:
            bar = self._bars[job.id] = self._progress.add_task("", total=None)
        if LIFECYCLE[status].is_final or status is Status.UNKNOWN:
            self._progress.remove_task(bar)
            del self._bars[job.id]
            return
        now = held.progress
        self._progress.update(
            bar,
            description=f"{job.job_type} {job.id[:8]} [bold]{status.value.lower()}[/bold]",
            total=now.total_steps if now else None,
            completed=now.step if now else 0,
        )


@contextmanager
def watching() -> Iterator[Display]:
    """Show bars on standard error as long as the block runs, if it is a terminal."""
    if not sys.stderr.isatty():
        yield Display(None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield Display(progress)
