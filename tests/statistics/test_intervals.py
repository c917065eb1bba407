"""Intervals: what they are for odd samples, and how often they hold the truth."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from overmind_executors.statistics.intervals import Interval, mean_interval, quantile_interval, share_interval


def test_a_share_of_nothing_has_no_interval() -> None:
    assert share_interval(0, 0) is None


def test_an_interval_of_a_share_stays_a_share() -> None:
    low, high = share_interval(20, 20) or Interval(0, 0)

    assert 0.83 < low < 0.85
    assert 1.0 == high


@pytest.mark.parametrize("values", [[], [0.5]])
def test_a_mean_of_fewer_than_two_has_no_interval(values: list[float]) -> None:
    assert mean_interval(values) is None


def test_equal_values_leave_no_doubt() -> None:
    assert Interval(0.25, 0.25) == mean_interval([0.25] * 8)


def test_nothing_right_of_32_is_not_known_to_be_none() -> None:
    none, every = mean_interval([0.0] * 32) or Interval(1, 0), mean_interval([1.0] * 32) or Interval(1, 0)
    grouped = mean_interval([1.0] * 32, clusters=[n // 4 for n in range(32)]) or Interval(1, 0)

    assert (0.0, pytest.approx(0.107, abs=0.001)) == none
    assert (pytest.approx(0.893, abs=0.001), 1.0) == every
    assert grouped.low < every.low  # eight groups, not 32 rows


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [random.Random(3).random() for _ in range(40)]

    assert mean_interval(values, seed=5) == mean_interval(values, seed=5)


def test_copies_of_a_row_make_nothing_surer_when_they_are_a_cluster() -> None:
    draw = random.Random(5)
    values = [draw.random() for _ in range(30)]
    copied = [value for value in values for _ in range(4)]
    once = mean_interval(values) or Interval(0, 0)

    clustered = mean_interval(copied, clusters=[n // 4 for n in range(len(copied))]) or Interval(0, 0)
    naive = mean_interval(copied) or Interval(0, 0)

    assert pytest.approx(once.high - once.low, rel=0.05) == clustered.high - clustered.low
    assert (naive.high - naive.low) < 0.6 * (once.high - once.low)


def test_the_interval_of_a_skewed_mean_holds_the_truth() -> None:
    draw = random.Random(1)
    held = []
    for seed in range(250):
        low, high = mean_interval([draw.expovariate(1.0) for _ in range(60)], seed=seed) or Interval(0, 0)
        held.append(low <= 1.0 <= high)

    assert 0.89 <= fmean(held) <= 0.985


def test_the_interval_of_a_percentile_holds_the_truth() -> None:
    draw = random.Random(2)
    held = []
    for _ in range(600):
        low, high = quantile_interval([draw.random() for _ in range(200)], 0.95) or Interval(0, 0)
        held.append(low <= 0.95 <= high)

    assert fmean(held) >= 0.93


def test_too_few_values_have_no_interval_of_a_high_percentile() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.99) is None
    assert quantile_interval([], 0.5) is None
