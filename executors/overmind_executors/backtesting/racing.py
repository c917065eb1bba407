"""
Which candidates need not be asked any further: successive halving, each step a paired test.

Rows come in random order, so the first of them are a fair sample. After 20, 40, 80… rows a candidate is out when
nothing can come of it any more: shown to be worse than the incumbent by more than the margin, or shown to be worse
than another candidate that costs and takes no more. At most half of those that are left go out at one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overmind_executors.backtesting.evidence import Evidence, Floats, Side
from overmind_executors.backtesting.parameters import Racing
from overmind_executors.backtesting.rule import Rule
from overmind_executors.statistics.paired import compare


def looks(rows: int, racing: Racing | None) -> list[int]:
    """After how many rows to look; the last one is *rows* itself."""
    found = []
    at = racing.first_rows if racing else rows
    while at < rows:
        found.append(at)
        at *= 2
    return [*found, rows]


def hopeless(evidence: Evidence, running: Sequence[str], rule: Rule, racing: Racing) -> list[str]:
    """Those of *running* that go out now, the most hopeless first."""
    incumbent = evidence.sides[evidence.incumbent]
    lost: dict[str, float] = {}
    for name in running:
        side = evidence.sides[name]
        p_value = _p_worse(side, incumbent, by=rule.margin)
        rivals = [evidence.sides[other] for other in running if other != name]
        p_values = [_p_worse(side, rival) for rival in rivals if _is_no_dearer(rival, side)]
        # As many rivals, as many chances to lose to one of them.
        p_value = min([p_value, *(p * len(p_values) for p in p_values)])
        if p_value <= racing.alpha:
            lost[name] = p_value
    return sorted(lost, key=lambda name: (lost[name], name))[: (len(running) + 1) // 2]


def _p_worse(side: Side, rival: Side, *, by: float = 0.0) -> float:
    """Of the test that *side* is worse than *rival* by more than *by*."""
    mine, theirs = _means(side.quality), _means(rival.quality)
    both = np.flatnonzero(~np.isnan(mine) & ~np.isnan(theirs))
    if len(both) < 2:
        return 1.0
    # A rival that is less good by the margin and still wins.
    before = [[value] for value in (mine[both] + by).tolist()]
    return compare(before, [[value] for value in theirs[both].tolist()]).p_value


def _is_no_dearer(rival: Side, side: Side) -> bool:
    if not (rival.is_priced and side.is_priced):
        return False
    cheap = np.nanmean(rival.cost_usd) <= np.nanmean(side.cost_usd) + 1e-15
    return bool(cheap and np.nanpercentile(rival.latency_ms, 95) <= np.nanpercentile(side.latency_ms, 95))


def _means(quality: Floats) -> Floats:
    known = ~np.isnan(quality)
    count = known.sum(axis=1)
    sums = np.where(known, quality, 0.0).sum(axis=1)
    found: Floats = np.divide(sums, count, out=np.full(len(quality), np.nan), where=count > 0)
    return found
