"""What a job came to, for people: the verdict and the table of a backtest, and the difference of two prompts."""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_ROWS: Final = 50
MAX_DIFF_LINES: Final = 600
# difflib looks at each pair of equal lines for each stretch that it finds: what is compared is in their hands.
MOST_LINES: Final = 20_000
MOST_LOOKS: Final = 2_000_000
_CHOICES: Final = ("best_overall", "top_performer", "fastest", "cheapest")
_EACH: Final[Mapping[str, str]] = {
    "avg_eval_score": "score, of 100",
    "avg_total": "score, of 100",
    "success_rate": "success rate, %",
    "avg_latency_ms": "mean latency, ms",
    "avg_cost_per_request": "cost of 1,000 requests, $",
    "count": "rows",
    "error": "error",
}
_BESIDE: Final[Mapping[str, str]] = {
    "difference": "difference, points",
    "interval": "interval, points",
    "decision": "decision",
    "reasons": "reasons",
}
"""What is shown of a model, alone and beside the present one, and how it is called."""


_WORDS: Final = frozenset({"error", "decision", "reasons"})
_SHARES: Final = frozenset({"avg_eval_score", "success_rate"})
_COST: Final = "avg_cost_per_request"
_DEAREST: Final = 1e9


@dataclass(frozen=True)
class Table:
    """
    Models by name, and for each of *columns* a value, None where a model has none.

    Attributes:
        sides: of each column: `right` for numbers, `words` for the rest.
    """

    title: str
    columns: Sequence[str]
    sides: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]


@dataclass(frozen=True)
class Backtest:
    """A comparison of chat models; *choices* are what was found of them: `("fastest", "mini")`."""

    verdict: str
    summary: str
    tables: Sequence[Table]
    choices: Sequence[tuple[str, str]]


def backtest(told: Any) -> Backtest | None:
    """
    The comparison that *told* holds, whichever of its two shapes it has; None for something else.

    Args:
        told: `{"model_results": {model: {"aggregate_metrics": {…}}}, "baseline_metrics": {…},
            "recommendations": {…}}`, or `{model: {"avg_total": …, "count": …}}`.
    """
    if not isinstance(told, Mapping) or not told:
        return None
    wide = _mapping(told.get("model_results"))
    found = {
        str(name): _mapping(_mapping(value).get("aggregate_metrics")) or _mapping(value)
        for name, value in (wide or told).items()
        if isinstance(value, Mapping)
    }
    advice, decision = _mapping(told.get("recommendations")), _mapping(told.get("decision"))
    pairs = {str(name): _beside(_mapping(pair)) for name, pair in _mapping(told.get("comparisons")).items()}
    if wide and (baseline := _mapping(told.get("baseline_metrics"))):
        present = _mapping(advice.get("current_model")).get("name")
        found = {f"{present or 'the present model'} (present)": baseline, **found}
    tables = [
        *_table("Each model by itself", found, _EACH),
        *_table("Beside the present one, row by row", pairs, _BESIDE),
    ]
    if not tables and not advice:
        return None
    chosen = {name.replace("_", " "): _mapping(advice.get(name)).get("model") for name in _CHOICES}
    choices = [(name, str(model)) for name, model in chosen.items() if model]
    verdict = str(decision.get("verdict") or advice.get("verdict") or "").replace("_", " ")
    return Backtest(verdict, str(advice.get("summary") or ""), tables, choices)


def _table(title: str, found: Mapping[str, Mapping[str, Any]], known: Mapping[str, str]) -> list[Table]:
    """The table of what is *known* and any model has; none when there is nothing."""
    columns = [key for key in known if any(key in metrics for metrics in found.values())]
    rows = [(name, [_shown(key, metrics.get(key)) for key in columns]) for name, metrics in found.items()]
    sides = ["words" if key in _WORDS else "right" for key in columns]
    return [Table(title, [known[key] for key in columns], sides, rows[:MAX_ROWS])] if columns else []


def _beside(pair: Mapping[str, Any]) -> dict[str, Any]:
    """How a model did beside the present one, row by row: shares of 0 to 1 become points of 0 to 100."""
    interval, reasons = pair.get("interval"), pair.get("reasons")
    ends = [_points(end) for end in interval] if isinstance(interval, list) else []
    told = {
        "difference": _points(pair.get("difference")),
        "interval": f"{ends[0]} to {ends[1]}" if len(ends) == 2 and all(ends) else None,
        "decision": pair.get("verdict"),
        "reasons": ", ".join(map(str, reasons)).replace("_", " ").lower() if isinstance(reasons, list) else None,
    }
    return {name: value for name, value in told.items() if value}


def _points(share: Any) -> str | None:
    return f"{100 * share:+.1f}" if _is_share(share) else None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1


def changes(before: Any, after: str) -> list[tuple[str, str]]:
    """
    How *after* differs from *before*, in lines: a word (`added`, `removed`, `same`, `place`) and the line.

    Texts that would take too long to compare are not: one `place` says so.

    Args:
        before: a text, or a list of messages, `[{"role", "content"}, …]`; nothing else has a difference.
        after: a text; of messages, their JSON.
    """
    old, new = _text(before), _said(after) if isinstance(before, list) else after
    if old is None or not new or old == new:
        return []
    was, now = old.splitlines(), new.splitlines()
    if len(was) + len(now) > MOST_LINES or _looks(was, now) > MOST_LOOKS:
        counts = f"{len(was):,} lines before, {len(now):,} now"
        return [("place", f"too different to be compared line by line: {counts}")]
    lines = difflib.unified_diff(was, now, lineterm="", n=3)
    words = {"+": "added", "-": "removed", "@": "place"}
    shown = itertools.islice(lines, 2, MAX_DIFF_LINES)  # the first two name files
    return [(words.get(line[:1], "same"), line) for line in shown]


def _looks(was: Sequence[str], now: Sequence[str]) -> int:
    """
    How many pairs of equal lines difflib looks at, at worst: all of them for each stretch that it finds.

    It finds the lines that both begin and end with at once. Of 200 lines on it leaves out those that come often.
    """
    most = min(len(was), len(now))
    head = next((place for place in range(most) if was[place] != now[place]), most)
    tail = next((place for place in range(most - head) if was[-1 - place] != now[-1 - place]), most - head)
    old, new = was[head : len(was) - tail], now[head : len(now) - tail]
    often = Counter(now) if len(now) >= 200 else {}
    counts = Counter(line for line in new if often.get(line, 0) <= 1 + len(now) // 100)
    pairs = sum(counts[line] for line in old)
    return (pairs + len(old)) * (1 + min(len(old), len(new), pairs))


def _said(messages: str) -> str:
    try:
        return _text(json.loads(messages)) or messages
    except (ValueError, RecursionError):
        return messages


def _text(told: Any) -> str | None:
    if isinstance(told, str):
        return told
    if not isinstance(told, list):
        return None
    said = [_mapping(message) for message in told]
    return "\n\n".join(f"{message.get('role', '')}: {message.get('content', '')}" for message in said)


def _mapping(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}


def _shown(key: str, value: Any) -> Any:
    """A share of 0 to 1 as points of 0 to 100, as everywhere on the page; money by the thousand requests."""
    if key == _COST and isinstance(value, float) and abs(value) < _DEAREST:
        return f"{1000 * value:,.4f}"
    return f"{100 * value:.1f}" if key in _SHARES and _is_share(value) else _plain(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)[:200]
