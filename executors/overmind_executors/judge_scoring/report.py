"""The figures of a job as a report for people: nothing in it that is not in the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overmind_executors.calls.forecast import as_rows
from overmind_executors.calls.prices import PRICE_COLUMNS, price_rows
from overmind_executors.report import Cell, Figure, Report, Section, Table

Facts = Mapping[str, Any]


def report_of(facts: Facts) -> Report:
    """The report of a finished job."""
    sections = [
        _scores(facts),
        _metrics(facts),
        _labels(facts),
        _pairs(facts),
        _same_family(facts),
        _drift(facts),
        _injection(facts),
        _not_scored(facts),
        _cost(facts),
    ]
    return Report("Scores", _lead(facts), tuple(section for section in sections if section is not None))


def standing(agreement: Facts | None) -> str:
    """What the agreement with people lets one say of the judge, in a sentence."""
    if not agreement or agreement.get("compared", 0) == 0:
        return "No labels: the judge is uncalibrated, and its scores are its own word."
    kappa, interval = agreement.get("cohens_kappa"), agreement.get("kappa_interval_95")
    if kappa is None or interval is None:
        return "The labels, or the judge, say one thing throughout: agreement beyond chance cannot be known."
    low, high = interval
    span = f"kappa = {kappa:.2f}, 95 %: {low:.2f} to {high:.2f}, {agreement['compared']} labels"
    if low <= 0:
        return f"The judge's agreement with people cannot be told from chance ({span}); do not go by its scores."
    if not agreement["calibrated"]:
        return f"The judge agrees with people more than by chance ({span}), on too few labels to go by."
    return f"The judge agrees with people beyond chance ({span})."


def _lead(facts: Facts) -> str:
    mean, span = facts["avg_score"], facts["avg_score_interval_95"]
    covered = f"{facts['scored']} of {facts['total']} rows"
    if mean is None:
        return f"No row has a score of its own ({covered}).{_ended(facts)}"
    between = f" (95 %: {100 * span[0]:.1f} to {100 * span[1]:.1f})" if span else ""
    judged = f" {standing(facts['agreement'])}" if facts["judge"] else ""
    return f"Mean score {100 * mean:.1f} of 100{between}, over {covered}.{judged}{_ended(facts)}"


def _ended(facts: Facts) -> str:
    reason = facts["termination_reason"]
    return "" if reason == "completed" else f" The judging ended early: {reason.replace('_', ' ')}."


def _scores(facts: Facts) -> Section:
    columns = ("evaluator", "kind", "mean", "low", "high", "pass rate", "scored", "rows", "coverage")
    rows = tuple(
        (
            name,
            one["kind"],
            one["mean"],
            *_ends(one["interval_95"]),
            one["pass"]["pass_rate"] if one["pass"] else None,
            one["scored"],
            one["total"],
            one["coverage_rate"],
        )
        for name, one in facts["evaluators"].items()
    )
    spread = tuple((name, count) for name, count in facts["distribution"].items())
    parts: list[Any] = [
        "Values are 0 to 1. Only rows with a score are in a mean; low and high are the ends of its 95 % interval.",
        Table("Evaluators", columns, rows),
    ]
    if facts["scored"]:
        parts.append(Figure("columns", Table("Rows by score", ("score", "rows"), spread)))
    return Section("Scores", (*parts, *facts["warnings"]))


def _metrics(facts: Facts) -> Section | None:
    if not facts["metrics"]:
        return None
    rows = tuple((name, one["kind"], one["value"], one["rows"]) for name, one in facts["metrics"].items())
    return Section("Metrics over all rows", (Table("Metrics", ("metric", "kind", "value", "rows"), rows),))


def _labels(facts: Facts) -> Section | None:
    agreement = facts["agreement"]
    if agreement is None:
        return None
    parts: list[Any] = [
        standing(agreement),
        Table("Judge and people", ("figure", "value"), tuple(_told(agreement))),
    ]
    if judges := agreement.get("judges"):
        each = tuple((name, one["compared"], one["cohens_kappa"]) for name, one in judges.items())
        parts.append(Table("Each judge and people", ("judge", "rows", "Cohen's kappa"), each))
    buckets = (agreement.get("calibration") or {}).get("buckets", ())
    points = tuple((b["mean_value"], b["share_fine"]) for b in buckets if b["rows"])
    if len(points) > 1:
        table = Table("Calibration", ("mean value of the judge", "share that people call fine"), points)
        parts.append(Figure("dots", table, diagonal=True))
    return Section("Agreement with people", tuple(parts))


_FIGURES = {
    "compared": "rows with a label and a verdict",
    "raw_agreement": "raw agreement",
    "cohens_kappa": "Cohen's kappa",
    "krippendorffs_alpha": "Krippendorff's alpha",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "label_pass_rate": "pass rate by people, labelled rows",
    "judge_pass_rate": "pass rate by the judge, other rows",
}


def _told(agreement: Facts) -> Iterator[tuple[Cell, ...]]:
    for key, words in _FIGURES.items():
        if key in agreement:
            yield words, agreement[key]
    for key, words in (("kappa_interval_95", "kappa"), ("corrected_pass_rate", "corrected pass rate")):
        found = agreement.get(key)
        if isinstance(found, Mapping):
            yield f"{words}, other rows", found.get("rate")
            found = found.get("interval_95")
        if found:
            yield f"{words}, 95 % low", found[0]
            yield f"{words}, 95 % high", found[1]
    people = agreement.get("people") or {}
    if people.get("raters", 0) > 1:
        yield "the ceiling: alpha among people", people["krippendorffs_alpha"]
        yield "the ceiling: mean kappa among people", people["mean_pairwise_kappa"]
    if calibration := agreement.get("calibration"):
        yield "expected calibration error", calibration["ece"]
        yield "Brier score", calibration["brier"]


def _pairs(facts: Facts) -> Section | None:
    pairs = facts["pairwise"]
    if pairs is None:
        return None
    rows = (
        ("pairs, each in both orders", pairs["pairs"]),
        ("same winner in both orders", pairs["consistency"]),
        ("won, of those that were decided", pairs["win_share"]),
        ("first output named", pairs["first_position_rate"]),
    )
    text = "A judge that is fair to the order names the first output in half of its verdicts."
    return Section("Position", (text, Table("Order of the outputs", ("figure", "value"), rows)))


def _same_family(facts: Facts) -> Section | None:
    found = facts["same_family"]
    if found is None:
        return None
    rows = tuple(
        (
            judge,
            one["own_family"]["outputs"],
            one["own_family"]["mean"],
            one["others"]["mean"],
            one["difference"],
            *_ends(one["interval_95"]),
            one["prefers_its_own"],
        )
        for judge, one in found["judges"].items()
    )
    text = (
        "Judges tend to score outputs of their own family higher. A difference may also mean that these outputs "
        "are better; labels of people tell the two apart."
    )
    columns = ("judge", "own outputs", "own mean", "mean of others", "difference", "low", "high", "prefers its own")
    return Section("Judges of the judged family", (text, Table("Own family and others", columns, rows)))


def _drift(facts: Facts) -> Section | None:
    found = facts["drift"]
    if found is None:
        return None
    verdict = "have changed" if found["has_drifted"] else "have not changed, as far as these anchors show"
    low, high = _ends(found["interval_95"])
    rows: Sequence[tuple[Cell, ...]] = (
        ("anchors judged again", found["judged"]),
        ("their mean then", found["mean_then"]),
        ("their mean now", found["mean_now"]),
        ("difference", found["difference"]),
        ("95 % low", low),
        ("95 % high", high),
    )
    return Section("Drift", (f"The judges {verdict}.", Table("Anchors", ("figure", "value"), tuple(rows))))


def _injection(facts: Facts) -> Section | None:
    flagged, canaries = facts["flagged"], facts["canaries"]
    if not flagged["rows"] and not canaries:
        return None
    rows: list[tuple[Cell, ...]] = [("rows that look as if they spoke to the judge", flagged["rows"])]
    rows += [(f"sign: {name}", count) for name, count in flagged["signs"].items()]
    if canaries:
        rows += [("canaries", canaries["asked"]), ("canaries that the judge let pass", len(canaries["leaked"]))]
        rows += [(f"let pass: {name}", 1) for name in canaries["leaked"]]
    return Section("Outputs that speak to the judge", (Table("Injection", ("what", "rows"), tuple(rows)),))


def _not_scored(facts: Facts) -> Section | None:
    if not facts["codes"]:
        return None
    rows = tuple((code, count) for code, count in facts["codes"].items())
    return Section("Codes", (Table("Why rows have no score, or the one that they have", ("code", "rows"), rows),))


def _cost(facts: Facts) -> Section | None:
    usage, latency = facts["usage"], facts["latency_ms"]
    if not usage["model_calls"] and not usage["cached_answers"]:
        return None
    rows: Sequence[tuple[Cell, ...]] = (
        ("model calls", usage["model_calls"]),
        ("answers from earlier jobs, without a call", usage["cached_answers"]),
        ("tokens in", usage["prompt_tokens"]),
        ("tokens out", usage["completion_tokens"]),
        ("US dollars", usage["cost_usd"]),
        *((f"milliseconds for a row, {name}", value) for name, value in latency.items()),
        *((f"texts embedded by {name}", one["texts"]) for name, one in (facts["embeddings"] or {}).items()),
    )
    columns = ("what", "low", "typical", "at most")
    told = Table("What was expected before the first call", columns, as_rows(facts["estimate"]))
    prices = Table("Prices", PRICE_COLUMNS, price_rows(usage["prices"]))
    return Section("Calls", (Table("What the judging took", ("figure", "value"), tuple(rows)), prices, told))


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (interval[0], interval[1]) if interval else (None, None)
