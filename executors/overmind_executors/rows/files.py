"""
Reading rows from files, one at a time, however long the file is.

```
bytes ─▶ packed ─▶ encodings_of_text ─▶ format of the file ─▶ Line: a JSON value, or why there is none
                                                                └─▶ columns ─▶ rows.py: what the value means
```
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from overmind_executors import strict_json
from overmind_executors.rows import json_array, parquet, recorded, xlsx
from overmind_executors.rows.encodings_of_text import SNIFFED_BYTES, Encoding, as_utf8, encoding_of
from overmind_executors.rows.packed import unpacked, unreadable

MAX_LINE_BYTES: Final = 4 << 20
MAX_WRAPPED_BYTES: Final = 16 << 20
_PARQUET: Final = b"PAR1"
# An object round the array of rows, as some tools write it.
_WRAPPERS: Final = ("test_cases", "items", "rows")
_SPANS: Final = re.compile(rb'\{\s*"resourceSpans"\s*:\s*\[')
_LOG: Final = re.compile(rb'\{\s*"version"\s*:\s*\d+\s*,\s*"status"\s*:\s*"\w+"\s*,\s*"eval"\s*:\s*\{')
_WRAPPED: Final = re.compile(rb'\{\s*"(?:' + b"|".join(w.encode() for w in _WRAPPERS) + rb')"\s*:\s*\[')


@dataclass(frozen=True, slots=True)
class Line:
    """
    One entry of a file.

    Attributes:
        number: of the line in the file, or of the member in the array, or of the row of the table, counted from 1.
        value: the JSON value; for CSV an object of strings.
        fault: why it cannot be read, None when it can.
        code: of the fault: `not_json`, `not_finite`, `number_too_large`, `duplicate_key`, `too_deep`, `too_large`,
            `lone_surrogate`, `bad_encoding`, `nul_byte`, `wrong_cells`; empty without one.
        raw: the bytes or the text at fault, where a line is one.
    """

    number: int
    value: Any = None
    fault: str | None = None
    code: str = ""
    raw: bytes | str | None = None


@dataclass(frozen=True)
class RowFile:
    """
    A file of rows, and how it is read; can be read again and again.

    Attributes:
        file_format: `jsonl`, `json`, `csv`, `parquet`, `xlsx`, `otlp` or `inspect`.
    """

    path: Path
    file_format: str
    encoding: Encoding

    def lines(self) -> Iterator[Line]:
        """
        The entries; a broken one is a Line with a fault.

        Raises:
            InvalidParameters: while iterating: the file as a whole is not of its format, or is packed to do harm.
        """
        if self.file_format == "parquet":
            yield from _parquet(self.path)
            return
        if self.file_format == "xlsx":
            yield from _xlsx(self.path)
            return
        if self.file_format == "inspect" and recorded.is_log(self.path):
            yield from _eval_file(self.path)
            return
        with _text_of(self.path, self.encoding) as stream:
            yield from _READERS[self.file_format](stream)


def row_file(path: Path, *, file_format: str = "auto", encoding: str | None = None) -> RowFile:
    """
    How *path* is to be read, by what it begins with and what the job says.

    Args:
        file_format: `auto` or a format; `openai_batch` is JSONL.
        encoding: None for what the file looks like.

    Raises:
        InvalidParameters: a packing that cannot be read, no such encoding, or Parquet told as something else.
    """
    if xlsx.is_workbook(path):
        if file_format not in ("auto", "xlsx"):
            raise unreadable(f"is an Excel workbook, not {file_format}", "wrong_format")
        return RowFile(path, "xlsx", Encoding("utf-8"))
    if file_format == "xlsx":
        raise unreadable("is not an Excel workbook", "wrong_format")
    if recorded.is_log(path):
        if file_format not in ("auto", "inspect"):
            raise unreadable(f"is an Inspect log, not {file_format}", "wrong_format")
        return RowFile(path, "inspect", Encoding("utf-8"))
    with unpacked(path) as file:
        head = file.read(SNIFFED_BYTES)
    if head.startswith(_PARQUET):
        if file_format not in ("auto", "parquet"):
            raise unreadable(f"is Parquet, not {file_format}", "wrong_format")
        return RowFile(path, "parquet", Encoding("utf-8"))
    if file_format == "parquet":
        raise unreadable("is not Parquet", "wrong_format")
    seen = encoding_of(head, encoding)
    wanted = {"openai_batch": "jsonl"}.get(file_format, file_format)
    return RowFile(path, _format_of(path, seen) if wanted == "auto" else wanted, seen)


@contextmanager
def _text_of(path: Path, encoding: Encoding) -> Iterator[BinaryIO]:
    with unpacked(path) as file:
        yield as_utf8(file, encoding)


def _format_of(path: Path, encoding: Encoding) -> str:
    with _text_of(path, encoding) as stream:
        start = stream.read(SNIFFED_BYTES).lstrip()
    if _SPANS.match(start) or _LOG.match(start):
        return "otlp" if _SPANS.match(start) else "inspect"
    if start.startswith(b"{"):
        return "json" if _WRAPPED.match(start) and not _begins_with_two_rows(start) else "jsonl"
    return "json" if start.startswith(b"[") else "csv"


def _begins_with_two_rows(start: bytes) -> bool:
    """Whether the first line is whole and another one follows: JSONL whose rows have a key such as `items`."""
    first, _, rest = start.partition(b"\n")
    if not rest.strip():
        return False
    try:
        strict_json.loads(first)
    except strict_json.NotJson:
        return False
    return True


def _jsonl(stream: BinaryIO) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        too_long = len(raw) > MAX_LINE_BYTES
        while too_long and raw and not raw.endswith(b"\n"):
            raw = stream.readline(MAX_LINE_BYTES)
        if too_long:
            yield Line(number, fault=f"longer than {MAX_LINE_BYTES} bytes", code="too_large")
        elif raw.strip():
            yield _parsed(number, raw.rstrip(b"\r\n"))


def _parsed(number: int, text: bytes | str) -> Line:
    try:
        return Line(number, strict_json.loads(text))
    except strict_json.NotJson as error:
        has_nul = isinstance(text, bytes) and b"\0" in text
        return Line(number, fault=str(error), code="nul_byte" if has_nul else error.code, raw=text)


def _json(stream: BinaryIO) -> Iterator[Line]:
    head = stream.peek(SNIFFED_BYTES) if isinstance(stream, io.BufferedReader) else b""
    try:
        if head.lstrip().startswith(b"{"):
            yield from _wrapped(stream)
            return
        for number, member in enumerate(json_array.members(stream, most_bytes=MAX_LINE_BYTES), start=1):
            if member.fault is None:
                yield Line(number, member.value)
            else:
                yield Line(number, fault=str(member.fault), code=member.fault.code)
    except strict_json.NotJson as error:
        raise unreadable(f"is not a JSON array of rows: {error}", error.code) from None


def _wrapped(stream: BinaryIO) -> Iterator[Line]:
    text = stream.read(MAX_WRAPPED_BYTES + 1)
    if len(text) > MAX_WRAPPED_BYTES:
        raise unreadable(f"is an object of more than {MAX_WRAPPED_BYTES} bytes; write one row a line", "too_large")
    value = strict_json.loads(text)
    rows = next((value[name] for name in _WRAPPERS if isinstance(value.get(name), list)), None)
    if rows is None:
        raise unreadable(f"is an object without an array {' or '.join(_WRAPPERS)}", "wrong_format")
    yield from (Line(number, row) for number, row in enumerate(rows, start=1))


def _csv(stream: BinaryIO) -> Iterator[Line]:
    csv.field_size_limit(MAX_LINE_BYTES)
    # Bytes that are not UTF-8 become half surrogates here, and a fault of their own row below.
    file = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    first = file.readline(MAX_LINE_BYTES)
    text = _Lines(first, file)
    table = csv.reader(text, delimiter=_delimiter(first), strict=True)
    try:
        header = next(table, [])
        if len(set(header)) != len(header) or not all(header):
            raise unreadable("has a CSV header with an empty name or one name twice", "bad_header")
        if "\0" in "".join(header):
            raise unreadable("has a CSV header with a NUL byte in a name", "bad_header")
        while (cells := _next_cells(table, text)) is not None:
            if cells:
                yield _csv_line(table.line_num, header, cells)
    except csv.Error as error:
        raise unreadable(f"is not CSV at line {table.line_num}: {error}", "bad_csv") from None
    finally:
        file.detach()  # who opened the stream closes it


class _Lines:
    """
    The lines of a table. Neither one of them nor a row of several, whose cells have line ends in quotes, is longer
    than a row may be.
    """

    def __init__(self, first: str, file: TextIO) -> None:
        self._file = file
        self._next = first
        self._number = 0
        self._letters_of_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next if self._number == 0 else self._file.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        self._number += 1
        self._letters_of_row += len(line)
        if self._letters_of_row > MAX_LINE_BYTES or (len(line) == MAX_LINE_BYTES and not line.endswith("\n")):
            raise unreadable(
                f"has more than {MAX_LINE_BYTES} letters in the row that ends at line {self._number} or later",
                "too_large",
            )
        return line

    def begin_row(self) -> None:
        """What comes next belongs to another row."""
        self._letters_of_row = 0


def _next_cells(table: Any, text: _Lines) -> list[str] | None:
    text.begin_row()
    cells: list[str] | None = next(table, None)
    return cells


def _csv_line(number: int, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        return Line(number, fault=f"{len(cells)} cells under a header of {len(header)}", code="wrong_cells")
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return Line(number, fault="not UTF-8", code="bad_encoding")
    if any("\0" in cell for cell in cells):
        return Line(number, fault="a NUL byte", code="nul_byte")
    return Line(number, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _delimiter(header: str) -> str:
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _parquet(path: Path) -> Iterator[Line]:
    for number, text in enumerate(parquet.json_rows(path), start=1):
        if len(text) > MAX_LINE_BYTES:
            yield Line(number, fault=f"longer than {MAX_LINE_BYTES} letters", code="too_large")
        else:
            yield _parsed(number, text)


def _xlsx(path: Path) -> Iterator[Line]:
    for number, header, cells in xlsx.table(path):
        texts = [cell for cell in cells if isinstance(cell, str)]
        if len(cells) > len(header):
            yield Line(number, fault=f"more cells than a header of {len(header)} has", code="wrong_cells")
        elif sum(map(len, texts)) > MAX_LINE_BYTES:
            yield Line(number, fault=f"longer than {MAX_LINE_BYTES} letters", code="too_large")
        else:
            named = {name: cell for name, cell in zip(header, cells, strict=True) if cell not in (None, "")}
            yield _parsed(number, json.dumps(named))


def _documents(stream: BinaryIO) -> Iterator[Any]:
    """The JSON objects of a file with one a line, or of one object on many lines."""
    first = True
    while raw := stream.readline(recorded.MOST_OF_A_DOCUMENT + 1):
        if not raw.strip():
            continue
        try:
            yield strict_json.loads(raw) if len(raw) <= recorded.MOST_OF_A_DOCUMENT else None
        except strict_json.NotJson:
            if not first:
                yield None
                continue
            raw += stream.read(recorded.MOST_OF_A_DOCUMENT + 1 - len(raw))
            if len(raw) > recorded.MOST_OF_A_DOCUMENT:
                raise unreadable(
                    f"is an object of more than {recorded.MOST_OF_A_DOCUMENT} bytes", "too_large"
                ) from None
            yield _whole(raw)
        first = False


def _whole(raw: bytes) -> Any:
    try:
        return strict_json.loads(raw)
    except strict_json.NotJson as error:
        raise unreadable(f"is not JSON: {error}", error.code) from None


def _otlp(stream: BinaryIO) -> Iterator[Line]:
    number = 0
    for document in _documents(stream):
        if document is None:
            number += 1
            yield Line(number, fault="a line that is not JSON", code="not_json")
        for row in recorded.rows_of_spans(document):
            number += 1
            yield _as_line(number, row)


def _inspect(stream: BinaryIO) -> Iterator[Line]:
    raw = stream.read(recorded.MOST_OF_A_DOCUMENT + 1)
    if len(raw) > recorded.MOST_OF_A_DOCUMENT:
        raise unreadable(
            f"is a log of more than {recorded.MOST_OF_A_DOCUMENT} bytes; keep it as .eval", "too_large"
        )
    log = _whole(raw)
    samples = log.get("samples") if isinstance(log, dict) else None
    for number, sample in enumerate(samples if isinstance(samples, list) else (), start=1):
        yield _as_line(number, recorded.row_of_sample(sample))


def _eval_file(path: Path) -> Iterator[Line]:
    for number, raw in enumerate(recorded.samples_in(path), start=1):
        if len(raw) > recorded.MOST_OF_A_DOCUMENT:
            yield Line(number, fault=f"longer than {recorded.MOST_OF_A_DOCUMENT} bytes", code="too_large")
            continue
        line = _parsed(number, raw)
        yield line if line.fault is not None else _as_line(number, recorded.row_of_sample(line.value))


def _as_line(number: int, row: Any) -> Line:
    if len(strict_json.dumps(row)) > MAX_LINE_BYTES:
        return Line(number, fault=f"longer than {MAX_LINE_BYTES} letters", code="too_large")
    return Line(number, row)


_READERS: Final = {"jsonl": _jsonl, "json": _json, "csv": _csv, "otlp": _otlp, "inspect": _inspect}
