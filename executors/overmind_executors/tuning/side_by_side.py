"""
The prompt as it was beside the candidate, on the held-out rows: score, money, latency, in the shape that readers of
the record know from other tuners. What decides is the test; this is what was seen on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from overmind_executors.tuning.merits import Merits, merits_of
from overmind_executors.tuning.trials import Trial

Line = Mapping[str, Any]


def comparison_of(lines: Sequence[Line]) -> dict[str, Any] | None:
    """
    What *lines*, of `comparison.jsonl`, come to; None without any.

    Scores are means over the rows that both sides have one for, in 0 to 1; money is of all answers of a side, None
    when a price is unknown; latency is the mean over its answers.
    """
    if not lines:
        return None
    both = [line for line in lines if all(_score(line, side) is not None for side in ("baseline", "candidate"))]
    old, new = (_side(lines, both, side) for side in ("baseline", "candidate"))
    return {
        "spans_tested": len(lines),
        "spans_created": new["span_count"],
        "metrics": {
            "old_prompt": old,
            "new_prompt": new,
            "improvement": {
                **_delta("score_delta", old["avg_score"], new["avg_score"], 4),
                **_delta("cost_delta", old["total_cost"], new["total_cost"], 6),
                **_delta("latency_delta", old["avg_latency_ms"], new["avg_latency_ms"], 2, unit="_ms"),
            },
        },
    }


def _side(lines: Sequence[Line], both: Sequence[Line], side: str) -> dict[str, Any]:
    trials = [Trial.of_json(line["item_id"], trial) for line in lines for trial in line[side]]
    merits: Merits = merits_of({}, trials)
    scores = [score for line in both if (score := _score(line, side)) is not None]
    answers = sum(trial.is_answered for trial in trials)
    return {
        "avg_score": _rounded(fmean(scores) if scores else None, 4),
        "span_count": sum(any(Trial.of_json("", one).is_answered for one in line[side]) for line in lines),
        "total_cost": _rounded(None if merits.cost_usd is None else merits.cost_usd * answers, 6),
        "avg_latency_ms": _rounded(merits.mean_ms, 2),
    }


def _score(line: Line, side: str) -> float | None:
    values = [trial["value"] for trial in line[side] if trial["value"] is not None]
    return fmean(values) if values else None


def _delta(name: str, old: float | None, new: float | None, digits: int, *, unit: str = "") -> dict[str, Any]:
    """The difference and its share of *old*, in per cent; of nothing there is no share."""
    if old is None or new is None:
        return {f"{name}{unit}": None, f"{name}_pct": None}
    share = None if old == 0 else round(100 * (new - old) / old, 2)
    return {f"{name}{unit}": round(new - old, digits), f"{name}_pct": share}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
