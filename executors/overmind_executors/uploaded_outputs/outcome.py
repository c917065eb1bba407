"""What a finished job says: the facts in its record, and the report, both from the data card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from overmind_executors.report import Cell, Figure, Report, Section, Table
from overmind_executors.rows.source import RowSource
from overmind_executors.uploaded_outputs.closer_look import MOST_COMPARED
from overmind_executors.uploaded_outputs.data_card import ALPHA, POWER, SPREADS
from overmind_executors.uploaded_outputs.parameters import UploadedOutputsParameters
from overmind_executors.uploaded_outputs.taking import REJECT_CODES

CARD: Final = "data_card.json"
_MOST_NAMED: Final = 8
_SHOWN: Final = ("near_duplicates", "personal", "splits", "suggested_split", "languages", "constant_columns")
_NEAR: Final = (
    "Two texts are nearly one when they share four fifths of their groups of three words, whatever the case. "
    "flags.jsonl says which rows."
)
_SUGGESTED: Final = (
    "The rows name no split. split.jsonl has one: a quarter to learn from, a quarter to choose by, half for one "
    "test in the end; inputs that are nearly one stand on one side."
)
_PARTS: Final = {
    "train": "to learn from",
    "validation": "to choose by",
    "held_out": "held out",
    "groups_of_like_inputs": "different inputs",
}
_KINDS: Final = {
    "email": "an e-mail address",
    "phone": "a telephone number",
    "card": "the number of a payment card",
    "iban": "the number of a bank account (IBAN)",
    "ip_address": "a public IP address",
    "us_ssn": "a social security number (US)",
}
_NO_BINDING: Final = "The outputs were not bound to a data set."


def outcome(card: Mapping[str, Any], task: UploadedOutputsParameters, source: RowSource) -> dict[str, Any]:
    """The facts of a finished job, flat, as its record has them."""
    rows, points = card["rows"], card["datapoints"]
    return {
        "status": "partial" if rows["rejected"] else "completed",
        "partial": bool(rows["rejected"]),
        "counts": {"total": rows["total"], "ok": rows["accepted"], "failed": rows["rejected"], "skipped": 0},
        "rows_total": rows["total"],
        "rows_accepted": rows["accepted"],
        "rows_rejected": rows["rejected"],
        "rejected_by_code": rows["rejected_by_code"],
        "bound_by": card["bound_by"],
        "datapoints_total": points["total"],
        "datapoints_covered": points["covered"],
        "coverage_rate": points["coverage_rate"],
        "duplicates": card["duplicates"],
        **{
            name: card[name]
            for name in ("near_duplicates", "personal", "splits", "suggested_split", "constant_columns")
        },
        "smallest_gain": card["smallest_gain"],
        "dataset_id": task.dataset_id,
        "source": source.described(),
        "warnings": _warnings(card, source),
    }


def _warnings(card: Mapping[str, Any], source: RowSource) -> list[str]:
    outputs, duplicates = card["outputs"], card["duplicates"]
    said, splits = source.described(), card["splits"] or {}
    checks = (
        (said["encoding_is_guess"], f"the encoding is a guess: {said['encoding']}; name it to be sure"),
        (
            outputs["empty"],
            f"{outputs['empty']} outputs are empty: they are left out of means, not counted as zero",
        ),
        (outputs["failed"], f"{outputs['failed']} outputs are marked as failed"),
        (card["datapoints"]["missing"], f"{card['datapoints']['missing']} rows of the data set have no output"),
        (
            duplicates["most_frequent_output"] * 2 > outputs["usable"] > 1,
            f"{duplicates['most_frequent_output']} of {outputs['usable']} outputs are one and the same",
        ),
        (
            duplicates["inputs_with_two_expected_outputs"],
            f"{duplicates['inputs_with_two_expected_outputs']} inputs have more than one expected output",
        ),
        (
            splits.get("shared_inputs"),
            f"{splits.get('shared_inputs')} inputs stand in more than one split: what is measured there was seen",
        ),
        (
            duplicates["outputs_with_two_labels"],
            f"{duplicates['outputs_with_two_labels']} outputs for one input have more than one label",
        ),
        (
            card["constant_columns"],
            f"columns in which every row says the same: {', '.join(card['constant_columns'][:_MOST_NAMED])}",
        ),
        (
            card["personal"]["rows"],
            f"{card['personal']['rows']} rows seem to have personal data: {', '.join(card['personal']['kinds'])}",
        ),
        *(
            (True, f"not sure that {guess.column[:64]!r} is the {guess.field}: not used")
            for guess in source.columns.unsure
        ),
    )
    return [text for holds, text in checks if holds][:10]


def report_of(card: Mapping[str, Any]) -> Report:
    """The report; every number in it is one of *card*."""
    rows, outputs = card["rows"], card["outputs"]
    usable = f"{outputs['usable']:,} of them with a usable output"
    lead = f"{rows['accepted']:,} of {rows['total']:,} rows were taken in, {usable}."
    sections = (
        _rows(card),
        _binding(card),
        _lengths(card),
        _repeats(card),
        _personal(card),
        _splits(card),
        _gains(card),
    )
    return Report("Uploaded outputs", lead, tuple(section for section in sections if section is not None))


def _rows(card: Mapping[str, Any]) -> Section:
    rows, outputs = card["rows"], card["outputs"]
    counts = {
        "rows read": rows["total"],
        "accepted": rows["accepted"],
        "rejected": rows["rejected"],
        "usable outputs": outputs["usable"],
        "empty outputs": outputs["empty"],
        "marked as failed": outputs["failed"],
        "with an input": card["with_input"],
        "with an expected output": card["with_expected_output"],
    }
    codes = rows["rejected_by_code"]
    rejects = tuple((code, REJECT_CODES.get(code, ""), count) for code, count in codes.items())
    table = Table("Rejected rows, by reason", ("code", "meaning", "rows"), rejects)
    none = "No row was rejected."
    return Section("Rows", (Table("Counts", ("what", "rows"), tuple(counts.items())), table if rejects else none))


def _binding(card: Mapping[str, Any]) -> Section:
    points = card["datapoints"]
    if card["bound_by"] == "none":
        return Section("Data set", (_NO_BINDING,))
    cells = (
        ("bound by", card["bound_by"]),
        ("rows of the data set", points["total"]),
        ("with a usable output", points["covered"]),
        ("without any output", points["missing"]),
        ("coverage", points["coverage_rate"]),
    )
    return Section("Data set", (Table("Coverage", ("what", "value"), cells),))


def _lengths(card: Mapping[str, Any]) -> Section:
    bins = tuple((f"{b['from']}-{b['to']}", b["outputs"]) for b in card["length_histogram"])
    parts: list[str | Table | Figure] = [
        Figure("bars", Table("Length of the usable outputs", ("letters", "outputs"), bins)),
        *_profiles(card),
    ]
    scripts = tuple(card["scripts"].items())
    parts.append(Table("Writing, by the first letters of each output", ("script", "outputs"), scripts))
    languages = tuple(card["languages"].items())
    parts.append(Table("Language, by its little words", ("language", "outputs"), languages))
    if card["constant_columns"]:
        parts.append(f"Columns in which every row says the same: {', '.join(card['constant_columns'])}.")
    return Section("Outputs", tuple(parts))


def _profiles(card: Mapping[str, Any]) -> list[Table]:
    found = [(title, card[key]) for title, key in (("length, letters", "length"), ("latency, ms", "latency_ms"))]
    known = [(title, profile) for title, profile in found if profile is not None]
    if not known:
        return []
    columns = ("what", *known[0][1])
    return [Table("Profile", columns, tuple((title, *profile.values()) for title, profile in known))]


def _repeats(card: Mapping[str, Any]) -> Section:
    found, near = card["duplicates"], card["near_duplicates"]
    cells: tuple[tuple[str, Cell], ...] = (
        ("different outputs", found["distinct_outputs"]),
        ("rows with the most frequent output", found["most_frequent_output"]),
        ("inputs that stand more than once", found["repeated_inputs"]),
        ("inputs with more than one expected output", found["inputs_with_two_expected_outputs"]),
        ("outputs for one input with more than one label", found["outputs_with_two_labels"]),
        ("outputs that are nearly another one", near["outputs"]),
        ("inputs that are another one, or nearly", near["inputs"]),
    )
    parts: list[str | Table] = [Table("What stands more than once", ("what", "count"), cells)]
    if any(count == MOST_COMPARED for count in near["compared"].values()):
        parts.append(
            f"Of the texts after the first {MOST_COMPARED:,} different ones only equal ones were looked for."
        )
    return Section("Repeats", (*parts, _NEAR))


def _personal(card: Mapping[str, Any]) -> Section:
    found = card["personal"]
    if not found["rows"]:
        return Section("Personal data", ("No row looks as if it had any.",))
    rows = tuple((_KINDS.get(kind, kind), count) for kind, count in found["kinds"].items())
    text = "By the look of the inputs, outputs and expected outputs; flags.jsonl says which rows, and no value."
    return Section("Personal data", (Table("Rows with", ("what", "rows"), rows), text))


def _splits(card: Mapping[str, Any]) -> Section | None:
    splits, suggested = card["splits"], card["suggested_split"]
    if splits is not None:
        cells = (
            *((f"rows in {name!r}", count) for name, count in splits["rows"].items()),
            ("inputs that stand in more than one split, or nearly", splits["shared_inputs"]),
            ("rows with such an input", splits["rows_of_shared_inputs"]),
        )
        return Section("Splits", (Table("The rows' own splits", ("what", "count"), cells),))
    if suggested is None:
        return None
    cells = tuple((words, suggested[name]) for name, words in _PARTS.items())
    return Section("A split that would do", (_SUGGESTED, Table("Rows", ("part", "rows"), cells)))


def _gains(card: Mapping[str, Any]) -> Section:
    explained = (
        "The smallest true gain of another version that a paired comparison on these rows would show, "
        f"one-sided at {ALPHA:.0%} with a chance of {POWER:.0%}, on a scale from 0 to 1. It depends on the spread: "
        "how much the difference between the two varies from row to row. 0.7 is two versions that pass or fail as "
        "a coin does; 0.3, graded scores that differ by 0.3 on most rows. Rows that a search has seen do not count."
    )
    columns = ("rows", "share of all", *(f"spread {spread:g}" for spread in SPREADS))
    cells = tuple((row["rows"], row["share"], *row["by_spread"].values()) for row in card["smallest_gain"])
    return Section("What these rows can show", (explained, Table("Smallest gain", columns, cells)))
