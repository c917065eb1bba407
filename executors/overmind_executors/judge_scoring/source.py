"""Which rows are scored: all of them, or a sample that is the same in every life of a job."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator

from overmind_executors.contract import Context, InvalidParameters, Problem, WorkStopped
from overmind_executors.inference.parameters import InferenceParameters, ModelTarget
from overmind_executors.inference.source import RowSource, find_rows
from overmind_executors.judge_scoring.parameters import JudgeScoringParameters
from overmind_executors.rows import BrokenRow, Row


class Selection:
    """The rows of a job, in their order."""

    def __init__(self, source: RowSource, chosen: frozenset[str] | None, total: int) -> None:
        self._source = source
        self._chosen = chosen
        self.total = total

    def rows(self) -> Iterator[Row | BrokenRow]:
        """One after the other; those that cannot be read, too, unless a sample was drawn."""
        for row in self._source.rows():
            if self._chosen is None or (isinstance(row, Row) and row.id in self._chosen):
                yield row


def select(task: JudgeScoringParameters, context: Context) -> Selection:
    """
    Find the rows, look at each once, and draw the sample.

    Raises:
        InvalidParameters: there are none, or more than half of them cannot be read.
        WorkStopped: the job was asked to stop.
    """
    place = task.model_dump(include={"items", "items_file", "dataset_id", "model_id", "path", "format"})
    source = find_rows(InferenceParameters(**place, target=ModelTarget(model="none")), context)
    total = broken = 0
    lowest: list[tuple[int, str]] = []
    for row in source.rows():
        if context.stop.is_set():
            raise WorkStopped
        total += 1
        if isinstance(row, BrokenRow):
            broken += 1
        elif task.max_items:
            rank = -int.from_bytes(hashlib.sha256(f"{task.seed}\n{row.id}".encode()).digest()[:8])
            push = heapq.heappush if len(lowest) < task.max_items else heapq.heappushpop
            push(lowest, (rank, row.id))
    if total == 0:
        raise InvalidParameters(Problem("input", "there are no rows"))
    if broken * 2 > total:
        raise InvalidParameters(Problem("input", f"{broken} of {total} rows cannot be read"))
    if not task.max_items or total - broken <= task.max_items:
        return Selection(source, None, total)
    return Selection(source, frozenset(row_id for _, row_id in lowest), len(lowest))
