"""The decision records: each is called by a number of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RECORDS: Final = sorted((Path(__file__).parents[2] / "docs" / "decisions").glob("*.md"))


def test_no_number_is_used_twice() -> None:
    """Other records and comments name a record by its number alone."""
    numbers = [record.name[:4] for record in RECORDS]

    assert sorted(set(numbers)) == numbers


def test_every_record_begins_with_its_number() -> None:
    assert [] == [record.name for record in RECORDS if not record.read_text().startswith(f"# {record.name[:4]}: ")]
