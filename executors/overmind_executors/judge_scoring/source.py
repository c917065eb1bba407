"""Which rows are scored: all of them, or a sample that is the same in every life of a job."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from overmind_executors.contract import Context, InvalidParameters, Problem, WorkStopped
from overmind_executors.judge_scoring.parameters import JudgeScoringParameters
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.rows.source import RowSource, find_rows
from overmind_executors.scoring.items import Item, item_of
from overmind_executors.scoring.texts import as_text


@dataclass
class Read:
    """
    What a look at each row has counted.

    Attributes:
        askable: rows with something to judge; letters: of their outputs and inputs together.
        measure: how many bytes a judge is shown of one.
        longest: the most bytes of any.
    """

    measure: Callable[[Item], int]
    total: int = 0
    broken: int = 0
    askable: int = 0
    letters: int = 0
    longest: int = 0

    def add(self, row: Row | BrokenRow) -> None:
        """Count one more."""
        self.total += 1
        if isinstance(row, BrokenRow):
            self.broken += 1
        elif is_judgeable(item := item_of(row)):
            self.askable += 1
            output = "" if item.absence else as_text(item.output)
            self.letters += len(output) + len(as_text(item.input))
            self.longest = max(self.longest, self.measure(item))


def is_judgeable(item: Item) -> bool:
    """Whether a judge has something to look at: an output, or the calls of a program that did not fail."""
    return not item.absence or (item.absence != "execution_error" and bool(item.tool_calls))


class Selection:
    """
    The rows of a job, in their order.

    Attributes:
        total: how many there are.
        judged: the ids of those that judges see, None for all.
        read: what the file holds, whatever was drawn from it.
    """

    def __init__(self, source: RowSource, chosen: _Sample, judged: _Sample, read: Read) -> None:
        total, self.read = read.total, read
        self._source = source
        self._chosen = chosen.ids(total)
        self.total = total if self._chosen is None else len(self._chosen)
        self.judged = judged.ids(self.total)

    def rows(self) -> Iterator[Row | BrokenRow]:
        """One after the other; those that cannot be read, too, unless a sample was drawn."""
        for row in self._source.rows():
            if self._chosen is None or (isinstance(row, Row) and row.id in self._chosen):
                yield row


def select(task: JudgeScoringParameters, context: Context) -> Selection:
    """
    Find the rows, look at each once, and draw the samples.

    Raises:
        InvalidParameters: there are none, or more than half of them cannot be read.
        WorkStopped: the job was asked to stop.
    """
    source = find_rows(task, context, wanted=("input", "output", "expected_output"))
    # One order for both, so that the judges' sample lies within the job's.
    chosen = _Sample(task.max_items, task.seed)
    judged = _Sample(task.judge.max_items if task.judge else 0, task.seed)
    read = Read(task.judge.bytes_shown if task.judge else lambda _item: 0)
    for row in source.rows():
        if context.stop.is_set():
            raise WorkStopped
        read.add(row)
        if isinstance(row, Row):
            chosen.offer(row.id)
            judged.offer(row.id)
    if read.total == 0:
        raise InvalidParameters(Problem("input", "there are no rows"))
    if read.broken * 2 > read.total:
        raise InvalidParameters(Problem("input", f"{read.broken} of {read.total} rows cannot be read"))
    return Selection(source, chosen, judged, read)


class _Sample:
    """The *size* ids with the lowest digests of all that are offered, in whatever order they come."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._lowest: list[tuple[int, str]] = []

    def offer(self, row_id: str) -> None:
        """One more id."""
        if not self._size:
            return
        rank = -int.from_bytes(hashlib.sha256(f"{self._seed}\n{row_id}".encode()).digest()[:8])
        push = heapq.heappush if len(self._lowest) < self._size else heapq.heappushpop
        push(self._lowest, (rank, row_id))

    def ids(self, total: int) -> frozenset[str] | None:
        """Those drawn; None when all *total* rows are in."""
        return None if not self._size or total <= self._size else frozenset(row_id for _, row_id in self._lowest)
