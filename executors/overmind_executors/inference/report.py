"""The figures of a job as a report for people: nothing in it that is not in the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from overmind_executors.calls.forecast import as_rows
from overmind_executors.inference.output import INVALID_ROW, MISSING_FIELD
from overmind_executors.report import Cell, Figure, Report, Section, Table

Facts = Mapping[str, Any]

_MEANINGS: Final[Mapping[str, str]] = {
    "ok": "an output",
    "truncated": "an output that was cut short at the limit of tokens",
    "refused": "the model refused",
    "content_filter": "the provider's filter took the answer away",
    "invalid_response": "the answer is not what was asked for",
    "schema_mismatch": "the output is not JSON of the form that was asked for",
    "timeout": "no answer in time",
    "network_error": "the connection failed",
    "rate_limited": "the provider had no room for the call",
    "overloaded": "the provider had too much to do",
    "quota_exhausted": "the account is used up",
    "provider_error": "the provider failed",
    "auth_error": "the provider refused the host's key",
    "bad_request": "the provider did not take the request",
    "crash": "the program failed",
    "import_error": "the program could not be loaded",
    "memory_limit": "the program took more memory than programs may on its host",
    "process_limit": "the program started more processes than programs may on its host",
    "disk_limit": "the program wrote more than programs may on its host",
    INVALID_ROW: "the row cannot be read",
    MISSING_FIELD: "the row lacks a field that the prompt needs",
    "budget_exhausted": "not asked: the budget was used up",
    "provider_unavailable": "not asked: the provider was away",
    "too_many_errors": "not asked: too many rows before it had failed",
    "model_auth_error": "not asked: the provider refused the host's key",
    "model_quota_exhausted": "not asked: the account is used up",
}

_SANDBOXES: Final[Mapping[str, str]] = {
    "none": "It ran as the host's own user, without a sandbox.",
    "limits": "It ran as the host's own user, with limits and without a sandbox.",
    "bubblewrap": "It ran in a sandbox (bubblewrap).",
}


def report_of(facts: Facts) -> Report:
    """The report of a finished job."""
    sections = (_outcomes(facts), _accuracy(facts), _errors(facts), _cost(facts))
    return Report("Outputs", _lead(facts), tuple(section for section in sections if section is not None))


def _lead(facts: Facts) -> str:
    counts, target = facts["counts"], facts["target"]
    times = f", {facts['repetitions']} of each row" if facts["repetitions"] > 1 else ""
    lead = f"{target['model']} gave {counts['ok']:,} of {counts['total']:,} outputs{times}."
    if sandbox := target.get("sandbox"):
        lead += f" {_SANDBOXES[sandbox]}"
    if facts["termination_reason"] != "completed":
        lead += f" The work ended early: {facts['termination_reason'].replace('_', ' ')}."
    if accuracy := facts["accuracy"]:
        low, high = accuracy["interval_95"]
        share = f"{100 * accuracy['accuracy']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})"
        lead += f" Of {accuracy['compared']:,} that could be compared, {share} are as expected."
    return lead


def _outcomes(facts: Facts) -> Section:
    found = dict(sorted(facts["outcomes"].items(), key=lambda pair: (-pair[1], pair[0])))
    rows = tuple((kind, _MEANINGS.get(kind, ""), count) for kind, count in found.items())
    title = "Rows by outcome" if len(found) <= 1 else "What each outcome means"
    parts: list[Any] = [Table(title, ("outcome", "meaning", "rows"), rows)]
    if len(found) > 1:
        parts.insert(0, Figure("bars", Table("Rows by outcome", ("outcome", "rows"), tuple(found.items()))))
    return Section("Outcomes", (*parts, *facts["warnings"]))


def _accuracy(facts: Facts) -> Section | None:
    accuracy = facts["accuracy"]
    if accuracy is None:
        return None
    rows = (
        ("compared by", accuracy["kind"]),
        ("compared", accuracy["compared"]),
        ("as expected", accuracy["correct"]),
        ("share", accuracy["accuracy"]),
        ("95 % low", accuracy["interval_95"][0]),
        ("95 % high", accuracy["interval_95"][1]),
    )
    return Section("As expected?", (Table("Outputs and what was expected", ("figure", "value"), rows),))


def _errors(facts: Facts) -> Section | None:
    if not facts["errors"]:
        return None
    rows = tuple((one["item"], one["code"], one["message"]) for one in facts["errors"])
    table = Table("The first rows without an output", ("row", "code", "message"), rows)
    text = "errors.jsonl has every row that may be submitted again, as it was."
    return Section("Rows without an output", (text, table))


def _cost(facts: Facts) -> Section:
    columns = ("what", "low", "typical", "at most")
    expected = Table("What was expected before the first call", columns, as_rows(facts["estimate"]))
    return Section("Calls", (Table("What it took", ("figure", "value"), tuple(_told(facts))), expected))


def _told(facts: Facts) -> Iterator[tuple[Cell, ...]]:
    usage = facts["usage"]
    yield "calls", usage["model_calls"]
    yield "repeated calls", facts["retries"]
    if facts["repairs"]:
        yield "rows that were asked once more for an output of the right form", facts["repairs"]
    yield "calls that the provider had no room for", facts["refusals"]
    if facts["shared_rows"]:
        yield "rows that share another row's call", facts["shared_rows"]
    yield "tokens in", usage["prompt_tokens"]
    yield "tokens out", usage["completion_tokens"]
    yield "US dollars", usage["cost_usd"]
    if price := usage["prices"]:
        yield "US dollars for a million tokens in", price["input_price"]
        yield "US dollars for a million tokens out", price["output_price"]
        source = "the host's configuration" if price["source"] == "host" else price["source"]
        yield "prices from", ", of ".join(filter(None, (source, price["as_of"])))
    for name, value in facts["latency_ms"].items():
        yield f"milliseconds for an output, {name}", value
