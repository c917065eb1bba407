"""How far a figure of a sample may lie from the true one: shares, means, quantiles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, norm, quantile_test

from overmind_executors.figures import wilson_interval

RESAMPLES: Final = 2000


class Interval(NamedTuple):
    """From *low* to *high*, both included."""

    low: float
    high: float


def share_interval(hits: int, trials: int, *, level: float = 0.95) -> Interval | None:
    """The Wilson interval of a share; None for no trials."""
    if not trials:
        return None
    return Interval(*wilson_interval(hits, trials, z=float(norm.ppf((1 + level) / 2))))


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """
    The bias-corrected and accelerated (BCa) bootstrap interval of a mean; Wilson's where all are 0, or all are 1.

    From values that are all alike nothing can be drawn but the same again: 0 right of 32 is not known to be none.

    Args:
        clusters: what each value belongs to; whole clusters are drawn then, for their values are not independent.
        seed: of the draws; the same values and seed give the same interval.

    Returns:
        None with fewer than two values or clusters.

    Source:
        B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987.
    """
    sums, counts = _sums(values, clusters)
    if len(sums) < 2:
        return None
    if np.ptp(sums / counts) == 0:
        alike = float(sums[0] / counts[0])
        if alike not in (0, 1):
            return Interval(alike, alike)
        return share_interval(round(alike) * len(sums), len(sums), level=level)

    def mean(total: NDArray[Any], count: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        ratio: NDArray[Any] = total.sum(axis=axis) / count.sum(axis=axis)
        return ratio

    found = bootstrap(
        (sums, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
        batch=max(1, 1_000_000 // len(sums)),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def quantile_interval(values: Sequence[float], share: float, *, level: float = 0.95) -> Interval | None:
    """
    The interval of a quantile, two of the values themselves; nothing is assumed about how they are spread.

    Args:
        share: in (0, 1); 0.95 for the 95th percentile.

    Returns:
        None when there are too few values for that level: 0.99 at 95 % needs some 370.

    Source:
        W. J. Conover, "Practical Nonparametric Statistics", 3rd edition, 1999, section 3.2.
    """
    if not values:
        return None
    found = quantile_test(values, q=0.0, p=share).confidence_interval(confidence_level=level)
    return Interval(float(found.low), float(found.high)) if math.isfinite(found.low + found.high) else None


def _sums(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    if clusters is None:
        return np.asarray(values, dtype=float), np.ones(len(values))
    of_cluster: defaultdict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        of_cluster[cluster].append(value)
    return np.array([sum(group) for group in of_cluster.values()]), np.array([len(g) for g in of_cluster.values()])
