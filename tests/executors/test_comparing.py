"""Whether an answer is the expected one, and the small figures of a summary."""

from __future__ import annotations

from typing import Any

import pytest

from overmind_executors.figures import percentile, wilson_interval
from overmind_executors.inference.comparing import judgement
from overmind_executors.inference.parameters import Comparison

LABELS = ["positive", "negative", "not good", "good"]
CASES: list[tuple[str, bool | None, Any, Any, bool]] = [
    ("exact", None, " Paris\n", "Paris", True),
    ("exact", None, "paris", "Paris", False),
    ("exact", False, "paris", "Paris", True),
    ("exact", None, "Paris.", "Paris", False),
    ("exact", None, "42", 42, True),
    ("exact", None, "42.0", 42, False),
    ("exact", None, "forty-two", 42, False),
    ("exact", None, '{"b": 1, "a": [true]}', {"a": [True], "b": 1}, True),
    ("exact", None, '{"a": [1]}', {"a": [True]}, False),
    ("exact", None, {"content": None, "tool_calls": []}, {"content": None, "tool_calls": []}, True),
    ("contains", None, "It is PARIS, of course", "Paris", True),
    ("contains", True, "It is PARIS, of course", "Paris", False),
    ("contains", None, "Rome", "Paris", False),
    ("label", None, "Positive.", "positive", True),
    ("label", True, "Positive.", "positive", False),
    ("label", None, "Negative, not positive", "negative", True),
    ("label", None, "Negative, not positive", "positive", False),
    ("label", None, "positively", "positive", False),
    ("label", None, "It is not good", "not good", True),
    ("label", None, "It is not good", "good", False),
    ("label", None, "no idea", "good", False),
    ("label", None, "", "good", False),
]


@pytest.mark.parametrize(("kind", "sensitive", "output", "expected", "is_right"), CASES)
def test_answers_and_what_was_expected(
    kind: Any, sensitive: bool | None, output: Any, expected: Any, is_right: bool
) -> None:
    judge = judgement(Comparison(kind=kind, case_sensitive=sensitive), LABELS)

    assert is_right == judge(output, expected)


def test_labels_of_the_job_come_before_those_of_the_rows() -> None:
    judge = judgement(Comparison(kind="label", labels=["a+", "b"]), LABELS)

    assert judge("I say a+ (positive)", "a+")
    assert not judge("positive", "positive")


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998, table I.
@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_that_of_the_literature(hits: int, trials: int, low: float, high: float) -> None:
    assert (low, high) == pytest.approx(wilson_interval(hits, trials), abs=5e-5)


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([], 0.5, None),
        ([7.0], 0.5, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0], 0.99, 2.0),
    ],
)
def test_a_percentile_is_a_value_that_was_seen(values: list[float], share: float, found: float | None) -> None:
    assert found == percentile(values, share)


def test_percentiles_of_a_hundred_values() -> None:
    values = [float(number) for number in range(1, 101)]

    assert [50.0, 95.0, 99.0, 100.0] == [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)]
