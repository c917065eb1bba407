"""The page of bad inputs: each kind has a name of its own, says what happens, and is shown by a test."""

from __future__ import annotations

import re
from typing import Final

from doc_pages import ROOT

PAGE: Final = (ROOT / "docs" / "bad-inputs.md").read_text(encoding="utf-8")
KINDS: Final = {
    "What the control plane answers an agent": 41,
    "What a job brings": 25,
    "What a job leaves to be uploaded": 14,
    "What clients send to the control plane": 33,
    "What the host does to an agent": 13,
}
ROW: Final = re.compile(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \| (`test_.+`) \|$", re.MULTILINE)
TEST: Final = re.compile(r"`test_\w+\.py::test_\w+`")


def _rows(heading: str) -> list[tuple[str, str, str, str]]:
    return ROW.findall(PAGE.split(f"## {heading}\n")[1].split("\n## ")[0])


def test_every_kind_that_we_know_of_has_its_row() -> None:
    """A row that is taken away, or that is not written as one, is missed here."""
    assert KINDS == {heading: len(_rows(heading)) for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}


def test_no_name_of_a_kind_is_used_twice() -> None:
    names = [name for heading in KINDS for name, *_ in _rows(heading)]

    assert sorted(set(names)) == sorted(names)


def test_every_kind_is_shown_by_a_test_of_its_own_name() -> None:
    """That the test exists is looked at for all pages together."""
    shown = {name: shown for heading in KINDS for name, _, _, shown in _rows(heading)}

    assert [] == [name for name, told in shown.items() if ", ".join(TEST.findall(told)) != told]


def test_every_reason_is_one_that_operators_can_look_up() -> None:
    known = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    reasons = {reason for told in re.findall(r"FAILED ((?:`\w+`(?:, )?)+)", PAGE) for reason in told.split(", ")}

    assert len(reasons) > 10
    assert [] == [reason for reason in sorted(reasons) if reason not in known]
