"""What a job over rows came to, in a few large figures; of whatever it reported, numbers alone are believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_SCORES: Final = {"baseline_score": "Baseline score", "best_score": "Best score", "improvement": "Improvement"}
_MOST: Final = 1e12


@dataclass(frozen=True)
class Headline:
    """A figure: what it is, its value, and what stands beside it in small letters, which may be nothing."""

    name: str
    value: str
    beside: str = ""


def score_lines(scores: Mapping[str, float], rows: str) -> list[Headline]:
    """
    The scores of a job's record, from 0 to 100.

    Args:
        scores: `baseline_score`, `best_score`, `improvement`, those that it has.
        rows: on which they were measured, such as `32 held-out rows`; empty where nobody has said.
    """
    names = _SCORES if len(scores) > 1 else {**_SCORES, "best_score": "Score"}
    beside = f"on {rows}" if rows else ""
    return [
        Headline(name, _score(scores[key]), f"of 100, {beside}".rstrip(", "))
        if key != "improvement"
        else Headline(name, _score(scores[key], sign="+"), f"points {beside}".strip())
        for key, name in names.items()
        if key in scores
    ]


def _score(value: float, *, sign: str = "") -> str:
    return f"{value:{sign},.1f}" if abs(value) >= 1 or not value else f"{value:{sign}.2g}"


def headlines(outcome: Mapping[str, Any]) -> list[Headline]:
    """
    The figures of *outcome*, which is an untrusted word; those that it has.

    Args:
        outcome: `{"counts": {"total", "ok", "failed", "skipped"}, "accuracy": {"correct", "compared", "accuracy",
            "interval_95"}, "latency_ms": {"p50", "p95"}, "usage": {"cost_usd", "total_tokens"}}`: that of jobs of
            the types `inference` and `judge_scoring`.
    """
    return [
        *_rows("Answers" if "pairs_total" in outcome else "Rows", _part(outcome, "counts")),
        *_correct(_part(outcome, "accuracy")),
        *_latency(_part(outcome, "latency_ms")),
        *_cost(_part(outcome, "usage")),
    ]


def _rows(name: str, counts: Mapping[str, Any]) -> Iterator[Headline]:
    """A comparison of models counts each row once for each model: those are answers."""
    well, total = _number(counts, "ok"), _number(counts, "total")
    if well is not None and total is not None:
        others = [f"{number:,} {what}" for what in ("failed", "skipped") if (number := _number(counts, what))]
        yield Headline(name, f"{well:,} of {total:,}", ", ".join(others) or "none failed")


def _correct(told: Mapping[str, Any]) -> Iterator[Headline]:
    share, correct, compared = (_number(told, name) for name in ("accuracy", "correct", "compared"))
    if share is None or correct is None or compared is None or share > 1:
        return
    found = told.get("interval_95")
    ends = [end for end in found if _is_number(end) and end <= 1] if isinstance(found, list) else []
    interval = f"; 95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f} %" if len(ends) == 2 else ""
    yield Headline("As expected", f"{100 * share:.1f} %", f"{correct:,} of {compared:,} compared{interval}")


def _latency(told: Mapping[str, Any]) -> Iterator[Headline]:
    half, most = _number(told, "p50"), _number(told, "p95")
    if half is not None and most is not None:
        yield Headline("Latency", f"{_time(half)} / {_time(most)}", "p50 / p95 of the rows that went well")


def _cost(usage: Mapping[str, Any]) -> Iterator[Headline]:
    if "cost_usd" not in usage:
        return
    cost, tokens = _number(usage, "cost_usd"), _number(usage, "total_tokens")
    yield Headline(
        "Cost", "not known" if cost is None else _dollars(cost), f"{tokens:,} tokens" if tokens is not None else ""
    )


def _part(outcome: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = outcome.get(name)
    return found if isinstance(found, Mapping) else {}


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _dollars(cost: float) -> str:
    """In cents, and below a dollar in two digits that are not 0, ten places at most."""
    places = 2 if cost >= 1 or not cost else max(2, min(10, 1 - math.floor(math.log10(cost))))
    return f"${cost:,.{places}f}"


def _number(told: Mapping[str, Any], name: str) -> int | float | None:
    value = told.get(name)
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
