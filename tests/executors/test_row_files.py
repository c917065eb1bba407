"""Files of rows as people have them: packed, in any encoding, as tables; and as people make them to do harm."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest

from overmind_executors.contract import InvalidParameters
from overmind_executors.rows import encodings_of_text, packed, parquet
from overmind_executors.rows import files as row_files
from overmind_executors.rows.encodings_of_text import Encoding, encoding_of
from overmind_executors.rows.files import Line, RowFile, row_file

ROWS = [{"id": "a", "output": "größer"}, {"id": "b", "output": "日本"}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def _values(file: RowFile) -> list[Any]:
    return [line.value if line.fault is None else (line.number, line.code) for line in file.lines()]


def _zip(**members: bytes) -> bytes:
    packed_bytes = io.BytesIO()
    with zipfile.ZipFile(packed_bytes, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed_bytes.getvalue()


def _code(path: Path, content: bytes, **told: Any) -> str:
    """The code with which *content* is refused as a whole."""
    path.write_bytes(content)
    with pytest.raises(InvalidParameters) as caught:
        _values(row_file(path, **told))
    (problem,) = caught.value.problems
    return problem.code


PACKED = {
    "plain": JSONL,
    "gzip": gzip.compress(JSONL),
    "two gzip members": gzip.compress(JSONL[:10]) + gzip.compress(JSONL[10:]),
    "zip": _zip(**{"folder/rows.jsonl": JSONL}),
    "zip with a folder of its own": _zip(**{"folder/": b"", "folder/rows.jsonl": JSONL}),
    "UTF-8 of Windows": b"\xef\xbb\xbf" + JSONL,
    "UTF-16": JSONL.decode().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + JSONL.decode().encode("utf-16-be"),
    "UTF-16 without a mark": JSONL.decode().encode("utf-16-le"),
    "UTF-32": JSONL.decode().encode("utf-32"),
    "gzip of UTF-16": gzip.compress(JSONL.decode().encode("utf-16")),
    "an array": json.dumps(ROWS).encode(),
    "an object round an array": json.dumps({"test_cases": ROWS}, indent=2).encode(),
    "an object round an array, on one line": json.dumps({"items": ROWS}).encode(),
}


@pytest.mark.parametrize("content", PACKED.values(), ids=PACKED.keys())
def test_one_data_set_however_it_is_packed(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert ROWS == _values(row_file(path))


def test_rows_with_a_key_like_a_wrapper_are_rows(path: Path) -> None:
    path.write_bytes(b'{"items": [1], "id": "a"}\n{"items": [2], "id": "b"}\n')

    assert ["a", "b"] == [value["id"] for value in _values(row_file(path))]


REFUSED: dict[str, tuple[bytes, str]] = {
    "a gzip bomb": (gzip.compress(b'{"id": "' + b"a" * (20 << 20)), "zip_bomb"),
    "a zip bomb": (_zip(rows=b'{"id": "' + b"a" * (20 << 20)), "zip_bomb"),
    "a gzip that is cut": (gzip.compress(JSONL)[:-12], "bad_archive"),
    "a gzip with a wrong sum": (gzip.compress(JSONL)[:-8] + b"12345678", "bad_archive"),
    "a zip that is cut": (_zip(rows=JSONL)[:-30], "bad_archive"),
    "a zip with damage": (_zip(rows=JSONL).replace(b"PK\x01\x02", b"PK\x01\x03"), "bad_archive"),
    "an empty zip": (_zip(), "bad_archive"),
    "a zip of two": (_zip(a=JSONL, b=JSONL), "bad_archive"),
    "a way up": (_zip(**{"../../etc/rows": JSONL}), "bad_archive_name"),
    "a way up for Windows": (_zip(**{"..\\rows": JSONL}), "bad_archive_name"),
    "an absolute name": (_zip(**{"/etc/passwd": JSONL}), "bad_archive_name"),
    "a drive": (_zip(**{"C:rows": JSONL}), "bad_archive_name"),
    "a name of two lines": (_zip(**{"a\nb": JSONL}), "bad_archive_name"),
    "a way up beside the rows": (_zip(**{"rows": JSONL, "../x": b""}), "bad_archive_name"),
    "xz": (b"\xfd7zXZ\x00", "unknown_packing"),
    "a PDF": (b"%PDF-1.7", "unknown_packing"),
    "an array nested without end": (b"[" * 100_000, "too_deep"),
    "an array that is cut": (b'[{"id": "a"}, {"id', "not_json"),
    "an object without rows": (b'{"rows": [\n', "not_json"),
    "a broken Parquet": (b"PAR1" + b"\x00" * 64 + b"PAR1", "bad_parquet"),
    "gzip within gzip": (gzip.compress(gzip.compress(JSONL)), "packed_twice"),
    "a zip within a zip": (_zip(rows=_zip(rows=JSONL)), "packed_twice"),
    "xz within gzip": (gzip.compress(b"\xfd7zXZ\x00"), "packed_twice"),
    "a NUL in the head of a table": (b"id,out\0put\na,b\n", "bad_header"),
    "a line of a table without end": (b"id,output\n" + b"a" * (5 << 20), "too_large"),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_would_do_harm_is_refused_with_a_code(path: Path, content: bytes, code: str) -> None:
    assert code == _code(path, content)


def _workbook(path: Path, *rows: list[Any]) -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    book.close()


def test_a_workbook_is_a_table_in_which_nothing_is_computed(path: Path) -> None:
    when = datetime(2026, 11, 22, 7, 30)  # noqa: DTZ001  # workbooks know no zones
    _workbook(
        path,
        ["id", "output", "n", "at", "ok"],
        ["a", '=HYPERLINK("http://127.0.0.1:9", "x")', 1.5, when, True],
        [],
        ["b", "größer", 7, None, False],
        ["c", "one", 1, when, True, "two"],
    )

    assert [
        {
            "id": "a",
            "output": '=HYPERLINK("http://127.0.0.1:9", "x")',
            "n": 1.5,
            "at": "2026-11-22T07:30:00",
            "ok": True,
        },
        {"id": "b", "output": "größer", "n": 7, "ok": False},
        (5, "wrong_cells"),
    ] == _values(row_file(path))[:3]


def _with_member(path: Path, name: str, content: bytes) -> None:
    """The workbook at *path* with another content of one of its files."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, given in {**members, name: content}.items():
            archive.writestr(member, given)


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
<!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;">]>
<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">
<c t="inlineStr"><is><t>&g;&g;</t></is></c></row></sheetData></worksheet>"""
FAR = b"""<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>
<row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c></row>
<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>"""
HOSTILE_SHEETS = {
    "a sheet of 600 MB": (b" " * (20 << 20), "zip_bomb"),
    "entities within entities": (LAUGHS, "bad_xlsx"),
    "no XML": (b"\x00\x01", "bad_xlsx"),
    "no header": (FAR.replace(b"<t>id</t>", b"<t></t>"), "bad_header"),
}


@pytest.mark.parametrize(("sheet", "code"), HOSTILE_SHEETS.values(), ids=HOSTILE_SHEETS.keys())
def test_a_workbook_that_would_do_harm_is_refused_with_a_code(path: Path, sheet: bytes, code: str) -> None:
    _workbook(path, ["id"], ["a"])
    _with_member(path, "xl/worksheets/sheet1.xml", sheet)

    assert code == _code(path, path.read_bytes())


def test_a_cell_in_the_last_corner_takes_no_room(path: Path) -> None:
    _workbook(path, ["id"], ["a"])
    _with_member(path, "xl/worksheets/sheet1.xml", FAR)

    assert len(_values(row_file(path))) <= 1


def test_an_encrypted_archive_is_refused(path: Path) -> None:
    content = bytearray(_zip(rows=JSONL))
    content[6] |= 1  # the flag in the member's own head, and below in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1

    assert "bad_archive" == _code(path, bytes(content))


def test_a_link_in_an_archive_is_refused(path: Path) -> None:
    packed_bytes = io.BytesIO()
    with zipfile.ZipFile(packed_bytes, "w") as archive:
        link = zipfile.ZipInfo("rows")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")

    assert "bad_archive_name" == _code(path, packed_bytes.getvalue())


def test_rows_that_are_much_alike_are_no_bomb(path: Path) -> None:
    """Below 16 MiB nothing is called a bomb, whatever its ratio."""
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' * 100_000))

    assert 100_000 == sum(1 for _ in row_file(path).lines())
    assert packed.MAX_RATIO * path.stat().st_size < 100_000 * 12


def test_a_table_that_would_become_too_large_is_refused_before_a_row_is_read(path: Path) -> None:
    _table(path, "SELECT i AS id, repeat('a' || i, 100) AS output FROM range(2000) AS r(i)")

    assert "zip_bomb" == _code_of_rows(path, most_bytes=100_000)


def test_a_table_whose_cells_are_one_and_the_same_is_measured_as_it_is_read(path: Path) -> None:
    """A dictionary makes a long cell cost a few bits for each row, so the file says that it is small."""
    _table(path, "SELECT repeat('a', 10000) AS output FROM range(2000)")

    assert "zip_bomb" == _code_of_rows(path, most_bytes=100_000)
    assert path.stat().st_size * 200 < 20_000_000
    assert "zip_bomb" == _code_of_rows(path, most_bytes=1 << 32), "20 MB, more than 200 times the file"


def _code_of_rows(path: Path, *, most_bytes: int) -> str:
    with pytest.raises(InvalidParameters) as caught:
        list(parquet.json_rows(path, most_bytes=most_bytes))
    (problem,) = caught.value.problems
    return problem.code


def _table(path: Path, query: str) -> None:
    with duckdb.connect() as database:
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


def test_a_parquet_file_is_rows_in_its_order(path: Path) -> None:
    _table(
        path,
        """SELECT 'r' || i AS id, {'q': i} AS input, [i, i + 1] AS output, NULL AS expected_output,
        DATE '2026-11-22' AS day, 1.5::DECIMAL(4,2) AS cost FROM range(3000) t(i) ORDER BY i""",
    )

    rows = _values(row_file(path))

    assert [f"r{n}" for n in range(3000)] == [row["id"] for row in rows]
    assert {
        "id": "r7",
        "input": {"q": 7},
        "output": [7, 8],
        "expected_output": None,
        "day": "2026-11-22",
        "cost": 1.5,
    } == rows[7]


def test_a_cell_that_is_not_a_number_breaks_its_row_alone(path: Path) -> None:
    _table(path, "SELECT i AS id, CASE WHEN i = 1 THEN 'nan'::DOUBLE ELSE i END AS output FROM range(3) t(i)")

    assert [{"id": 0, "output": 0.0}, (2, "not_finite"), {"id": 2, "output": 2.0}] == _values(row_file(path))


@pytest.mark.parametrize(("levels", "code"), [(12, ""), (30, "too_deep")])
def test_parquet_that_nests_deep_is_refused_before_it_takes_hours(path: Path, levels: int, code: str) -> None:
    nested = "[" * levels + "1" + "]" * levels
    duckdb.execute(f"COPY (SELECT {nested} AS a, 2 AS b) TO '{path}' (FORMAT parquet)")

    if code:
        assert code == _code(path, path.read_bytes())
    else:
        assert [{"a": json.loads(nested), "b": 2}] == _values(row_file(path))


def test_a_parquet_file_is_no_query(tmp_path: Path) -> None:
    """A name is a name, whatever it looks like to DuckDB, and no other file is in reach."""
    secret = tmp_path / "secret.parquet"
    _table(secret, "SELECT 'secret' AS output")
    for name in ("*.parquet", "it's", "[s]ecret.parquet"):
        path = tmp_path / name
        path.write_bytes(b"PAR1" + b"x" * 40 + b"PAR1")

        assert "bad_parquet" == _code(path, path.read_bytes()), name


@pytest.mark.parametrize("told", ["jsonl", "csv", "json"])
def test_parquet_that_is_told_as_something_else_is_refused(path: Path, told: str) -> None:
    assert "wrong_format" == _code(path, b"PAR1....PAR1", file_format=told)


GERMAN = "id,output\n" + "".join(
    f"{n},Die Tür klemmt, schöne Grüße aus Köln übrigens.\n" for n in range(20)
).replace("klemmt, ", "klemmt ")
RUSSIAN = "id,output\n" + "".join(f"{n},Лампа мигает и гудит поэтому я её выбросил\n" for n in range(20))
JAPANESE = "id,output\n" + "".join(f"{n},ランプが点滅して音がするので捨てました。\n" for n in range(20))
GUESSED = {
    "German of Windows": (GERMAN, "cp1252"),
    "Russian of Windows": (RUSSIAN, "cp1251"),
    "Russian of Unix": (RUSSIAN, "koi8-r"),
    "Japanese": (JAPANESE, "shift_jis"),
}


@pytest.mark.parametrize(("text", "encoding"), GUESSED.values(), ids=GUESSED.keys())
def test_an_encoding_that_is_not_told_is_guessed_and_said(path: Path, text: str, encoding: str) -> None:
    path.write_bytes(text.encode(encoding))

    file = row_file(path)

    assert [line.partition(",")[2] for line in text.splitlines()[1:]] == [row["output"] for row in _values(file)]
    assert file.encoding.is_guess


def test_too_little_to_guess_from_is_a_broken_line(path: Path) -> None:
    path.write_bytes("id,output\na,b\nc,größer\n".encode("latin-1"))

    assert [{"id": "a", "output": "b"}, (3, "bad_encoding")] == _values(row_file(path))


def test_an_encoding_that_is_told_wins(path: Path) -> None:
    path.write_bytes("id,output\nc,größer\n".encode("latin-1"))

    file = row_file(path, encoding="latin-1")

    assert [{"id": "c", "output": "größer"}] == _values(file)
    assert Encoding("iso8859-1") == file.encoding


def test_a_line_in_another_encoding_than_its_file_breaks_alone(path: Path) -> None:
    path.write_bytes(
        '{"output": "ä"}\n'.encode() + '{"output": "ö"}\n'.encode("latin-1") + '{"output": "ü"}\n'.encode()
    )

    assert [{"output": "ä"}, (2, "bad_encoding"), {"output": "ü"}] == _values(row_file(path))


def test_half_a_pair_in_utf_16_breaks_its_line_alone(path: Path) -> None:
    good = '{"output": "a"}\n'.encode("utf-16-le")
    bad = '{"output": "'.encode("utf-16-le") + b"\x00\xd8" + '"}\n'.encode("utf-16-le")
    path.write_bytes(b"\xff\xfe" + good + bad + good)

    assert [{"output": "a"}, (2, "bad_encoding"), {"output": "a"}] == _values(row_file(path))


def test_a_utf_16_file_that_is_cut_within_a_letter_breaks_at_its_end(path: Path) -> None:
    path.write_bytes('{"output": "a"}\n{"output": "b"}'.encode("utf-16") + b"\x00")

    assert {"output": "a"} == _values(row_file(path))[0]
    assert [(2, "bad_encoding")] == _values(row_file(path))[1:]


@pytest.mark.parametrize("told", ["hex", "rot13", "zip", "no-such", "utf-16\x00"])
def test_what_is_no_encoding_of_text_is_refused(path: Path, told: str) -> None:
    assert "unknown_encoding" == _code(path, JSONL, encoding=told)


@pytest.mark.parametrize("told", ["utf-16", "idna", "punycode", "undefined"])
def test_a_text_that_its_encoding_cannot_read_is_refused(path: Path, told: str) -> None:
    """UTF-16 without a mark has no order of bytes; the others are codecs of names, or of nothing."""
    assert "bad_encoding" == _code(path, JSONL, encoding=told)


def test_a_row_of_endlessly_many_lines_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its lines and cells is short."""
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 1000)

    assert "too_large" == _code(path, b"id,output\n1,ok\n" + b'"x\n",' * 1000)


