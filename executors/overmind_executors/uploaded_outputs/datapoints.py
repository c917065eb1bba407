"""The data set that outputs are bound to, found by id, by order, by input or by a field; on disk, not in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters, Problem, Stop, WorkStopped
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.rows.source import RowSource
from overmind_executors.uploaded_outputs.taking import input_digest

By = Literal["id", "order", "input_hash", "key"]
_COLUMNS: Final = {"id": "id", "order": "place", "input_hash": "digest", "key": "key"}
_SCHEMA: Final = """
CREATE TABLE points (place INTEGER PRIMARY KEY, id TEXT, digest TEXT, key TEXT, input TEXT, expected TEXT);
CREATE TABLE claims (place INTEGER PRIMARY KEY, times INTEGER, first INTEGER, last INTEGER, is_covered INTEGER);
"""
_MISSING: Final = """
SELECT place, id FROM points WHERE place NOT IN (SELECT place FROM claims WHERE is_covered) ORDER BY place
"""
_CLAIM: Final = """
INSERT INTO claims VALUES (?, 1, ?, ?, 0) ON CONFLICT (place) DO UPDATE SET times = times + 1, last = excluded.last
"""
_INDEXES: Final = """
CREATE INDEX by_id ON points (id);
CREATE INDEX by_digest ON points (digest);
CREATE INDEX by_key ON points (key);
"""


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One row of the data set; *place* is its order among them, counted from 0."""

    place: int
    id: str
    input: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class Claim:
    """How many outputs there are for one datapoint, and the first and the last entry of them."""

    times: int
    first: int
    last: int


class Datapoints:
    """
    An index of a data set, in a database that SQLite spills to disk and forgets.

    Used as a context manager, from one thread: `load`, then `find` and `claim` for each output, then `claimed`.
    """

    def __enter__(self) -> Datapoints:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")
        self.total = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def load(self, source: RowSource, key: str | None, stop: Stop) -> None:
        """
        Take in every row of *source*.

        Raises:
            InvalidParameters: a row cannot be read, an id stands twice, or there are none.
            WorkStopped: *stop* was set.
        """
        for row in source.rows():
            if stop.is_set():
                raise WorkStopped
            if isinstance(row, BrokenRow):
                problem = Problem("dataset", f"line {row.line}: {row.message}", row.code)
                raise InvalidParameters(problem)
            self._database.execute("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?)", _record(row, key))
            self.total += 1
        if not self.total:
            raise InvalidParameters(Problem("dataset", "there are no rows", "no_input"))
        for statement in _INDEXES.split(";"):
            self._database.execute(statement)

    def find(self, by: By, value: Any) -> list[Datapoint]:
        """The rows that *value* stands for: none, one, or two when there are more than one."""
        query = f"SELECT place, id, input, expected FROM points WHERE {_COLUMNS[by]} = ? LIMIT 2"  # noqa: S608 - a name of ours
        given = strict_json.dumps(value) if by == "key" else value
        return [Datapoint(p, i, _value(a), _value(b)) for p, i, a, b in self._database.execute(query, (given,))]

    def claim(self, place: int, entry: int) -> None:
        """Note that the output at *entry* is for the row at *place*."""
        self._database.execute(_CLAIM, (place, entry, entry))

    def claimed(self, place: int) -> Claim:
        """Who wants the row at *place*, which somebody does."""
        query = "SELECT times, first, last FROM claims WHERE place = ?"
        return Claim(*self._database.execute(query, (place,)).fetchone())

    def cover(self, place: int) -> None:
        """Note that the row at *place* has its output."""
        self._database.execute("UPDATE claims SET is_covered = 1 WHERE place = ?", (place,))

    def missing(self) -> Iterator[Datapoint]:
        """The rows that have none, in order."""
        for place, row_id in self._database.execute(_MISSING):
            yield Datapoint(place, row_id, None, None)


def _record(row: Row, key: str | None) -> tuple[Any, ...]:
    field = row.fields().get(key) if key else None
    return (
        row.order,
        row.id,
        input_digest(row.input),
        None if field is None else strict_json.dumps(field),
        strict_json.dumps(row.input),
        strict_json.dumps(row.expected),
    )


def _value(text: str) -> Any:
    return strict_json.loads(text)
