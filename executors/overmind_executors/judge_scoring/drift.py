"""
Has a judge changed since its last job? Anchors are outputs with the score that it gave them then; they are judged
again before the first row, and what has become of their mean is told with its interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from overmind_executors.rows.files import Line
from overmind_executors.rows.rows import Row, rows_of
from overmind_executors.scoring.items import Item, item_of

ANCHOR_FILE: Final = "anchors.jsonl"
ANCHOR_ROW: Final = "anchor:"
JUDGE_DRIFTED: Final = "judge_drifted"


def anchored(anchors: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Item, float]]:
    """Each anchor as an item, under an id that no row has, and the score that it had."""
    rows = rows_of(Line(number, dict(anchor)) for number, anchor in enumerate(anchors, start=1))
    for row, anchor in zip(rows, anchors, strict=True):
        if isinstance(row, Row):
            yield item_of(row), float(anchor["score"])


def drift_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """
    What the lines of `anchors.jsonl` say: now minus then, on the scale 0 to 1. None without anchors.

    The interval is that of the paired t test at 95 %, or of the exact one for scores of 0 and 1 alone.
    """
    if not lines:
        return None
    from overmind_executors.statistics.paired import compare

    judged = [line for line in lines if line["value"] is not None]
    now, then = ([float(line[name]) for line in judged] for name in ("value", "reference"))
    found = compare([[value] for value in then], [[value] for value in now])
    interval = None if found.low is None or found.high is None else [round(found.low, 6), round(found.high, 6)]
    return {
        "anchors": len(lines),
        "judged": len(judged),
        "mean_then": round(sum(then) / len(then), 6) if then else None,
        "mean_now": round(sum(now) / len(now), 6) if now else None,
        "difference": round(found.difference, 6) if judged else None,
        "interval_95": interval,
        "has_drifted": interval is not None and not interval[0] <= 0 <= interval[1],
    }
