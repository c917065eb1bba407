"""One row of a stranger's file: an output that can be taken in, or why not."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.rows.source import RowSource
from overmind_executors.scoring.items import MISSING, Item, item_of

MAX_OUTPUT_BYTES: Final = 1 << 20
_MAX_PERSONA: Final = 128

# Why a row may be rejected: the reader's codes, and these.
REJECT_CODES: Final[Mapping[str, str]] = {
    "not_json": "the line is not JSON",
    "not_finite": "NaN or an infinity",
    "number_too_large": "a number that readers would round, or refuse",
    "duplicate_key": "one key twice in an object",
    "too_deep": "more than 64 levels",
    "lone_surrogate": "half of a surrogate pair",
    "bad_encoding": "bytes that are not in the file's encoding",
    "nul_byte": "a NUL byte",
    "wrong_cells": "a line of a table with more or fewer cells than its header",
    "too_large": "a line over 4 MiB, or an output over 1 MiB",
    "not_object": "something else than an object",
    "bad_id": "an id that cannot be one",
    "bad_batch": "a broken line of OpenAI's batch format",
    "missing_output": "no output, and no error that would say why",
    "bad_order": "an order that is not a whole number from 0",
    "schema_mismatch": "a persona of more than 128 letters",
    "unknown_datapoint": "no row of the data set is meant",
    "ambiguous_input": "several rows of the data set have that input",
    "duplicate_datapoint": "several outputs for one row of the data set",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """
    One output that is well formed.

    Attributes:
        entry: its place among all entries of the file, counted from 0.
        id: empty when it names none.
        order: as it says, None when it does not.
        input_sha256: of the canonical input, None without one.
    """

    entry: int
    line: int
    id: str
    order: int | None
    input_sha256: str | None
    item: Item
    row: Row


@dataclass(frozen=True, slots=True)
class Rejected:
    """One entry that is not taken in; *raw* is what stood there, as far as that is known."""

    entry: int
    line: int
    code: str
    message: str
    raw: Any = None


def entries(source: RowSource) -> Iterator[Taken | Rejected]:
    """Every entry of *source*, in its order; the same ones each time."""
    for row in source.rows(unique=False):
        yield _rejected(row) if isinstance(row, BrokenRow) else _taken(row)


def input_digest(given: Any) -> str | None:
    """SHA-256 of the canonical JSON of an input with its texts in Unicode's composed form; None for none."""
    if given is None:
        return None
    return hashlib.sha256(strict_json.canonical(_composed(given))).hexdigest()


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_composed(key): _composed(part) for key, part in value.items()}
    return [_composed(part) for part in value] if isinstance(value, list) else value


def _rejected(row: BrokenRow) -> Rejected:
    return Rejected(row.order, row.line, row.code, row.message, row.raw)


def _taken(row: Row) -> Taken | Rejected:
    item = item_of(row)
    problem = _problem(row, item)
    if problem is not None:
        return Rejected(row.order, row.line, *problem, row.source)
    return Taken(row.order, row.line, item.id, _order(row.source), input_digest(item.input), item, row)


def _problem(row: Row, item: Item) -> tuple[str, str] | None:
    """The code and the message of what is wrong, None for nothing."""
    if item.output is MISSING and not item.failure:
        return "missing_output", "no field 'output'"
    given = row.source.get("order")
    if given not in (None, "") and _order(row.source) is None:
        return "bad_order", "order is not a whole number from 0"
    if len(item.id) > 256 or not item.id.isprintable():
        return "bad_id", "an id longer than 256 characters or with control characters"
    persona = row.source.get("persona")
    if persona is not None and (not isinstance(persona, str) or len(persona) > _MAX_PERSONA):
        return "schema_mismatch", f"persona is not a text of at most {_MAX_PERSONA} letters"
    if item.output is not MISSING and len(strict_json.dumps(item.output).encode()) > MAX_OUTPUT_BYTES:
        return "too_large", f"an output of more than {MAX_OUTPUT_BYTES} bytes"
    return None


def _order(source: Mapping[str, Any]) -> int | None:
    given = source.get("order")
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 18:
        return int(given)  # from a table, where everything is text
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None
