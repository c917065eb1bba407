"""The figures of a job as a report for people: nothing in it that is not in the summary or in the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors.backtesting.figures import lines_of
from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.backtesting.results import summary
from overmind_executors.calls.forecast import as_rows
from overmind_executors.calls.prices import PRICE_COLUMNS, price_rows
from overmind_executors.judging.telling import objections
from overmind_executors.report import Cell, Figure, Report, Section, Table
from overmind_executors.report.drawing import svg_of
from overmind_executors.scoring.texts import as_text

Facts = Mapping[str, Any]

PARETO: Final = "pareto.svg"
_MOST_REGRESSIONS: Final = 5
_SIDES: Final = (("output", "incumbent"), ("said", "incumbent"), ("output", "candidate"), ("said", "candidate"))
_DIFFERENCES: Final = (
    "Differences of quality, 0 to 1, on the rows that both have a score for; low and high are the ends of the "
    "interval. The p-values are adjusted for the number of candidates (Holm)."
)
_LATENCY: Final = (
    "Of the call that answered, with the other models asked in between: it compares models, and is not the latency "
    "of another load."
)


def report_of(facts: Facts, task: BacktestingParameters, rows: Path) -> Report:
    """
    The report of a finished job.

    Args:
        rows: `rows.jsonl`, for the outputs of the rows that are shown.
    """
    current = task.current_model
    sections = (
        _candidates(facts),
        _models(facts),
        _frontier(facts),
        _segments(facts),
        _regressions(facts, current, rows),
        _rule(facts, task),
    )
    title = f"{facts['decision']['verdict']}: other models beside {current}"
    return Report(title, summary(facts, current), tuple(section for section in sections if section is not None))


def pareto_svg(facts: Facts) -> str:
    """The picture of the frontier by itself; empty without points."""
    figure = _figure(facts)
    return svg_of(figure) if figure else ""


def _candidates(facts: Facts) -> Section:
    columns = ("candidate", "verdict", "reasons", "difference", "low", "high", "p better", "p no worse", "rows")
    rows = tuple(
        (
            name,
            one["verdict"],
            ", ".join(one["reasons"]),
            one["difference"],
            *_ends(one["interval"]),
            one["p_holm"]["superior"],
            one["p_holm"]["non_inferior"],
            one["rows"],
        )
        for name, one in facts["comparisons"].items()
    )
    saved = tuple(
        (name, *one["win_tie_loss"], _saving(one["cost_usd"]), _saving(one["p95_ms"]), one["extra_rows"])
        for name, one in facts["comparisons"].items()
    )
    more = ("candidate", "wins", "ties", "losses", "money saved", "p95 saved", "rows that would settle it")
    return Section(
        "Against the incumbent",
        (
            _DIFFERENCES,
            Table("Candidates", columns, rows),
            Table("Rows and savings", more, saved),
        ),
    )


def _models(facts: Facts) -> Section:
    models = facts["models"].items()
    quality = tuple(
        (name, one["avg_eval_score"], *_ends(one["interval"]), one["answered"], one["requests"], one["retries"])
        for name, one in models
    )
    money = tuple(
        (name, one["usd_per_1000_requests"], one["usd_per_1000_successes"], one["judge_usd"])
        for name, one in models
    )
    latency, first = (_times(facts, which) for which in ("latency_ms", "first_token_ms"))
    heads = tuple(head for key in ("p50", "p95", "p99") for head in (key, f"{key} low", f"{key} high"))
    return Section(
        "Each model",
        (
            Table("Quality", ("model", "mean", "low", "high", "answered", "requests", "retries"), quality),
            Table("US dollars", ("model", "1,000 requests", "1,000 successes", "judging"), money),
            "A dash is a price that nobody has given, not nought.",
            Table("Latency, milliseconds", ("model", *heads), latency),
            *((Table("To the first token, milliseconds", ("model", *heads), first),) if first else ()),
            _LATENCY,
        ),
    )


def _times(facts: Facts, which: str) -> tuple[tuple[Cell, ...], ...]:
    """A row for each model that has such times, with the ends of their intervals."""
    return tuple(
        (
            name,
            *(
                cell
                for key in ("p50", "p95", "p99")
                for cell in (one[which][key]["value"], *_ends(one[which][key]["interval"]))
            ),
        )
        for name, one in facts["models"].items()
        if one[which] is not None
    )


def _figure(facts: Facts) -> Figure | None:
    points = facts["pareto"]["points"]
    if not points:
        return None
    respects = facts["pareto"]["respects"]
    by, name = ("usd_per_1000_requests", "US dollars for 1,000 requests")
    if "cost_usd" not in respects:
        by, name = "p95_ms", "p95, milliseconds"
    if by == "p95_ms" and by not in respects:
        return None
    rows = tuple(
        (
            point[by],
            point["quality"] if point["on_frontier"] else None,
            None if point["on_frontier"] else point["quality"],
        )
        for point in points.values()
    )
    table = Table("Quality and what it costs", (name, "quality, on the frontier", "quality, beaten"), rows)
    labels = tuple(f"{name} ({point['membership']:.0%})" for name, point in points.items())
    return Figure("dots", table, labels=labels)


def _frontier(facts: Facts) -> Section | None:
    pareto, figure = facts["pareto"], _figure(facts)
    if figure is None:
        return None
    rows = tuple(
        (
            name,
            point["quality"],
            point["usd_per_1000_requests"],
            point["p95_ms"],
            "yes" if point["on_frontier"] else "no",
            point["membership"],
        )
        for name, point in pareto["points"].items()
    )
    columns = ("model", "quality", "US dollars for 1,000", "p95, ms", "on the frontier", "in samples")
    text = (
        f"On the frontier is what no other model beats in all of {', '.join(pareto['respects'])}. Beside each dot, "
        f"and in the last column, is the share of samples of the {pareto['rows']} rows in which that holds."
    )
    return Section("Quality, money, latency", (text, figure, Table("Frontier", columns, rows)))


def _segments(facts: Facts) -> Section | None:
    rows = tuple(
        (name, one["segment"], one["rows"], one["difference"], *_ends(one["interval"]), one["code"])
        for name, pair in facts["comparisons"].items()
        for one in pair["segments"]
    )
    if not rows:
        return None
    columns = ("candidate", "segment", "rows", "difference", "low", "high", "code")
    return Section("Segments, the worst first", (Table("Segments", columns, rows),))


def _regressions(facts: Facts, current: str, rows: Path) -> Section | None:
    wanted = {
        name: [one["item_id"] for one in pair["regressions"][:_MOST_REGRESSIONS]]
        for name, pair in facts["comparisons"].items()
    }
    outputs = _outputs(rows, {item for items in wanted.values() for item in items})
    found = tuple(_shown_regressions(facts, current, wanted, outputs))
    if not found:
        return None
    columns = ("candidate", "row", "difference", *(f"{what} of the {who}" for what, who in _SIDES))
    text = (
        "Of the first answers to a row; what is said are scores below the best, and what judges did not say yes to."
    )
    return Section("Rows that got worse", (text, Table("Regressions", columns, found)))


def _shown_regressions(
    facts: Facts, current: str, wanted: Mapping[str, Sequence[str]], outputs: Mapping[str, Facts]
) -> Iterator[tuple[Cell, ...]]:
    for name, items in wanted.items():
        changes = {one["item_id"]: one["difference"] for one in facts["comparisons"][name]["regressions"]}
        for item in items:
            old, new = (outputs[item].get(one, {}) for one in (current, name))
            texts = as_text(old.get("output")), said_of(old), as_text(new.get("output")), said_of(new)
            yield name, item, changes[item], *texts


def said_of(cell: Facts) -> str:
    """What evaluators and judges have against an output: of a cell of `rows.jsonl`."""
    scores = cell.get("scores", {}).items()
    low = [(title, one) for title, one in scores if one["value"] is not None and one["value"] < 1]
    found = [f"{title}: {one['value']:.2f} {one.get('code', '')}".strip() for title, one in low]
    for opinion in (cell.get("judge") or {}).get("items", ()):
        found += objections(opinion["judge"], opinion)
    return "; ".join(found)


def _outputs(rows: Path, items: set[str]) -> dict[str, Facts]:
    """The cells of the first repetition of *items*."""
    return {
        line["item_id"]: line["models"]
        for line in lines_of(rows)
        if line["repetition"] == 0 and line["item_id"] in items
    }


def _rule(facts: Facts, task: BacktestingParameters) -> Section:
    rule = task.rule
    said = (
        f"Switch to a model that is better, or no worse by more than {100 * rule.margin:g} points and cheaper or "
        f"faster by {100 * rule.min_saving:g} %. Each one-sided test at {100 * rule.alpha:g} %, over all "
        "candidates together."
    )
    times = "once" if facts["repetitions"] == 1 else f"{facts['repetitions']} times"
    asked = (
        f"{facts['rows']} rows, {times} each; models were asked row by row in random "
        f"order, seed {task.seed}. {facts['saved_requests']} requests were saved by racing."
    )
    recorded = (
        f"The answers of {task.current_model} are those that the rows had: they were scored with the others, and "
        "their latencies, which are of another hour, are compared with nothing."
    )
    before = Table("What was to be expected", ("figure", "low", "typical", "at most"), as_rows(facts["estimate"]))
    notes = {name: one["prices"] for name, one in facts["identities"].items()}
    prices = Table("Prices", PRICE_COLUMNS, price_rows(notes))
    return Section("How it was decided", (said, asked, *([recorded] if task.is_recorded else []), prices, before))


def _saving(change: Facts | None) -> str | None:
    saving = change["saving"] if change else None
    return None if saving is None else f"{100 * saving:.1f} %"


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (interval[0], interval[1]) if interval else (None, None)
