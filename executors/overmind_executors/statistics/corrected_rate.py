"""The share of outputs that are fine, freed of the judge's own errors as far as labels show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_Z95: Final = 1.959964


@dataclass(frozen=True)
class Sample:
    """*hits* of *total*."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        """hits / total; *total* is positive."""
        return self.hits / self.total


@dataclass(frozen=True)
class CorrectedRate:
    """A rate in [0, 1] and its 95 % interval."""

    rate: float
    low: float
    high: float


def corrected_rate(passed: Sample, sensitivity: Sample, specificity: Sample) -> CorrectedRate | None:
    """
    The rate that *passed* would be with a judge that never errs; the interval carries the error of all three.

    Args:
        passed: outputs that the judge let pass, of those that it judged. Not the labelled ones.
        sensitivity: of the labelled outputs that people call fine, those that the judge let pass.
        specificity: of the labelled ones that people do not call fine, those that it did not let pass.

    Returns:
        None when the judge is no better than chance on the labels, or one of the samples is empty: then its word
        says nothing about the rate.

    Source:
        The estimate: W. J. Rogan, B. Gladen, "Estimating prevalence from the results of a screening test", American
        Journal of Epidemiology 107, 1978. The interval: Z. Lang, J. Reiczigel, "Confidence limits for prevalence of
        disease adjusted for estimated sensitivity and specificity", Preventive Veterinary Medicine 113, 2014
        (the delta method with added counts).
    """
    if not (passed.total and sensitivity.total and specificity.total):
        return None
    power = sensitivity.share + specificity.share - 1
    if power <= 0:
        return None
    rate = (passed.share + specificity.share - 1) / power
    n = passed.total + _Z95**2
    p = (passed.hits + _Z95**2 / 2) / n
    n1, s1 = sensitivity.total + 2, (sensitivity.hits + 1) / (sensitivity.total + 2)
    n0, s0 = specificity.total + 2, (specificity.hits + 1) / (specificity.total + 2)
    center = (p + s0 - 1) / (s1 + s0 - 1)
    shift = 2 * _Z95**2 * (center * s1 * (1 - s1) / n1 - (1 - center) * s0 * (1 - s0) / n0)
    variance = p * (1 - p) / n + center**2 * s1 * (1 - s1) / n1 + (1 - center) ** 2 * s0 * (1 - s0) / n0
    half = _Z95 * math.sqrt(variance) / (s1 + s0 - 1)
    low, high = center + shift - half, center + shift + half
    return CorrectedRate(_clamped(rate), _clamped(low), _clamped(high))


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


def calibration(pairs: Sequence[tuple[float, bool]], edges: Sequence[float]) -> Mapping[str, Any]:
    """
    Whether values mean what they say: in each bucket the mean value beside the share that people call fine.

    Args:
        pairs: a judge's value in [0, 1] and a person's word.
        edges: the lower ends of the buckets, ascending, the first 0.

    Returns:
        `ece`: the expected calibration error, the mean distance weighted by rows; `brier`; `buckets`.
    """
    rows: list[list[tuple[float, bool]]] = [[] for _ in edges]
    for value, is_fine in pairs:
        rows[max(place for place, edge in enumerate(edges) if value >= edge)].append((value, is_fine))
    buckets = [
        {
            "from": edge,
            "rows": len(row),
            "mean_value": round(math.fsum(v for v, _ in row) / len(row), 6) if row else None,
            "share_fine": round(sum(fine for _, fine in row) / len(row), 6) if row else None,
        }
        for edge, row in zip(edges, rows, strict=True)
    ]
    distance = math.fsum(abs(math.fsum(v - fine for v, fine in row)) for row in rows)
    brier = math.fsum((v - fine) ** 2 for v, fine in pairs)
    return {"ece": round(distance / len(pairs), 6), "brier": round(brier / len(pairs), 6), "buckets": buckets}
