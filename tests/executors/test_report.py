"""Reports: the same content in both files, and nothing in it that does anything."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from overmind_executors.report import Cell, Figure, Report, Section, Table, rendered, write
from overmind_executors.report.content import Drawn, shown
from overmind_executors.report.drawing import svg_of

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> [a](javascript:b) | `c` \x1b[31m \u202eabc\x00\n# d"
)
TEXTS = Table(HOSTILE, (HOSTILE, "rows"), ((HOSTILE, 1), ("b", 2)))
NUMBERS = Table("calibration", ("said", "was", HOSTILE), ((0.1, 0.2, None), (0.9, 0.8, 0.7)))
REPORT = Report(
    HOSTILE,
    HOSTILE,
    (
        Section(HOSTILE, (HOSTILE, TEXTS, Figure("columns", TEXTS), Figure("bars", TEXTS))),
        Section("Calibration", (Figure("dots", NUMBERS, diagonal=True), Figure("line", NUMBERS))),
    ),
)
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "table", "div", "thead"),
    *("tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary", "svg", "g", "rect", "text", "line"),
    *("circle", "path"),
}


class _Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> str:
    return rendered(REPORT)["report.html"].decode()


@pytest.fixture(scope="module")
def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    return _Elements(page).found


def test_whatever_a_text_says_the_page_has_no_elements_but_ours(
    elements: list[tuple[str, dict[str, str | None]]],
) -> None:
    assert set() == {tag for tag, _ in elements} - ALLOWED


def test_no_attribute_of_the_page_loads_or_runs_anything(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    names = {name for _, attributes in elements for name in attributes}

    assert set() == {
        n for n in names if n.startswith("on") or n in ("href", "xlink:href", "src", "style", "action")
    }


def test_the_policy_allows_the_one_style_sheet_and_nothing_else(page: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (policy,) = [a["content"] for t, a in _Elements(page).found if a.get("http-equiv") == "Content-Security-Policy"]

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" == policy


@pytest.mark.parametrize("letter", ["\x00", "\x1b", "\u202e", "\u200b"], ids=ascii)
@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_no_letter_that_cannot_be_seen_gets_through(name: str, letter: str) -> None:
    assert letter not in rendered(REPORT)[name].decode()


def test_markdown_takes_every_text_as_text() -> None:
    lines = rendered(REPORT)["report.md"].decode().splitlines()

    assert [] == [line for line in lines if re.search(r"(?<!\\)[<\[`]", line)]
    assert ["# ", "## ", "## "] == [line[: line.index(" ") + 1] for line in lines if line.startswith("#")]


def test_a_figure_shows_its_numbers_in_both_files(page: str) -> None:
    for text in (page, rendered(REPORT)["report.md"].decode()):
        assert all(shown(cell) in text for row in NUMBERS.rows for cell in row)


def test_every_figure_is_drawn(page: str) -> None:
    drawings = re.findall(r"<svg .*?</svg>", page, re.DOTALL)

    assert [2, 2] == [drawing.count('fill="#0072b2"') for drawing in drawings[:2]]
    assert 3 == drawings[2].count("<circle")
    assert 'viewBox="0 0 720 320"' in drawings[0]


def test_a_dot_that_is_alone_stands_in_the_picture_and_its_axis_has_a_name() -> None:
    table = Table("one", ("dollars", "quality, on the frontier", "quality, beaten"), ((1.0, 80.0, None),))

    drawn = svg_of(Figure("dots", table, labels=("only",)))

    (dot,) = re.findall(r'<circle cx="([0-9.-]+)" cy="([0-9.-]+)"', drawn)
    assert (True, True) == (0 < float(dot[0]) < 720, 0 < float(dot[1]) < 320)
    assert "quality, on the frontier" in drawn


def test_a_label_stands_beside_the_dots_of_its_row_and_is_text() -> None:
    """On the side with more room; series after series, as the dots are drawn."""
    rows: tuple[tuple[Cell, ...], ...] = ((1.0, 0.5, None), (2.0, None, 0.3), (3.0, 0.9, None))
    figure = Figure("dots", Table("three", ("x", "a", "b"), rows), labels=("<b>1", "2", "3"))

    drawing = svg_of(figure)

    found = re.findall(r'<circle [^>]*/><text [^>]*text-anchor="(\w+)"[^>]*>([^<]*)</text>', drawing)
    assert [("start", "&lt;b&gt;1"), ("end", "3"), ("start", "2")] == found


@pytest.mark.parametrize("drawn", ["bars", "columns", "dots", "line"])
@pytest.mark.parametrize(
    "rows",
    [(), (("a", None),), (("a", 0),), (("a", 0), ("a", 5)), (("a", -1),)],
    ids=["none", "gap", "0", "2", "-1"],
)
def test_a_figure_of_little_is_drawn_or_left_out(drawn: Drawn, rows: tuple[tuple[Cell, ...], ...]) -> None:
    if drawn in ("dots", "line"):
        rows = tuple((number, *row[1:]) for number, row in enumerate(rows))
    table = Table("few", ("x", "y"), rows)

    page = rendered(Report("few", "few", (Section("few", (Figure(drawn, table),)),)))["report.html"].decode()

    assert any(row[1] is not None for row in rows) is ("<svg" in page)


def test_a_series_without_a_number_is_left_out_and_the_others_are_drawn() -> None:
    table = Table("half", ("x", "empty", "full"), ((1, None, 0.5), (2, None, 0.7)))

    page = rendered(Report("half", "half", (Section("half", (Figure("dots", table),)),)))["report.html"].decode()

    assert 2 == page.count("<circle")


def test_a_figure_of_text_is_a_mistake() -> None:
    table = Table("wrong", ("x", "y"), (("a", "b"),))

    with pytest.raises(ValueError, match="a figure needs numbers, not str"):
        rendered(Report("", "", (Section("", (Figure("columns", table),)),)))


def test_a_row_that_is_too_short_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="every row needs 2 cells"):
        Table("short", ("x", "y"), (("a",),))


CELLS: list[tuple[Cell, str]] = [
    (None, "\u2013"),
    (True, "yes"),
    (1234567, "1,234,567"),
    (0.123456, "0.1235"),
    (12345.6, "12,346"),
    (0.0, "0"),
    ("a\nb", "a b"),
    ("x" * 500, "x" * 399 + "…"),
]


@pytest.mark.parametrize(("cell", "text"), CELLS, ids=lambda value: repr(value)[:12])
def test_how_a_cell_is_shown(cell: Cell, text: str) -> None:
    assert text == shown(cell)


def test_the_same_report_is_the_same_bytes(tmp_path: Path) -> None:
    names = write(REPORT, tmp_path)

    assert ("report.md", "report.html") == names
    assert rendered(REPORT) == {name: (tmp_path / name).read_bytes() for name in names}


def test_the_drawing_library_is_loaded_by_the_first_figure() -> None:
    code = "import sys, overmind_executors.report; print('leather' in sys.modules)"

    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)

    assert "False\n" == said.stdout


def test_a_column_of_numbers_is_set_to_the_right_with_its_heading() -> None:
    table = Table("t", ("name", "share", "mixed"), (("a", None, 1), ("b", 0.5, "x")))

    page = rendered(Report("r", "", (Section("s", (table,)),)))["report.html"].decode()

    assert '<th scope="col">name</th><th scope="col" class="number">share</th><th scope="col">mixed</th>' in page
    assert '<tr><td>b</td><td class="number">0.5</td><td>x</td></tr>' in page
    assert '<td class="number">1</td>' in page
