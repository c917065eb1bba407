"""Power: against published figures, and against simulation with the very test that it is the power of."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from statsmodels.stats.power import TTestPower

from overmind_executors.statistics.paired import compare
from overmind_executors.statistics.power import chance_to_show, rows_needed, smallest_gain, spread_of_difference


def test_half_a_standard_deviation_needs_the_rows_of_the_textbook() -> None:
    # J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988, by the exact t: 27.
    assert 27 == rows_needed(0.5, 1.0)


@pytest.mark.parametrize("rows", [2, 3, 10, 100, 10_000, 1_000_000])
def test_the_power_is_that_of_statsmodels(rows: int) -> None:
    theirs = TTestPower()
    cases = [(gain, alpha) for gain in (0.001, 0.05, 0.3, 1.0, 30.0) for alpha in (1e-9, 0.001, 0.05, 0.2)]

    expected = [float(theirs.power(gain / 0.4, rows, alpha, alternative="larger")) for gain, alpha in cases]

    assert pytest.approx(expected, abs=1e-12, nan_ok=True) == [
        chance_to_show(gain, rows, 0.4, alpha=alpha) for gain, alpha in cases
    ]


def test_rows_and_gain_are_two_views_of_one_thing() -> None:
    gain = smallest_gain(100, 0.4) or 0.0

    assert rows_needed(gain + 1e-4, 0.4) == 100
    assert pytest.approx(0.8, abs=1e-3) == chance_to_show(gain, 100, 0.4)


def test_what_cannot_be_shown_is_none() -> None:
    assert rows_needed(0.0, 0.4) is None
    assert rows_needed(1e-6, 1.0) is None
    assert smallest_gain(1, 0.4) is None
    assert 0.0 == chance_to_show(0.5, 1, 0.4)


@pytest.mark.parametrize("rows", [2, 3, 4, 20])
@pytest.mark.parametrize("alpha", [1e-6, 1e-9, 1e-16, 1e-100])
def test_a_proof_beyond_what_can_be_counted_is_no_gain_or_none(rows: int, alpha: float) -> None:
    gain = smallest_gain(rows, 0.4, alpha=alpha)

    assert gain is None or 0 < gain <= 1_000 * 0.4


def test_without_noise_any_gain_shows() -> None:
    assert 0.0 == smallest_gain(10, 0.0)
    assert (1.0, 0.0) == (chance_to_show(0.01, 10, 0.0), chance_to_show(0.0, 10, 0.0))


@pytest.mark.parametrize(
    ("options", "spread"),
    [
        ({}, math.sqrt(0.5)),
        ({"repeats": 4}, math.sqrt(0.5) / 2),
        ({"spread_of_rows": 0.5}, 0.0),
    ],
)
def test_the_spread_falls_with_repeats_and_with_rows_that_always_pass(
    options: dict[str, float], spread: float
) -> None:
    assert pytest.approx(spread) == spread_of_difference(0.5, **options)  # type: ignore[arg-type]


def test_the_chance_is_what_a_simulation_finds() -> None:
    draw = random.Random(3)
    found = []
    for _ in range(800):
        baseline = [[draw.gauss(0.5, 0.3)] for _ in range(50)]
        found.append(compare(baseline, [[a + draw.gauss(0.1, 0.3)] for (a,) in baseline]).p_value <= 0.05)

    assert pytest.approx(chance_to_show(0.1, 50, 0.3), abs=0.05) == fmean(found)
