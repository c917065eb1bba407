"""What the docs refer to is there: tests by their names, pages and headings by their links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from doc_pages import PAGES, ROOT

_TEST: Final = re.compile(r"\b(test_\w+)\.py(?:::(test_\w+))?")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_NAMED: Final = re.compile(r"^(?:    )?def (test_\w+)", re.MULTILINE)
_PROGRAM: Final = re.compile(r"`(benchmarks/\w+\.py)`")
_BAR: Final = re.compile(r"^\| ([A-Z])(\d+) \|(.*)$", re.MULTILINE)


def _tests() -> dict[str, set[str]]:
    """The tests of each module, by its name, which is used once."""
    files = [file for folder in ("tests", "docs") for file in (ROOT / folder).rglob("test_*.py")]
    return {path.stem: set(_NAMED.findall(path.read_text(encoding="utf-8"))) for path in files}


TESTS: Final = _tests()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = _TEST.findall(page.read_text(encoding="utf-8"))

    assert [] == [name for name in named if name[0] not in TESTS or name[1] not in {"", *TESTS[name[0]]}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]

    assert [] == [link for link in links if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return False
    return not anchor or anchor in {_anchor(heading) for heading in _HEADING.findall(target.read_text("utf-8"))}


def _anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_property_has_a_test_or_says_what_is_missing() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)$", (ROOT / "docs" / "properties.md").read_text("utf-8"), re.MULTILINE)

    assert [str(number) for number in range(1, 20)] == [number for number, _ in rows]
    assert [] == [number for number, row in rows if not _TEST.search(row)]


def test_every_bar_has_a_test_or_a_program_or_says_that_it_is_not_shown() -> None:
    text = (ROOT / "docs" / "bars.md").read_text("utf-8")
    found = [(letter, int(number), row) for letter, number, row in _BAR.findall(text)]
    numbers = {letter: [n for one, n, _ in found if one == letter] for letter, *_ in found}

    assert {letter: [*range(1, len(ones) + 1)] for letter, ones in numbers.items()} == numbers
    assert set("AIJUTB") == set(numbers)
    assert [] == [
        f"{letter}{number}"
        for letter, number, row in found
        if not (_TEST.search(row) or _PROGRAM.search(row) or "**not shown**" in row)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_that_a_page_names_is_there(page: Path) -> None:
    named = _PROGRAM.findall(page.read_text(encoding="utf-8"))

    assert [] == [name for name in named if not (ROOT / name).is_file()]


def test_every_page_is_in_the_readmes_list() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [] == [
        page.name for page in PAGES if page.parent.name == "docs" and f"](docs/{page.name})" not in readme
    ]
