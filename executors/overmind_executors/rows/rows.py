"""Rows of a data set: what an entry of a file means, and which rows there are."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.rows.files import Line

BATCH_URL: Final = "/v1/chat/completions"
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row that can be read.

    Attributes:
        order: its place among all entries, counted from 0.
        line: where it stands in its file.
        id: its own, or the SHA-256 of its canonical JSON.
        source: the entry as it was given; what can be submitted again.
        input: None when the row has none.
        expected: the answer that is hoped for, None when the row has none.
        body: the request's body of a line in OpenAI's batch format, else None.
    """

    order: int
    line: int
    id: str
    source: Mapping[str, Any]
    input: Any = None
    expected: Any = None
    body: Mapping[str, Any] | None = None

    def fields(self) -> Mapping[str, Any]:
        """What a template may name: the row's keys, below them those of `metadata` and of an `input` object."""
        nested = [part for part in (self.source.get("metadata"), self.input) if isinstance(part, dict)]
        merged = {key: value for part in nested for key, value in part.items()}
        return {**merged, **self.source, "input": self.input}


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """
    One entry that cannot be read, and why.

    Attributes:
        code: of `Line`, or `not_object`, `bad_id`, `bad_batch`.
        raw: what stood there, as far as it is known.
    """

    order: int
    line: int
    message: str
    code: str = ""
    raw: Any = None


def rows_of(lines: Iterable[Line], *, most: int = 0, unique: bool = True) -> Iterator[Row | BrokenRow]:
    """
    What *lines* mean, in their order.

    Args:
        most: end after so many entries, 0 for all.
        unique: False leaves ids as they are: a row without one has the empty one, and one id may stand twice.

    Raises:
        InvalidParameters: while iterating: an id stands at two lines; both are named.
    """
    with _Ids() as ids:
        for order, line in enumerate(islice(lines, most or None)):
            row = _row(order, line)
            yield ids.enter(row) if unique and isinstance(row, Row) else row


def _row(order: int, line: Line) -> Row | BrokenRow:
    if line.fault is not None:
        return BrokenRow(order, line.number, line.fault, line.code, line.raw)
    fault = _fault_of(line.value)
    if fault:
        return BrokenRow(order, line.number, *fault, raw=line.value)
    value: dict[str, Any] = line.value
    if is_batch(value):
        return Row(order, line.number, value["custom_id"], value, value["body"].get("messages"), body=value["body"])
    given = value.get("id")
    return Row(
        order,
        line.number,
        str(given) if given not in (None, "") else "",
        value,
        value.get("input"),
        value.get("expected_output"),
    )


def is_batch(value: Any) -> bool:
    """Whether *value* is a line of OpenAI's batch format."""
    return isinstance(value, dict) and "custom_id" in value and "body" in value


def is_batch_output(value: Any) -> bool:
    """Whether *value* is a line of the output of OpenAI's batch format, as ours of `inference` are."""
    return isinstance(value, dict) and "custom_id" in value and "response" in value


def _fault_of(value: Any) -> tuple[str, str] | None:
    """The message and the code, None when there is nothing wrong."""
    if not isinstance(value, dict):
        return "not a JSON object", "not_object"
    row_id = value.get("custom_id" if is_batch(value) else "id")
    if not isinstance(row_id, str | int | None) or isinstance(row_id, bool):
        return "an id that is neither a string nor an integer", "bad_id"
    if isinstance(row_id, str) and (len(row_id) > _MAX_ID or not row_id.isprintable()):
        return f"an id longer than {_MAX_ID} characters or with control characters", "bad_id"
    fault = _batch_fault(value) if is_batch(value) else None
    return (fault, "bad_batch") if fault else None


def _batch_fault(value: dict[str, Any]) -> str | None:
    if not isinstance(value["custom_id"], str) or not value["custom_id"]:
        return "a custom_id that is not a string"
    if value.get("method", "POST") != "POST" or value.get("url", BATCH_URL) != BATCH_URL:
        return f"a request other than POST {BATCH_URL}"
    if not isinstance(value["body"], dict):
        return "a body that is not an object"
    return None


class _Ids:
    """
    Every id so far and its line, in a database that SQLite spills to disk and forgets: 200,000 ids in a dict
    would cost some 40 MB.
    """

    def __enter__(self) -> _Ids:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, line INTEGER, times INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")
        return self

    def __exit__(self, *_raised: object) -> None:
        self._database.close()

    def enter(self, row: Row) -> Row:
        """*row*, with an id. Rows without one that are alike get theirs numbered: they are not a mistake."""
        if row.id:
            earlier, _ = self._see(row.id.encode(), row.line)
            if earlier is not None:
                raise InvalidParameters(Problem("input", f"the same id at line {earlier} and at line {row.line}"))
            return row
        digest = hashlib.sha256(strict_json.canonical(row.source)).hexdigest()
        _, times = self._see(digest.encode(), row.line)
        made = digest if times == 0 else f"{digest}-{times + 1}"
        return Row(row.order, row.line, made, row.source, row.input, row.expected, row.body)

    def _see(self, row_id: bytes, line: int) -> tuple[int | None, int]:
        found = self._database.execute("SELECT line, times FROM seen WHERE id = ?", (row_id,)).fetchone()
        self._database.execute(
            "INSERT INTO seen VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1", (row_id, line)
        )
        return (None, 0) if found is None else (found[0], found[1])
