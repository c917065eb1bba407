"""
What so many rows can show, before they are paid for.

All of it for the one-sided paired t test of `paired.compare`, by its exact power. The figures hold for
independent rows of the spread that is named; real rows differ, so a job states its own spread beside them.
"""

from __future__ import annotations

import math
from typing import Final

from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

ALPHA: Final = 0.05
POWER: Final = 0.8
# Behind this many rows an answer is "more than can be had" and not a plan.
MOST_ROWS: Final = 1_000_000
# The same of a gain, in standard deviations; beyond some thousands the exact power is not a number any more.
MOST_SPREADS: Final = 1_000


def spread_of_difference(rate: float, *, repeats: int = 1, spread_of_rows: float = 0.0) -> float:
    """
    The standard deviation of a row's difference between two equally good sides that pass or fail.

    Args:
        rate: the share that passes, in 0 to 1.
        repeats: how often each side is asked about each row.
        spread_of_rows: the standard deviation of the rows' own chances to pass: 0 when all are alike. A row that
            always passes, or never, adds no noise.
    """
    noise = max(0.0, rate * (1 - rate) - spread_of_rows**2)
    return math.sqrt(2 * noise / repeats)


def chance_to_show(gain: float, rows: int, spread: float, *, alpha: float = ALPHA) -> float:
    """
    How likely a true *gain* is found, in 0 to 1.

    Source:
        J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988: the noncentral t.
    """
    if rows < 2:
        return 0.0
    if spread <= 0:
        return 1.0 if gain > 0 else 0.0
    freedom = rows - 1
    threshold = -stdtrit(freedom, alpha)
    return float(1 - nctdtr(freedom, gain / spread * math.sqrt(rows), threshold))


def smallest_gain(rows: int, spread: float, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """
    The smallest true gain that *rows* rows show with a chance of *power*; None for fewer than two rows, or where it
    is larger than any.
    """
    if rows < 2:
        return None
    if spread <= 0:
        return 0.0

    def missing(gain: float) -> float:
        return chance_to_show(gain, rows, spread, alpha=alpha) - power

    high = spread
    while not missing(high) >= 0:
        high *= 2
        if high > MOST_SPREADS * spread:
            return None
    return float(brentq(missing, 0.0, high, xtol=1e-6))


def rows_needed(gain: float, spread: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """How many rows show a true *gain* with a chance of *power*; None for no gain, or for more than a million."""
    if gain <= 0:
        return None
    low, high = 1, 2
    while chance_to_show(gain, high, spread, alpha=alpha) < power:
        low, high = high, high * 2
        if high > MOST_ROWS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_to_show(gain, middle, spread, alpha=alpha) >= power else (middle, high)
    return high
