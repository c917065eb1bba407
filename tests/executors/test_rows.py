"""Rows: what files and their entries mean, hostile ones too."""

from __future__ import annotations

import bz2
import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.contract import InvalidParameters
from overmind_executors.rows import files as row_files
from overmind_executors.rows.files import Line, row_file
from overmind_executors.rows.rows import BrokenRow, Row, rows_of


def _read(path: Path, content: bytes) -> list[Row | BrokenRow]:
    path.write_bytes(content)
    return list(rows_of(row_file(path).lines()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


A, B = b'{"id":"a","input":"x","expected_output":"y"}', b'{"id":"b","input":"z","expected_output":"w"}'
BOM = b"\xef\xbb\xbf"
FORMATS = {
    "jsonl": A + b"\n" + B + b"\n",
    "jsonl with an empty line and no last newline": A + b"\n\n" + B,
    "jsonl of Windows": BOM + A + b"\r\n" + B + b"\r\n",
    "json": b" [" + A + b",\n " + B + b"]\n",
    "json of Windows": BOM + b"[" + A + b"," + B + b"]",
    "csv": b"id,input,expected_output\na,x,y\nb,z,w\n",
    "csv of Windows": BOM + b"id;input;expected_output\r\na;x;y\r\n\r\nb;z;w\r\n",
    "tabs": b"id\tinput\texpected_output\na\tx\ty\nb\tz\tw",
    "quoted csv": b'"id","input","expected_output"\n"a","x","y"\n"b","z","w"\n',
}


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS.keys())
def test_one_table_in_all_formats(path: Path, content: bytes) -> None:
    rows = _read(path, content)

    assert [(0, "a", "x", "y"), (1, "b", "z", "w")] == [(r.order, r.id, r.input, r.expected) for r in rows]


BROKEN_LINES = {
    "not JSON": (b"nope", "expecting value"),
    "NaN": (b'{"input": NaN}', "NaN"),
    "a key twice": (b'{"input": "a", "input": "b"}', "twice"),
    "deep": (b'{"input": ' + b"[" * 100_000, "nested deeper"),
    "a byte order mark": (b'\xef\xbb\xbf{"input": "a"}', "expecting value"),
    "a NUL": (b'{"input": "a\x00"}', "control character"),
    "NULs": (b"\x00\x00\x00", "expecting value"),
    "half a surrogate pair": (b'{"input": "\\ud800"}', "surrogate"),
    "not UTF-8": (b'{"input": "\xff"}', "not UTF-8"),
    "a list": (b'["input"]', "not a JSON object"),
    "text": (b'"input"', "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "an id that is a list": (b'{"id": [], "input": "a"}', "an id that is neither"),
    "an id that is true": (b'{"id": true, "input": "a"}', "an id that is neither"),
    "an id with a newline": (b'{"id": "a\\nb", "input": "a"}', "control characters"),
    "an id with a NUL": (b'{"id": "a\\u0000", "input": "a"}', "control characters"),
    "a long id": (b'{"id": "' + b"a" * 257 + b'", "input": "a"}', "longer than 256"),
    "a long line": (b'{"input": "' + b"a" * row_files.MAX_LINE_BYTES + b'"}', "longer than 4194304 bytes"),
    "another route": (b'{"custom_id": "a", "body": {}, "url": "/v1/files"}', "other than POST"),
    "another method": (b'{"custom_id": "a", "body": {}, "method": "GET"}', "other than POST"),
    "a body of text": (b'{"custom_id": "a", "body": "x"}', "a body that is not"),
    "no custom_id": (b'{"custom_id": "", "body": {}}', "a custom_id that is not"),
}


@pytest.mark.parametrize(("line", "message"), BROKEN_LINES.values(), ids=BROKEN_LINES.keys())
def test_a_broken_line_harms_no_other(path: Path, line: bytes, message: str) -> None:
    rows = _read(path, b'{"input": "before"}\n' + line + b'\n{"input": "after"}\n')

    before, broken, after = rows
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert ("before", "after") == (before.input, after.input)
    assert isinstance(broken, BrokenRow)
    assert message in broken.message
    assert (1, 2) == (broken.order, broken.line)


CSV_FAULTS = {
    "fewer cells": (b"a", "1 cells under a header of 2"),
    "more cells": (b"a,b,c", "3 cells under a header of 2"),
    "not UTF-8": (b"a,\xff", "not UTF-8"),
}


@pytest.mark.parametrize(("line", "message"), CSV_FAULTS.values(), ids=CSV_FAULTS.keys())
def test_a_broken_line_of_a_table_harms_no_other(path: Path, line: bytes, message: str) -> None:
    _, broken, last = _read(path, b"id,input\n1,before\n" + line + b"\n2,after\n")

    assert isinstance(broken, BrokenRow)
    assert message in broken.message
    assert isinstance(last, Row)
    assert "after" == last.input


BAD_FILES = {
    "an array that is cut": (b'[{"input": "a"}, {"in', "not a JSON array of rows"),
    "an array not in UTF-8": (b'[{"input": "\xff"}]', "not UTF-8"),
    "a header with one name twice": (b"input,input\na,b\n", "one name twice"),
    "a header with an empty name": (b"input,\na,b\n", "empty name"),
    "an open quote": (b'id,input\n1,"abc\n2,def\n', "not CSV"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_wrong_as_a_whole_is_refused(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        _read(path, content)

    assert message in str(caught.value)


REFUSED_BY_NAME = {
    "xz": (lzma.compress(A), "input: the file is xz; unpack it first [unknown_packing]"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "input: the file is zstd; unpack it first [unknown_packing]"),
    "bzip2": (bz2.compress(A), "input: the file is bzip2; unpack it first [unknown_packing]"),
    "a broken zip": (
        b"PK\x03\x04\x14\x00",
        "input: the file is a broken zip archive: File is not a zip file [bad_archive]",
    ),
    "Parquet": (b"PAR1", "input: the file is Parquet, not csv [wrong_format]"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED_BY_NAME.values(), ids=REFUSED_BY_NAME.keys())
def test_a_file_that_cannot_be_rows_is_refused_by_name(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)

    with pytest.raises(InvalidParameters) as caught:
        row_file(path, file_format="csv")

    assert message == str(caught.value)


def test_an_id_twice_is_refused_naming_both_lines(path: Path) -> None:
    content = b"".join(json.dumps({"id": name, "input": "x"}).encode() + b"\n" for name in "abcdb")

    with pytest.raises(InvalidParameters) as caught:
        _read(path, content)

    assert "input: the same id at line 2 and at line 5" == str(caught.value)


def test_a_number_and_its_digits_are_one_id(path: Path) -> None:
    with pytest.raises(InvalidParameters):
        _read(path, b'{"id": 7, "input": "a"}\n{"id": "7", "input": "b"}\n')


def test_a_row_without_an_id_gets_the_digest_of_its_canonical_form(path: Path) -> None:
    first, second = _read(path, b'{"input": "a", "n": 1}\n{"n": 2, "input": "a"}\n')

    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert hashlib.sha256(b'{"input":"a","n":1}').hexdigest() == first.id
    assert hashlib.sha256(b'{"input":"a","n":2}').hexdigest() == second.id


def test_rows_without_ids_that_are_alike_are_numbered() -> None:
    """A data set may well hold a sentence twice: that is no mistake of its owner's."""
    rows = list(rows_of(Line(n, {"input": "a"}) for n in range(3)))

    ids = [row.id for row in rows if isinstance(row, Row)]
    assert [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"] == ids


@pytest.mark.parametrize(("most", "count"), [(0, 5), (3, 3), (5, 5), (9, 5)])
def test_no_more_rows_are_read_than_asked_for(most: int, count: int) -> None:
    def lines() -> Any:
        for number in range(5):
            assert not most or number < most, "read too far"
            yield Line(number, {"input": str(number)})

    assert count == len(list(rows_of(lines(), most=most)))


def test_a_template_may_name_fields_of_the_row_its_metadata_and_its_input() -> None:
    value = {"input": {"q": 1, "kind": "inner"}, "metadata": {"lang": "de"}, "kind": "outer"}
    (row,) = rows_of([Line(1, value)])

    assert isinstance(row, Row)
    fields = row.fields()
    assert (1, "de", "outer", value["input"]) == (fields["q"], fields["lang"], fields["kind"], fields["input"])
