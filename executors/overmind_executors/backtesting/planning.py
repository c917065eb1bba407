"""How many more rows would settle an open question, if the rows to come are like those that were seen."""

from __future__ import annotations

import math

from overmind_executors.backtesting.decision import Finding
from overmind_executors.backtesting.rule import Reason, Rule, Verdict
from overmind_executors.statistics.power import POWER, rows_needed, smallest_gain


def extra_rows(finding: Finding, rule: Rule, *, candidates: int) -> int | None:
    """
    The smallest number of further rows that settles what is open about *finding*, with a chance of 80 %.

    Returns:
        None when nothing is open that rows can settle, or when more than a million would be needed.
    """
    if finding.verdict is not Verdict.INCONCLUSIVE:
        return None
    seen = finding.quality.better
    if seen.units < rule.min_rows:
        return rule.min_rows - seen.units
    if Reason.SAMPLE_TOO_SMALL not in finding.reasons:
        return None  # a price is missing, or latencies are too close: more scores do not help
    spread, alpha = math.sqrt(seen.between), rule.alpha / candidates
    # Better; no worse; worse by more than the margin: whichever is nearest to be shown.
    gains = (seen.difference, seen.difference + rule.margin, -(seen.difference + rule.margin))
    needed = [rows_needed(gain, spread, alpha=alpha) for gain in gains if gain > 0]
    known = [rows for rows in needed if rows is not None]
    return max(1, min(known) - seen.units) if known else None


def detectable(finding: Finding, rule: Rule, *, candidates: int) -> float | None:
    """The smallest true gain that the rows at hand show with a chance of 80 %."""
    seen = finding.quality.better
    found = smallest_gain(seen.units, math.sqrt(seen.between), alpha=rule.alpha / candidates, power=POWER)
    return None if found is None else round(found, 6)
