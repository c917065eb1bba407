"""The report of a job for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from overmind_executors.calls.forecast import as_rows
from overmind_executors.report import Cell, Figure, Report, Section, Table
from overmind_executors.tuning.ledger import Candidate

_MOST_CANDIDATES: Final = 60
_MOST_LINES: Final = 80


def report_of(facts: Mapping[str, Any], candidates: Sequence[Candidate], diff: str) -> Report:
    """What *facts*, the outcome of a job, and its candidates say."""
    sections = (_test(facts), _search(candidates), _changes(diff), _data(facts), _cost(facts))
    return Report("Prompt tuning", facts["changes_summary"], tuple(one for one in sections if one is not None))


def _test(facts: Mapping[str, Any]) -> Section:
    test, registered = facts["test"], facts["registration"]
    if test is None:
        return Section("The test", ("No test was made, so nothing was promoted.", _outlook(facts)))
    interval = test["gain_interval_95"] or (None, None)
    rows: tuple[tuple[Cell, ...], ...] = (
        ("verdict", test["verdict"]),
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
    )
    text = "The rows of this test were put away before the search began, and looked at once. Values are 0 to 1."
    return Section("The test", (text, Table("One paired test", ("figure", "value"), rows), _outlook(facts)))


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


def _search(candidates: Sequence[Candidate]) -> Section:
    tried = [one for one in candidates if one.mean is not None]
    best, points = 0.0, []
    for one in tried:
        best = max(best, one.mean or 0.0)
        points.append((one.order, one.mean, best))
    drawn = Table("Validation mean by candidate", ("candidate", "mean", "best so far"), tuple(points))
    rows = tuple((one.name, one.parent or None, one.code.value, one.mean, one.message) for one in candidates)
    listed = Table("Candidates", ("name", "written from", "code", "mean", "why"), rows[:_MOST_CANDIDATES])
    text = "These means chose the candidate; the highest of several is too high by itself, so they promote nothing."
    return Section("The search", (text, Figure("line", drawn), listed))


def _changes(diff: str) -> Section | None:
    lines = diff.splitlines()[:_MOST_LINES]
    if not lines:
        return None
    return Section("What the candidate changes", (Table("Lines", ("line",), tuple((line,) for line in lines)),))


def _data(facts: Mapping[str, Any]) -> Section:
    used: Mapping[str, Any] = facts["data_sources_used"]
    rows = tuple((name.replace("_", " "), value) for name, value in used.items() if isinstance(value, int))
    return Section("Data", (Table("Rows", ("what", "rows"), rows),))


def _cost(facts: Mapping[str, Any]) -> Section:
    rows = tuple(_lines(facts["usage"]))
    before = Table("What was to be expected", ("figure", "low", "typical", "at most"), as_rows(facts["estimate"]))
    return Section("Calls", (Table("What it took", ("figure", "value"), rows), before))


def _lines(usage: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    yield "model calls", usage["model_calls"]
    yield "tokens", usage["tokens"]
    yield "US dollars", usage["cost_usd"]
