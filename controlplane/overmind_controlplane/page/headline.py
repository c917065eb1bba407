"""What a job over rows came to, in a few large figures; of whatever it reported, numbers alone are believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

_SCORES: Final = {"baseline_score": "Baseline score", "best_score": "Best score", "improvement": "Improvement"}
# In `test`, parts of 1. Those of the candidate are the best's when it was promoted; `_test` tells them otherwise.
_INTERVALS: Final = {
    "baseline_score": "baseline_interval_95",
    "best_score": "candidate_interval_95",
    "improvement": "gain_interval_95",
}
_NOT_PROMOTED: Final = {"refused": "Refused", "inconclusive": "Inconclusive"}
_MOST: Final = 1e12


@dataclass(frozen=True)
class Headline:
    """A figure: what it is, its value, and what stands beside it in small letters, which may be nothing."""

    name: str
    value: str
    beside: str = ""


def score_lines(scores: Mapping[str, float], rows: str, test: Mapping[str, Any]) -> list[Headline]:
    """
    The scores of a job's record, from 0 to 100.

    Args:
        scores: `baseline_score`, `best_score`, `improvement`, those that it has.
        rows: on which they were measured, such as `32 held-out rows`; empty where nobody has said.
        test: the `test` of a search's outcome, an untrusted word: `verdict`, and the intervals of the scores.
    """
    names = _SCORES if len(scores) > 1 else {**_SCORES, "best_score": "Score"}
    known = set(_INTERVALS) if test.get("verdict") == "promoted" else {"baseline_score"}
    lines = []
    for key, name in names.items():
        if key in scores:
            sign = "+" if key == "improvement" else ""
            of = " ".join(filter(None, ("points" if sign else "of 100,", rows and f"on {rows}"))).rstrip(",")
            interval = _interval(test, _INTERVALS[key], sign) if key in known else ""
            lines.append(Headline(name, _score(scores[key], sign=sign), _beside(of, interval)))
    return lines


def _interval(test: Mapping[str, Any], key: str, sign: str = "") -> str:
    found = test.get(key)
    ends = [end for end in found if _is_share(end)] if isinstance(found, list) else []
    return f"95 % interval {100 * ends[0]:{sign}.1f} to {100 * ends[1]:{sign}.1f}" if len(ends) == 2 else ""


def _is_share(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1


def _test(told: Mapping[str, Any]) -> Iterator[Headline]:
    """Of a search whose best is not promoted: what its candidate did on the held-out rows."""
    verdict, gain = _NOT_PROMOTED.get(str(told.get("verdict"))), told.get("gain")
    if verdict is not None and _is_share(gain):
        interval = _interval(told, _INTERVALS["improvement"], "+")
        yield Headline(verdict, _score(100 * gain, sign="+"), _beside("points by the best candidate", interval))


def _beside(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _score(value: float, *, sign: str = "") -> str:
    return f"{value:{sign},.1f}" if abs(value) >= 1 or not value else f"{value:{sign}.2g}"


def headlines(outcome: Mapping[str, Any]) -> list[Headline]:
    """
    The figures of *outcome*, which is an untrusted word; those that it has.

    Args:
        outcome: `{"counts": {"total", "ok", "failed", "skipped"}, "accuracy": {"correct", "compared", "accuracy",
            "interval_95"}, "latency_ms": {"p50", "p95"}, "usage": {"cost_usd", "total_tokens"}}`: that of jobs of
            the types `inference` and `judge_scoring`; and `{"test": {"verdict", "gain", "gain_interval_95"}}` of
            `prompt_tuning`.
    """
    return [
        *_test(part_of(outcome, "test")),
        *_rows("Answers" if "pairs_total" in outcome else "Rows", part_of(outcome, "counts")),
        *_correct(part_of(outcome, "accuracy")),
        *_latency(part_of(outcome, "latency_ms"), part_of(outcome, "counts")),
        *_cost(part_of(outcome, "usage")),
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


def _latency(told: Mapping[str, Any], counts: Mapping[str, Any]) -> Iterator[Headline]:
    half, most = _number(told, "p50"), _number(told, "p95")
    if half is not None and most is not None and _number(counts, "ok") != 0:
        yield Headline("Latency", f"{_time(half)} / {_time(most)}", "p50 / p95 of the rows that went well")


def _cost(usage: Mapping[str, Any]) -> Iterator[Headline]:
    if "cost_usd" not in usage:
        return
    cost, tokens = _number(usage, "cost_usd"), _number(usage, "total_tokens")
    yield Headline(
        "Cost", "not known" if cost is None else _dollars(cost), f"{tokens:,} tokens" if tokens is not None else ""
    )


def part_of(outcome: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of that name in *outcome*; an empty one where there is none."""
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
