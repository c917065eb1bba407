"""What a job came to, for people: the verdict and the table of a backtest, and the difference of two prompts."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_ROWS: Final = 50
MAX_DIFF_LINES: Final = 600
_CHOICES: Final = ("best_overall", "top_performer", "fastest", "cheapest")
COLUMNS: Final[Mapping[str, str]] = {
    "avg_eval_score": "score",
    "avg_total": "points",
    "success_rate": "success rate",
    "avg_latency_ms": "latency, ms",
    "avg_cost_per_request": "cost a request",
    "count": "rows",
    "error": "error",
}
"""What is shown of a model, where any has it, and how it is called."""


@dataclass(frozen=True)
class Backtest:
    """
    A comparison of chat models.

    Attributes:
        columns: keys of `COLUMNS` that any model has.
        rows: a model's name, and its value for each column, None where it has none.
        choices: what was found of the models: `("fastest", "mini")`.
    """

    verdict: str
    summary: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]
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
    advice = _mapping(told.get("recommendations"))
    if wide and (baseline := _mapping(told.get("baseline_metrics"))):
        present = _mapping(advice.get("current_model")).get("name")
        found = {f"{present or 'the present model'} (present)": baseline, **found}
    columns = [key for key in COLUMNS if any(key in metrics for metrics in found.values())]
    if not columns and not advice:
        return None
    rows = [(name, [_plain(metrics.get(key)) for key in columns]) for name, metrics in found.items()]
    chosen = {name.replace("_", " "): _mapping(advice.get(name)).get("model") for name in _CHOICES}
    choices = [(name, str(model)) for name, model in chosen.items() if model]
    verdict = str(advice.get("verdict") or "").replace("_", " ")
    return Backtest(verdict, str(advice.get("summary") or ""), columns, rows[:MAX_ROWS], choices)


def changes(before: Any, after: str) -> list[tuple[str, str]]:
    """
    How *after* differs from *before*, in lines: a word (`added`, `removed`, `same`, `place`) and the line.

    Args:
        before: a text, or a list of messages, `[{"role", "content"}, …]`; nothing else has a difference.
    """
    old = _text(before)
    if old is None or not after or old == after:
        return []
    lines = difflib.unified_diff(old.splitlines(), after.splitlines(), lineterm="", n=3)
    words = {"+": "added", "-": "removed", "@": "place"}
    shown = itertools.islice(lines, 2, MAX_DIFF_LINES)  # the first two name files
    return [(words.get(line[:1], "same"), line) for line in shown]


def _text(told: Any) -> str | None:
    if isinstance(told, str):
        return told
    if not isinstance(told, list):
        return None
    said = [_mapping(message) for message in told]
    return "\n\n".join(f"{message.get('role', '')}: {message.get('content', '')}" for message in said)


def _mapping(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)[:200]
