"""
Reading rows from files, one at a time, however long the file is.

```
bytes ─▶ format of the file ─▶ Line: a JSON value, or why there is none ─▶ rows.py: what the value means
```
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters, Problem

MAX_LINE_BYTES: Final = 4 << 20
MAX_ARRAY_BYTES: Final = 64 << 20
_BOM: Final = b"\xef\xbb\xbf"
_SNIFFED_BYTES: Final = 64 << 10
_UTF_16: Final = "is UTF-16; write it as UTF-8"
# What no file of ours begins with: none of it is UTF-8 text but the first of zip, which holds control characters.
_REFUSED: Final = {
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"\x1f\x8b": "is gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "is zstd; unpack it first",
    b"\xfd7zXZ\x00": "is xz; unpack it first",
    b"PK\x03\x04": "is zip; unpack it first",
}


@dataclass(frozen=True, slots=True)
class Line:
    """
    One entry of a file.

    Attributes:
        number: of the line in the file, or of the member in the array, counted from 1.
        value: the JSON value; for CSV an object of strings.
        fault: why it cannot be read, None when it can.
    """

    number: int
    value: Any = None
    fault: str | None = None


def format_of(path: Path) -> str:
    """`json`, `jsonl` or `csv`, by what the file begins with."""
    start = _head(path).removeprefix(_BOM).lstrip()[:1]
    return {b"[": "json", b"{": "jsonl"}.get(start, "csv")


def lines_of(path: Path, file_format: str) -> Iterator[Line]:
    """
    The entries of *path*; a broken one is a Line with a fault.

    Raises:
        InvalidParameters: packed or UTF-16; while iterating: the file as a whole is not of that format.
    """
    _head(path)
    readers = {"jsonl": _jsonl, "json": _json, "csv": _csv}
    return readers[file_format](path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    for start, what in _REFUSED.items():
        if head.startswith(start):
            raise _unreadable(what)
    return head


def _jsonl(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            too_long = len(raw) > MAX_LINE_BYTES
            while too_long and raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            if too_long:
                yield Line(number, fault=f"longer than {MAX_LINE_BYTES} bytes")
                continue
            text = raw.removeprefix(_BOM) if number == 1 else raw
            if text.strip():
                yield _parsed(number, text)


def _parsed(number: int, text: bytes) -> Line:
    try:
        return Line(number, strict_json.loads(text.rstrip(b"\r\n")))
    except strict_json.NotJson as error:
        return Line(number, fault=str(error))


def _json(path: Path) -> Iterator[Line]:
    if path.stat().st_size > MAX_ARRAY_BYTES:
        raise _unreadable(f"is a JSON array of more than {MAX_ARRAY_BYTES} bytes; write one row a line (JSONL)")
    try:
        text = path.read_bytes().removeprefix(_BOM).decode()
        for number, value in enumerate(strict_json.members(text), start=1):
            yield Line(number, value)
    except UnicodeDecodeError as error:
        raise _unreadable(f"is not UTF-8 (byte {error.start})") from None
    except strict_json.NotJson as error:
        raise _unreadable(f"is not a JSON array of rows: {error}") from None


def _csv(path: Path) -> Iterator[Line]:
    csv.field_size_limit(MAX_LINE_BYTES)
    # Bytes that are not UTF-8 become half surrogates here, and a fault of their own row below.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        table = csv.reader(file, delimiter=_delimiter(file), strict=True)
        try:
            header = next(table, [])
            if len(set(header)) != len(header) or not all(header):
                raise _unreadable("has a CSV header with an empty name or one name twice")
            while (cells := _next_cells(table)) is not None:
                if cells:
                    yield _csv_line(table.line_num, header, cells)
        except csv.Error as error:
            raise _unreadable(f"is not CSV at line {table.line_num}: {error}") from None


def _next_cells(table: Any) -> list[str] | None:
    cells: list[str] | None = next(table, None)
    return cells


def _csv_line(number: int, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        return Line(number, fault=f"{len(cells)} cells under a header of {len(header)}")
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return Line(number, fault="not UTF-8")
    return Line(number, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _delimiter(file: TextIO) -> str:
    header = file.readline()
    file.seek(0)
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _unreadable(what: str) -> InvalidParameters:
    return InvalidParameters(Problem("input", f"the file {what}"))
