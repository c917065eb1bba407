"""The report of a job for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from overmind_executors.calls.forecast import as_rows
from overmind_executors.calls.prices import PRICE_COLUMNS, price_rows
from overmind_executors.report import Cell, Figure, Report, Section, Table
from overmind_executors.scoring.texts import as_text
from overmind_executors.tuning.changed_rows import changed_rows
from overmind_executors.tuning.ledger import Candidate, Ledger
from overmind_executors.tuning.merits import Objective

_MOST_CANDIDATES: Final = 60
_MOST_LINES: Final = 80
_MOST_ROWS: Final = 20
_ROW_COLUMNS: Final = (
    "row",
    "difference",
    "output before",
    "output after",
    "said of it before",
    "said of it after",
)

# What is shown of a candidate in each objective. Latencies only where they are one: no two runs have the same.
_RESPECTS: Final[tuple[tuple[Objective, str, Callable[[Candidate], Cell]], ...]] = (
    ("quality", "mean", lambda one: one.mean),
    ("cost", "US dollars a request", lambda one: one.cost_usd),
    ("cost", "prompt tokens", lambda one: one.merits.prompt_tokens),
    ("latency", "mean ms", lambda one: one.merits.mean_ms),
    ("latency", "p95 ms", lambda one: one.merits.p95_ms),
    ("length", "characters", lambda one: one.length),
)


def report_of(facts: Mapping[str, Any], ledger: Ledger, diff: str, lines: Sequence[Mapping[str, Any]]) -> Report:
    """
    What *facts*, the outcome of a job, and its candidates say.

    Args:
        lines: of `comparison.jsonl`.
    """
    sections = (
        _test(facts),
        _rows(lines),
        _search(facts, ledger.candidates),
        _frontier(ledger),
        _changes(facts, diff),
        _data(facts),
        _cost(facts),
    )
    return Report("Prompt tuning", facts["changes_summary"], tuple(one for one in sections if one is not None))


def _test(facts: Mapping[str, Any]) -> Section:
    test, registered = facts["test"], facts["registration"]
    if test is None:
        return Section("The test", ("No test was made, so nothing was promoted.", _outlook(facts)))
    interval = test["gain_interval_95"] or (None, None)
    rows: tuple[tuple[Cell, ...], ...] = (
        ("verdict", test["verdict"]),
        ("what stands in the way", test["why"]),
        ("mean of the prompt as it was", test["baseline"]),
        ("mean of the prompt as it was, 95 %", _span(test["baseline_interval_95"])),
        ("mean of the candidate", test["candidate"]),
        ("mean of the candidate, 95 %", _span(test["candidate_interval_95"])),
        ("gain", test["gain"]),
        ("gain, 95 % low", interval[0]),
        ("gain, 95 % high", interval[1]),
        ("p-value, one-sided", test["p_value"]),
        ("method", test["method"]),
        ("level, set before", registered["alpha"]),
        ("margin, set before", registered["margin"]),
        ("times each row was asked", registered["repeats"]),
        ("rows better", test["better"]),
        ("rows equal", test["equal"]),
        ("rows worse", test["worse"]),
        ("rows scored on both sides", test["compared"]),
        ("rows held out", test["rows"]),
        ("rows needed", test["rows_needed"]),
        *_money(facts["comparison_test"]),
    )
    text = "The rows of this test were put away before the search began, and looked at once. Values are 0 to 1."
    return Section("The test", (text, Table("One paired test", ("figure", "value"), rows), _outlook(facts)))


def _money(found: Mapping[str, Any] | None) -> Iterator[tuple[Cell, ...]]:
    """Of all answers of a side."""
    sides = {"as it was": "old_prompt", "of the candidate": "new_prompt"}
    for words, side in sides.items() if found else ():
        yield f"US dollars, the prompt {words}", found["metrics"][side]["total_cost"] if found else None


def _span(ends: Sequence[float] | None) -> str | None:
    return None if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _outlook(facts: Mapping[str, Any]) -> str:
    told = facts["outlook"]
    gain = told["smallest_gain"]
    seen = "no gain at all" if gain is None else f"a gain of {100 * gain:.1f} points or more"
    times = "once" if told["repeats"] == 1 else f"{told['repeats']} times"
    return (
        f"Before the search: {told['rows']} held-out rows, each asked {times}, show {seen} four times out of five."
    )


def _rows(lines: Sequence[Mapping[str, Any]]) -> Section | None:
    changed = changed_rows(lines)
    parts = []
    for caption, rows in (
        ("Regressions, the worst first", [one for one in changed if one.difference < 0]),
        ("Gains, the greatest first", [one for one in reversed(changed) if one.difference > 0]),
    ):
        cells: tuple[tuple[Cell, ...], ...] = tuple(
            (one.row_id, one.difference, as_text(one.outputs[0]), as_text(one.outputs[1]), *one.said)
            for one in rows[:_MOST_ROWS]
        )
        if cells:
            parts.append(Table(caption, _ROW_COLUMNS, cells))
    text = "Held-out rows whose value changed; what evaluators and judges said is of the first answer to each."
    return Section("Rows that changed", (text, *parts)) if parts else None


def _search(facts: Mapping[str, Any], candidates: Sequence[Candidate]) -> Section:
    tried = [one for one in candidates if one.mean is not None]
    best, points = 0.0, []
    for one in tried:
        best = max(best, one.mean or 0.0) if one.may_win else best
        points.append((one.order, one.mean, best))
    drawn = Table("Validation mean by candidate", ("candidate", "mean", "best so far"), tuple(points))
    rows = tuple((one.name, one.parent or None, one.code.value, one.mean, one.message) for one in candidates)
    listed = Table("Candidates", ("name", "written from", "code", "mean", "why"), rows[:_MOST_CANDIDATES])
    validation = facts["data_sources_used"]["validation"]
    text = (
        f"These means are over the {validation} validation rows and chose the candidate; the highest of several is "
        f"too high by itself, so they promote nothing.{_gap(facts)}"
    )
    return Section("The search", (text, Figure("line", drawn), listed))


def _gap(facts: Mapping[str, Any]) -> str:
    found = facts["gap"]
    if found is None:
        return ""
    return (
        f" The best candidate gained {found['validation_gain']:+.1f} points on them and "
        f"{found['holdout_gain']:+.1f} on the held-out rows: a gap of {found['gap']:.1f}."
    )


def _frontier(ledger: Ledger) -> Section | None:
    found = ledger.frontier()
    if len(found) < 2:
        return None
    shown = [(name, of) for objective, name, of in _RESPECTS if objective in ledger.objectives]
    rows = tuple((one.name, *(of(one) for _, of in shown)) for one in found)
    columns = ("candidate", *(name for name, _ in shown))
    text = (
        f"Candidates that no other one beats in all of {', '.join(ledger.objectives)}, and that are no worse than "
        "the prompt as it was."
    )
    return Section("Quality, money, latency, length", (text, Table("Frontier", columns, rows)))


def _changes(facts: Mapping[str, Any], diff: str) -> Section | None:
    lines = diff.splitlines()[:_MOST_LINES]
    if not lines:
        return None
    steps = tuple(
        (one["name"], one["parent"], ", ".join(one["components"]), _listed(one["fixed"]), _listed(one["broke"]))
        for one in facts["changes"]
    )
    columns = ("candidate", "written from", "changes", "validation rows fixed", "validation rows broken")
    return Section(
        "What the candidate changes",
        (
            Table("Step by step", columns, steps),
            Table("Lines", ("line",), tuple((line,) for line in lines)),
        ),
    )


def _listed(found: Mapping[str, Any]) -> str:
    more = ", …" if found["rows"] > len(found["first"]) else ""
    return f"{found['rows']}: {', '.join(found['first'])}{more}" if found["rows"] else "0"


def _data(facts: Mapping[str, Any]) -> Section:
    used: Mapping[str, Any] = facts["data_sources_used"]
    rows = tuple((name.replace("_", " "), value) for name, value in used.items() if isinstance(value, int))
    return Section("Data", (Table("Rows", ("what", "rows"), rows), *_traffic(facts["traffic"])))


def _traffic(found: Mapping[str, Any] | None) -> Iterator[str | Table]:
    """Where the rows are not all that there were."""
    if found is None or "selected" not in found:
        return
    yield (
        "The rows are those of the recorded traffic that had done worst, the newest of each bucket. The prompt as "
        "it was is asked about them anew, so the gain is no return to the mean; it is a gain on rows like these."
    )
    rows = tuple(
        (name.replace("_", " "), found["buckets"][name], taken) for name, taken in found["selected"].items()
    )
    yield Table("Recorded scores", ("bucket", "rows", "taken"), rows)


def _cost(facts: Mapping[str, Any]) -> Section:
    rows = tuple(_lines(facts["usage"]))
    before = Table("What was to be expected", ("figure", "low", "typical", "at most"), as_rows(facts["estimate"]))
    prices = Table("Prices", PRICE_COLUMNS, price_rows(facts["usage"]["prices"]))
    return Section("Calls", (Table("What it took", ("figure", "value"), rows), prices, before))


def _lines(usage: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    yield "model calls", usage["model_calls"]
    yield "tokens", usage["tokens"]
    yield "US dollars", usage["cost_usd"]
