"""
Is the candidate better than the baseline on the same rows?

Each row is answered by both sides, K times each. The K values of a side are averaged first: repeats make a row's
value surer, they are not more rows. Rows that share a source (a document, a user, a conversation) go in as a
cluster, which then counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev, variance

from scipy.stats import binomtest, norm, t, ttest_1samp

from overmind_executors.statistics.ties import TIE

Repeats = Sequence[float]


class Method(StrEnum):
    """How the p-value was found."""

    EXACT_MCNEMAR = "exact McNemar"
    PAIRED_T = "paired t"
    SIGN = "sign"
    TOO_FEW_ROWS = "too few rows"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """
    What the rows say about the candidate.

    Attributes:
        units: how many independent values were compared: rows, or clusters of rows.
        difference: candidate minus baseline, the mean over the units.
        low, high: the interval of the difference at the level asked for; None with fewer than two units.
        p_value: one-sided, of a difference of `-margin` or less.
        better, equal, worse: how many units went which way.
        between, within: variance of the differences between units, and the part of it that comes of repeating the
            same row (0 when nothing was repeated, for then it cannot be told apart).
    """

    units: int
    difference: float
    low: float | None
    high: float | None
    p_value: float
    method: Method
    better: int
    equal: int
    worse: int
    between: float
    within: float


def compare(
    baseline: Sequence[Repeats],
    candidate: Sequence[Repeats],
    *,
    clusters: Sequence[Hashable] | None = None,
    margin: float = 0.0,
    level: float = 0.95,
) -> Comparison:
    """
    One paired, one-sided test of the candidate against the baseline.

    Args:
        baseline, candidate: a row each, in the same order; each row has one or more values.
        clusters: what each row belongs to; None when rows are independent.
        margin: 0 asks whether the candidate is better; more asks whether it is no worse than by that much.
        level: of the two-sided interval.

    Raises:
        ValueError: the sides differ in length, a row has no value or an infinite one, or the margin is negative.

    Note:
        Passes and failures without repeats, margin or clusters: the exact McNemar test (the binomial test of the
        rows that changed) with the interval of D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval
        for a difference of binomial proportions based on paired data", Journal of Educational and Behavioral
        Statistics 37, 2012. Else the paired t test over units with its own interval.
    """
    _check(baseline, candidate, clusters, margin)
    differences = [_difference(a, b) for a, b in zip(baseline, candidate, strict=True)]
    within = fmean(_noise(a) + _noise(b) for a, b in zip(baseline, candidate, strict=True)) if baseline else 0.0
    units = differences if clusters is None else _by_cluster(differences, clusters)
    binary = clusters is None and margin == 0 and _is_pass_or_fail([*baseline, *candidate])
    p_value, method = _mcnemar(units) if binary and units else _mean_test(units, margin)
    low, high = _bonett_price(units, level) if binary and len(units) > 1 else _t_interval(units, level)
    return Comparison(
        units=len(units),
        difference=fmean(units) if units else 0.0,
        low=low,
        high=high,
        p_value=p_value,
        method=method,
        better=sum(value > 0 for value in units),
        equal=sum(value == 0 for value in units),
        worse=sum(value < 0 for value in units),
        between=variance(units) if len(units) > 1 else 0.0,
        within=within,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """
    The p-values of several comparisons, adjusted so that the chance of any false claim among them stays as stated.

    Source:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
        1979.
    """
    # Not statsmodels' multipletests: it brings pandas, and each call of it collects all garbage.
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for tested, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - tested) * p_values[place]))
        adjusted[place] = floor
    return adjusted


def _check(
    baseline: Sequence[Repeats], candidate: Sequence[Repeats], clusters: Sequence[Hashable] | None, margin: float
) -> None:
    if len(baseline) != len(candidate):
        raise ValueError(f"{len(baseline)} rows of the baseline, but {len(candidate)} of the candidate")
    if clusters is not None and len(clusters) != len(baseline):
        raise ValueError(f"{len(baseline)} rows, but {len(clusters)} clusters")
    if margin < 0:
        raise ValueError(f"the margin is {margin:g}; it must not be negative")
    for side, rows in (("baseline", baseline), ("candidate", candidate)):
        for number, values in enumerate(rows):
            if not values or not all(math.isfinite(value) for value in values):
                raise ValueError(f"row {number} of the {side} needs one or more finite values, not {list(values)}")


def _difference(a: Repeats, b: Repeats) -> float:
    difference = fmean(b) - fmean(a)
    return 0.0 if abs(difference) < TIE else difference


def _noise(values: Repeats) -> float:
    """The variance of the mean of *values* around the row's own true value."""
    return variance(values) / len(values) if len(values) > 1 else 0.0


def _by_cluster(differences: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    of_cluster = defaultdict(list)
    for difference, cluster in zip(differences, clusters, strict=True):
        of_cluster[cluster].append(difference)
    return [0.0 if abs(mean := fmean(values)) < TIE else mean for values in of_cluster.values()]


def _is_pass_or_fail(rows: Sequence[Repeats]) -> bool:
    return all(len(values) == 1 and values[0] in (0, 1) for values in rows)


def _mcnemar(units: Sequence[float]) -> tuple[float, Method]:
    better, changed = sum(value > 0 for value in units), sum(value != 0 for value in units)
    p_value = float(binomtest(better, changed, 0.5, alternative="greater").pvalue) if changed else 1.0
    return p_value, Method.EXACT_MCNEMAR


def _mean_test(units: Sequence[float], margin: float) -> tuple[float, Method]:
    if len(units) < 2:
        return 1.0, Method.TOO_FEW_ROWS
    above = [value + margin for value in units]
    if stdev(above) < TIE:
        # No spread to measure a mean by; what is left is that all of them lie on one side.
        return (0.5 ** len(above) if above[0] > TIE else 1.0), Method.SIGN
    return float(ttest_1samp(above, 0.0, alternative="greater").pvalue), Method.PAIRED_T


def _t_interval(units: Sequence[float], level: float) -> tuple[float | None, float | None]:
    if len(units) < 2:
        return None, None
    half = float(t.ppf((1 + level) / 2, len(units) - 1)) * stdev(units) / math.sqrt(len(units))
    return fmean(units) - half, fmean(units) + half


def _bonett_price(units: Sequence[float], level: float) -> tuple[float, float]:
    rows = len(units) + 2
    gained = (sum(value > 0 for value in units) + 1) / rows
    lost = (sum(value < 0 for value in units) + 1) / rows
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt((gained + lost - (gained - lost) ** 2) / rows)
    return max(-1.0, gained - lost - half), min(1.0, gained - lost + half)
