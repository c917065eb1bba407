"""The table of `make bite` is about the code as it is now."""

from __future__ import annotations

import pytest

import bite


@pytest.mark.parametrize("defect", bite.DEFECTS, ids=[defect.name for defect in bite.DEFECTS])
def test_each_defect_can_still_be_made(defect: bite.Defect) -> None:
    """A line that is not there any more can be taken away from nobody, and no test would notice."""
    source = (bite.ROOT / defect.file).read_text(encoding="utf-8")

    assert defect.old in source
    assert [] == [name for name in defect.tests if not (bite.ROOT / name.partition("::")[0]).exists()]
