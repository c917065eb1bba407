"""What a pattern is when its repeats are written out."""

from __future__ import annotations

import pytest

from overmind_executors.scoring.pattern_size import written_out


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        (r"\d{4}-\d{2}-\d{2}", 10),
        ("[a-z]{1,64}" * 10, 640),
        (r"\{3\}", 3),
        ("[{3}(]", 1),
        ("(ab{2,}){3}", 12),
        ("a*b+?c", 3),
        ("((a{60000}){60000}){60000}", 216_003_600_060_000),
        ("a{99999999999999999999}", 999_999_999),
        (")(", 1),
        ("{5}", 0),
    ],
)
def test_repeats_multiply_what_they_repeat(pattern: str, size: int) -> None:
    assert size == written_out(pattern)
