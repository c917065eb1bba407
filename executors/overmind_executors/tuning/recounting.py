"""The figures of a job, made of the lines of its files; and those of a finished job made again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors.tuning.constraints import Code
from overmind_executors.tuning.guarding import guarded
from overmind_executors.tuning.ledger import mean_of
from overmind_executors.tuning.promotion import Decision, Verdict, decide
from overmind_executors.tuning.sealed import Registration
from overmind_executors.tuning.side_by_side import comparison_of

CANDIDATES: Final = "candidates.jsonl"
COMPARISON: Final = "comparison.jsonl"
SUMMARY: Final = "summary.json"
_MAY_NOT_WIN: Final = (Code.DISCARD_GATE, Code.DISCARD_CONSTRAINT)

Line = Mapping[str, Any]


def verdict_of(lines: Sequence[Line], registration: Registration) -> Verdict:
    """What *lines* of `comparison.jsonl` say."""
    sides = [[[trial["value"] for trial in line[side]] for line in lines] for side in ("baseline", "candidate")]
    found = decide(sides[0], sides[1], [line["group"] for line in lines], registration)
    return guarded(found, lines, registration)


def search_figures(candidates: Sequence[Line]) -> dict[str, Any]:
    """What *candidates*, the lines of `candidates.jsonl`, say of the search; scores are 0 to 100."""
    known = candidates[0]["values"]
    means = {line["name"]: _mean(line["values"], known) for line in candidates}
    tried = [line for line in candidates if means[line["name"]] is not None and line["code"] not in _MAY_NOT_WIN]
    is_priced = all(line["cost_usd"] is not None for line in tried)
    best = max(tried, key=lambda line: _rank(line, means[line["name"]], is_priced=is_priced))
    return {
        "baseline_val_score": points(means[candidates[0]["name"]]),
        "best_val_score": points(means[best["name"]]),
        "best": best["name"],
        "candidates": dict(sorted(Counter(line["code"] for line in candidates[1:]).items())),
    }


def scores(test: Verdict | None, search: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of the job's record: of the held-out rows where they were looked at, of 0 to 100."""
    promoted = test is not None and test.decision is Decision.PROMOTED
    known = test is not None and test.baseline is not None
    before = points(test.baseline) if test and known else search["baseline_val_score"]
    after = points(test.candidate) if test and promoted else before
    return {
        "promoted": promoted,
        "baseline_score": before,
        "best_score": after,
        "improvement": round(after - before, 4),
        "scored_on": "holdout" if known else "validation",
    }


def gap(test: Verdict | None, search: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    How much the search flattered its best candidate: its gain on the rows that chose it, and on those that it never
    saw; points. None where the held-out rows said nothing.
    """
    if test is None or test.baseline is None or test.candidate is None:
        return None
    chosen = round(search["best_val_score"] - search["baseline_val_score"], 4)
    held_out = round(points(test.candidate) - points(test.baseline), 4)
    return {"validation_gain": chosen, "holdout_gain": held_out, "gap": round(chosen - held_out, 4)}


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The figures as `summary.json` in *folder* says them, and the same ones made again from the other files' lines.

    Returns:
        Two objects with the same keys, which are equal if and only if the summary is true to the lines.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    search = search_figures(_lines(folder / CANDIDATES))
    test, lines = None, []
    if (folder / COMPARISON).exists():
        lines = _lines(folder / COMPARISON)
        test = verdict_of(lines, Registration(**summary["registration"]))
    elif summary["test"] is not None:  # begun, and cut short before there was anything to compare
        test = Verdict(Decision(summary["test"]["verdict"]), None, None, 0, 0, None, None)
    again = {**scores(test, search), "gap": gap(test, search), "comparison_test": comparison_of(lines)}
    said = {name: summary.get(name) for name in again}
    again |= {f"search.{name}": value for name, value in search.items()}
    said |= {f"search.{name}": summary["search"].get(name) for name in search}
    if test is not None and test.total:
        again |= {f"test.{name}": value for name, value in test.as_json().items()}
        said |= {f"test.{name}": summary["test"].get(name) for name in test.as_json()}
    return said, json.loads(json.dumps(again))


def points(value: float | None) -> float:
    """*value*, in 0 to 1, on the scale of 0 to 100."""
    return round(100 * (value or 0.0), 4)


def _rank(line: Line, mean: float | None, *, is_priced: bool) -> tuple[float, ...]:
    """As the ledger chooses: the mean; of equal ones the baseline, the cheapest, the shortest, the earliest."""
    length = sum(map(len, line["texts"].values()))
    cost = line["cost_usd"] if is_priced else 0.0
    return round(mean or 0.0, 9), not line["order"], -cost, -length, -line["order"]


def _mean(values: Sequence[float | None], known: Sequence[float | None]) -> float | None:
    """As the ledger has it: None for a candidate that was not tried on all rows, or never scored."""
    is_tried = any(value is not None for value in values)
    return mean_of(values, known) if is_tried else None


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
