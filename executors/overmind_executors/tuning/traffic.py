"""
Recorded traffic as a job over it sees it: whether there is enough for another search, and which rows it is about.

```
rows ─▶ enough? ─▶ scored rows by bucket ─▶ the newest of each, the worst buckets first ─▶ the three parts
          └─ no: the job fails as `ineligible`, and nothing is called
```

Both follow from the parameters and the rows alone: a job that is run again another day decides the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from overmind_executors.contract import ExecutionFailed
from overmind_executors.rows.rows import Row
from overmind_executors.scoring.buckets import BUCKETS, bucket_of
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.traffic_parameters import Traffic, moment

INELIGIBLE: Final = "ineligible"
FIRST: Final = (30, 100, 200, 500)
"""Counts of scored rows at which a prompt is tuned again; then every thousandth."""
_EVERY: Final = 1000


@dataclass(frozen=True)
class _Scored:
    """A row that says what its recorded answer was worth, and when it was."""

    row: Row
    score: float
    at: datetime | None


def next_threshold(count: int) -> int:
    """The first threshold above *count*."""
    return next((one for one in FIRST if one > count), (count // _EVERY + 1) * _EVERY)


def threshold_before(count: int) -> int:
    """The last threshold below *count*, 0 for none: where a marker goes when the criteria have changed."""
    if count > _EVERY:
        return (count - 1) // _EVERY * _EVERY
    return max((one for one in FIRST if one < count), default=0)


def selected(task: PromptTuningParameters, rows: Sequence[Row]) -> tuple[list[Row], dict[str, Any] | None]:
    """
    The rows that the job is about, in their order, and what was counted for that; all, and None, where the job asks
    for neither.

    Raises:
        ExecutionFailed: the traffic is not enough; `ineligible`.
    """
    if task.traffic is None and task.worst_first is None:
        return list(rows), None
    scored = _scored(task, rows)
    counts: dict[str, Any] = {"rows": len(rows), "scored": len(scored)}
    if task.traffic is not None:
        counts |= _eligible(task.traffic, rows, scored, task.time_field)
    found = list(rows)
    if task.worst_first is not None:
        places = _worst_first(scored, task.worst_first.newest)[: task.worst_first.most]
        if not places:
            raise _ineligible(f"no row has a score of 0 to 1 in {' or '.join(task.feedback.recorded_scores)}")
        found = sorted((one.row for one in places), key=lambda row: row.order)
        chosen = Counter(bucket_of(one.score) for one in places)
        counts |= {"buckets": _of_buckets(scored), "selected": {name: chosen[name] for name in BUCKETS}}
    return found, counts


def _eligible(traffic: Traffic, rows: Sequence[Row], scored: Sequence[_Scored], time_field: str) -> dict[str, Any]:
    """What was counted; raises ExecutionFailed naming the first thing that is not enough."""
    times = [moment(row.source.get(time_field)) for row in rows]
    recent = sum(at is not None and at >= traffic.since for at in times)
    if not recent:
        raise _ineligible(f"no row has a {time_field} in the {traffic.window_days:g} days before {traffic.as_of}")
    marker = traffic.last_improvement_count
    threshold = next_threshold(threshold_before(marker) if traffic.criteria_changed else marker)
    if len(scored) < threshold:
        raise _ineligible(f"{len(scored)} rows are scored; the next threshold after {marker} is {threshold}")
    if len(scored) <= traffic.last_run_count:
        raise _ineligible(f"{len(scored)} rows are scored, as many as at the last run")
    found = {"recent": recent, "threshold": threshold}
    if traffic.version is None:
        return found
    on_it = sum(one.row.source.get(traffic.version_field) == traffic.version for one in scored)
    share = on_it / len(scored)
    if share < traffic.least_share:
        words = f"{share:.0%} of the scored rows are of version {traffic.version}"
        raise _ineligible(f"{words}; {traffic.least_share:.0%} are needed")
    return {**found, "adoption": round(share, 6)}


def _worst_first(scored: Sequence[_Scored], newest: int) -> list[_Scored]:
    """The *newest* of each bucket, the worst bucket first; a row without a time is older than any other."""
    never = datetime.min.replace(tzinfo=UTC)
    latest = sorted(scored, key=lambda one: (one.at or never, one.row.order), reverse=True)
    return [one for name in BUCKETS for one in [one for one in latest if bucket_of(one.score) == name][:newest]]


def _scored(task: PromptTuningParameters, rows: Sequence[Row]) -> list[_Scored]:
    found = []
    for row in rows:
        scores = (recorded_score(row.source.get(name)) for name in task.feedback.recorded_scores)
        score = next((one for one in scores if one is not None and 0 <= one <= 1), None)
        if score is not None:
            found.append(_Scored(row, score, moment(row.source.get(task.time_field))))
    return found


def recorded_score(value: Any) -> float | None:
    """A number, or the `correctness` of an object; None for neither."""
    score = value.get("correctness") if isinstance(value, Mapping) else value
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None


def _of_buckets(scored: Sequence[_Scored]) -> dict[str, int]:
    found = Counter(bucket_of(one.score) for one in scored)
    return {name: found[name] for name in BUCKETS}


def _ineligible(why: str) -> ExecutionFailed:
    return ExecutionFailed(f"{why}; nothing was called", reason=INELIGIBLE)
