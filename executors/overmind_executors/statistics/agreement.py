"""
How far a judge agrees with people, and people with each other.

Numbers of several columns are plain lists; the packages of the extra `stats` are loaded only when there are labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from overmind_executors.figures import wilson_interval

_RESAMPLES: Final = 2000
_SEED: Final = 20261
_LARGE: Final = 500
INSTALL_STATS: Final = "install overmind-agent[stats] on this host"

Level = Literal["nominal", "ordinal", "interval"]


class NoStatistics(Exception):
    """The packages of the extra `stats` are not installed. The message says what to do."""


def confusion(pairs: Sequence[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    """Of pairs (judge, person): both yes, judge alone, person alone, both no."""
    return (
        sum(judge and person for judge, person in pairs),
        sum(judge and not person for judge, person in pairs),
        sum(person and not judge for judge, person in pairs),
        sum(not judge and not person for judge, person in pairs),
    )


def cohens_kappa(both: float, first: float, second: float, neither: float) -> float | None:
    """
    Agreement of two raters beyond chance; None when both say one thing throughout, where there is no chance.

    Args:
        both, first, second, neither: counts of rows, as `confusion` gives them.

    Source:
        J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
        Measurement 20, 1960.
    """
    total = both + first + second + neither
    if not total:
        return None
    observed = (both + neither) / total
    by_chance = ((both + first) * (both + second) + (second + neither) * (first + neither)) / total**2
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None


def kappa_interval(counts: tuple[int, int, int, int]) -> tuple[float, float] | None:
    """
    95 % of Cohen's κ by the percentile bootstrap over rows: 2,000 resamples, always the same ones.

    Raises:
        NoStatistics: numpy is not installed.
    """
    numpy = _numpy()
    total = sum(counts)
    if total < 2:
        return None
    draws = numpy.random.default_rng(_SEED).multinomial(total, numpy.array(counts) / total, size=_RESAMPLES) / total
    both, first, second, neither = draws.T
    by_chance = (both + first) * (both + second) + (second + neither) * (first + neither)
    fit = by_chance < 1 - 1e-12
    if not fit.any():
        return None
    kappas = ((both + neither) - by_chance)[fit] / (1 - by_chance[fit])
    low, high = numpy.percentile(kappas, [2.5, 97.5])
    return float(low), float(high)


def krippendorffs_alpha(ratings: Sequence[Sequence[float | None]], *, level: Level) -> float | None:
    """
    Agreement of any number of raters with gaps, beyond chance; None when it is not defined.

    Args:
        ratings: for each rater a value for each row, None where it gave none.

    Raises:
        NoStatistics: the package is not installed.

    Source:
        K. Krippendorff, "Content Analysis", 4th edition, 2018, chapter 12; the package krippendorff.
    """
    numpy = _numpy()
    try:
        import krippendorff
    except ImportError:
        raise NoStatistics(f"krippendorff is not installed; {INSTALL_STATS}") from None
    table = numpy.array([[numpy.nan if value is None else value for value in row] for row in ratings], dtype=float)
    rated_twice = (~numpy.isnan(table)).sum(axis=0) >= 2
    if table.size == 0 or len(numpy.unique(table[:, rated_twice][~numpy.isnan(table[:, rated_twice])])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def score_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """
    95 % of a mean of scores: Wilson's for zeros and ones, else the BCa bootstrap; from 500 rows on the normal one.

    Returns:
        None for fewer than two values, or when all are alike and no share.

    Raises:
        NoStatistics: scipy is not installed.
    """
    if len(values) < 2:
        return None
    if set(values) <= {0.0, 1.0}:
        return wilson_interval(sum(values), len(values))
    if min(values) == max(values):
        return None
    data = _numpy().asarray(values)
    if len(data) >= _LARGE:
        half = 1.959964 * data.std(ddof=1) / len(data) ** 0.5
        return max(0.0, float(data.mean() - half)), min(1.0, float(data.mean() + half))
    try:
        from overmind_executors.statistics.intervals import mean_interval
    except ImportError:
        raise NoStatistics(f"scipy is not installed; {INSTALL_STATS}") from None
    return mean_interval(list(values))


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise NoStatistics(f"numpy is not installed; {INSTALL_STATS}") from None
    return numpy
