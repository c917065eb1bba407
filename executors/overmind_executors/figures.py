"""Small figures for summaries: an interval for a share, percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal


def wilson_interval(hits: float, trials: float, *, z: float = 1.959964) -> tuple[float, float]:
    """
    The Wilson score interval for a share of *hits* in *trials*.

    Args:
        trials: positive.
        z: 1.96 for 95 %.

    Returns:
        Low and high, in [0, 1].

    Source:
        E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    share = hits / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    below = 1 + z * z / trials
    return max(0.0, (middle - spread) / below), min(1.0, (middle + spread) / below)


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """
    The nearest-rank percentile: the smallest value that at least *share* of the values do not exceed.

    Args:
        ascending: sorted values.
        share: in (0, 1].

    Returns:
        None for no values.
    """
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


def in_words(value: float) -> str:
    """Four digits or six, and no power of ten, however small: 0.000002394."""
    rounded = f"{value:.6g}"
    return format(Decimal(f"{value:.4g}"), "f") if "e" in rounded else rounded
