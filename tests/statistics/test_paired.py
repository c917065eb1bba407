"""The paired comparison: by hand, against the textbook's libraries, and by how often it is right in simulation."""

from __future__ import annotations

import random
from statistics import fmean
from typing import Final

import pytest
from statsmodels.stats.multitest import multipletests

from overmind_executors.statistics.paired import Comparison, Method, compare, holm

RUNS: Final = 800


def _ones(values: list[float]) -> list[list[float]]:
    return [[value] for value in values]


def _simulated(seed: int, *, rows: int, repeats: int, gain: float) -> Comparison:
    """Rows of different difficulty; the candidate passes each with *gain* more."""
    draw = random.Random(seed)
    chances = [draw.betavariate(3, 2) * (1 - gain) for _ in range(rows)]

    def ask(chance: float) -> list[float]:
        return [float(draw.random() < chance) for _ in range(repeats)]

    return compare([ask(chance) for chance in chances], [ask(chance + gain) for chance in chances])


def test_passes_and_failures_are_compared_by_the_rows_that_changed() -> None:
    baseline = _ones([0, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    candidate = _ones([1, 1, 1, 1, 1, 1, 0, 1, 1, 0])

    found = compare(baseline, candidate)

    assert (Method.EXACT_MCNEMAR, 6, 3, 1) == (found.method, found.better, found.equal, found.worse)
    assert pytest.approx((7 + 1) / 2**7) == found.p_value
    assert pytest.approx(0.5) == found.difference


def test_repeats_are_averaged_and_are_not_more_rows() -> None:
    once = compare(_ones([0.2, 0.4, 0.5]), _ones([0.5, 0.6, 0.9]))

    thrice = compare([[0.2] * 3, [0.4] * 3, [0.5] * 3], [[0.5] * 3, [0.6] * 3, [0.9] * 3])

    assert pytest.approx(once.p_value) == thrice.p_value
    assert (3, 0.0) == (thrice.units, thrice.within)


def test_a_cluster_counts_once() -> None:
    baseline, candidate = _ones([0, 0, 0, 1, 0]), _ones([1, 1, 1, 0, 1])

    found = compare(baseline, candidate, clusters=["a", "a", "a", "b", "c"])

    assert (3, 2, 1) == (found.units, found.better, found.worse)


def test_scores_that_differ_in_the_last_digit_are_ties() -> None:
    found = compare([[0.1, 0.2, 0.3], [0.3]], [[0.3, 0.2, 0.1], [0.1 + 0.2]])

    assert (0, 2, 0, 1.0) == (found.better, found.equal, found.worse, found.p_value)


@pytest.mark.parametrize(("rows", "p_value"), [(1, 1.0), (2, 0.25), (5, 1 / 32)])
def test_equal_gains_on_every_row_are_judged_by_their_number(rows: int, p_value: float) -> None:
    found = compare(_ones([0.2] * rows), _ones([0.7] * rows))

    assert p_value == found.p_value


def test_no_rows_show_nothing() -> None:
    found = compare([], [])

    assert (0, 0.0, 1.0, None, None) == (found.units, found.difference, found.p_value, found.low, found.high)


def test_a_little_worse_is_no_worse_within_the_margin() -> None:
    baseline = _ones([0.8, 0.7, 0.9, 0.6, 0.75, 0.8])
    candidate = _ones([0.79, 0.7, 0.89, 0.6, 0.74, 0.8])

    assert compare(baseline, candidate).p_value > 0.9
    assert compare(baseline, candidate, margin=0.02).p_value < 0.01


@pytest.mark.parametrize(
    ("baseline", "candidate", "options"),
    [
        ([[1.0]], [], {}),
        ([[1.0]], [[]], {}),
        ([[1.0]], [[float("nan")]], {}),
        ([[1.0]], [[1.0]], {"margin": -0.1}),
        ([[1.0]], [[1.0]], {"clusters": []}),
    ],
)
def test_what_cannot_be_compared_is_refused(
    baseline: list[list[float]], candidate: list[list[float]], options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"row|margin"):
        compare(baseline, candidate, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("repeats", [1, 3])
def test_of_equally_good_sides_at_most_one_in_twenty_is_called_better(repeats: int) -> None:
    found = [_simulated(seed, rows=60, repeats=repeats, gain=0.0) for seed in range(RUNS)]

    assert fmean(run.p_value <= 0.05 for run in found) <= 0.07


@pytest.mark.parametrize(("repeats", "gain"), [(1, 0.1), (3, 0.1), (1, 0.0)])
def test_the_interval_holds_the_true_gain(repeats: int, gain: float) -> None:
    found = [_simulated(seed, rows=60, repeats=repeats, gain=gain) for seed in range(RUNS)]

    assert 0.925 <= fmean((run.low or 0) <= gain <= (run.high or 0) for run in found) <= 0.98


def test_a_gain_of_ten_points_is_found_on_a_hundred_rows_with_three_repeats() -> None:
    found = [_simulated(seed, rows=100, repeats=3, gain=0.1) for seed in range(200)]

    assert fmean(run.p_value <= 0.05 for run in found) >= 0.8


def test_a_no_worse_test_errs_as_seldom_as_it_says() -> None:
    draw = random.Random(7)
    margin = 0.05
    errors = []
    for _ in range(RUNS):
        baseline = [draw.gauss(0.6, 0.2) for _ in range(80)]
        candidate = [value - margin + draw.gauss(0, 0.1) for value in baseline]
        errors.append(compare(_ones(baseline), _ones(candidate), margin=margin).p_value <= 0.05)

    assert 0.035 <= fmean(errors) <= 0.065


def test_holm_adjusts_by_rank_and_keeps_the_order() -> None:
    assert pytest.approx([0.03, 0.06, 0.06]) == holm([0.01, 0.04, 0.03])
    assert [] == holm([])


def test_holm_is_that_of_statsmodels() -> None:
    draw = random.Random(5)
    p_values = [draw.random() ** 4 for _ in range(12)]

    assert pytest.approx(list(multipletests(p_values, method="holm")[1])) == holm(p_values)


def test_of_several_useless_candidates_none_is_called_better_19_times_in_20() -> None:
    draw = random.Random(11)

    runs = [any(p <= 0.05 for p in holm([draw.random() for _ in range(5)])) for _ in range(RUNS)]

    assert fmean(runs) <= 0.07
