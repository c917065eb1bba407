"""Which rows a candidate answers better or worse than the incumbent, the greatest changes first."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from overmind_executors.backtesting.evidence import Evidence
from overmind_executors.backtesting.rule import Rule
from overmind_executors.statistics.ties import TIE

MOST: Final = 10


def changes_of(evidence: Evidence, name: str, rule: Rule) -> dict[str, Any]:
    """
    The rows that changed.

    Returns:
        `regressions`, `gains`: at most ten rows each, with their difference; `two_by_two`: successes of both sides.
    """
    old, new = evidence.sides[evidence.incumbent].quality, evidence.sides[name].quality
    rows = np.flatnonzero((~np.isnan(old)).any(axis=1) & (~np.isnan(new)).any(axis=1))
    pairs = [(int(row), float(np.nanmean(old[row])), float(np.nanmean(new[row]))) for row in rows]
    changed = sorted((round(after - before, 6), row) for row, before, after in pairs if abs(after - before) > TIE)
    least = rule.success_at - TIE
    both = [(before >= least, after >= least) for _, before, after in pairs]
    return {
        "regressions": [{"item_id": evidence.ids[row], "difference": by} for by, row in changed if by < 0][:MOST],
        "gains": [{"item_id": evidence.ids[row], "difference": by} for by, row in reversed(changed) if by > 0][
            :MOST
        ],
        "two_by_two": {
            "both": both.count((True, True)),
            "incumbent_only": both.count((True, False)),
            "candidate_only": both.count((False, True)),
            "neither": both.count((False, False)),
        },
    }