def test_many_rows_of_several_lines_are_no_endless_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 1000)
    path.write_bytes(b"id,output\n" + b'1,"a\nb"\n' * 1000)

    assert [{"id": "1", "output": "a\nb"}] * 1000 == _values(row_file(path))


def test_a_mark_that_contradicts_the_job_is_refused(path: Path) -> None:
    assert "bad_encoding" == _code(path, JSONL.decode().encode("utf-16"), encoding="latin-1")


def test_a_mark_that_bears_out_the_job_is_fine() -> None:
    assert Encoding("utf-16-le", 2) == encoding_of(b"\xff\xfea\x00", "utf-16")


def test_a_letter_at_the_edge_of_what_is_looked_at_is_no_fault(path: Path) -> None:
    line = ('{"output": "' + "é" * 40_000 + '"}\n').encode()
    assert b"\xc3" == line[encodings_of_text.SNIFFED_BYTES - 1 :][:1] or len(line) > encodings_of_text.SNIFFED_BYTES
    path.write_bytes(line * 2)

    assert Encoding("utf-8") == row_file(path).encoding
    assert 2 == len(_values(row_file(path)))


def test_a_nul_in_a_table_breaks_its_row_alone(path: Path) -> None:
    path.write_bytes(b"id,output\na,b\nc,d\x00e\nf,g\n")

    assert [{"id": "a", "output": "b"}, (3, "nul_byte"), {"id": "f", "output": "g"}] == _values(row_file(path))


def test_a_fault_brings_what_stood_there(path: Path) -> None:
    path.write_bytes(b'{"a": 1}\nnope\n')

    *_, broken = row_file(path).lines()

    assert Line(2, fault="expecting value at line 1, column 1", code="not_json", raw=b"nope") == broken
