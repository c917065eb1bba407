"""What a job says, made of the lines of its files; and all that a finished job says made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors.report import rendered
from overmind_executors.tuning.changed_rows import changes_of, in_words
from overmind_executors.tuning.changes_summary import NO_HEADROOM, summary_of
from overmind_executors.tuning.guarding import guarded
from overmind_executors.tuning.ledger import Candidate, Ledger
from overmind_executors.tuning.promotion import Decision, Verdict, decide
from overmind_executors.tuning.report import report_of
from overmind_executors.tuning.sealed import Registration
from overmind_executors.tuning.search import HOPELESS
from overmind_executors.tuning.side_by_side import comparison_of
from overmind_executors.tuning.texts import as_code, diff, prompt_of

BEST_PROMPT: Final = "best_prompt.txt"
DIFF: Final = "prompt.diff"
CANDIDATES: Final = "candidates.jsonl"
COMPARISON: Final = "comparison.jsonl"
SUMMARY: Final = "summary.json"
_MOST_CHANGES: Final = 20
# Of the changes in a summary, whose first sentence is to fit, too.
_MOST_WORDS: Final = 1300

Line = Mapping[str, Any]


def verdict_of(lines: Sequence[Line], registration: Registration) -> Verdict:
    """What *lines* of `comparison.jsonl` say."""
    sides = [[[trial["value"] for trial in line[side]] for line in lines] for side in ("baseline", "candidate")]
    found = decide(sides[0], sides[1], [line["group"] for line in lines], registration)
    return guarded(found, lines, registration)


def search_figures(ledger: Ledger) -> dict[str, Any]:
    """What the candidates, as their file has them, say of the search; scores are 0 to 100."""
    first, best = ledger.candidates[0], ledger.best()
    return {
        "baseline_val_score": points(first.mean),
        "best_val_score": points(best.mean),
        "best": best.name,
        "candidates": dict(ledger.counts()),
        "frontier": [one.name for one in ledger.frontier()],
    }


def scores(test: Verdict | None, search: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of the job's record: of the held-out rows where they were looked at, of 0 to 100."""
    promoted = test is not None and test.decision is Decision.PROMOTED
    known = test is not None and test.baseline is not None
    before = points(test.baseline) if test and known else search["baseline_val_score"]
    after = points(test.candidate) if test and promoted else before
    return {
        "promoted": promoted,
        "status": "improved" if promoted else "no_improvement",
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


def words(facts: Line, ledger: Ledger, row_ids: Sequence[str]) -> dict[str, Any]:
    """
    What is said of the best candidate.

    Args:
        facts: the outcome without it.
        row_ids: of the validation rows, in the order of the candidates' values.
    """
    original, best = ledger.candidates[0].texts, ledger.best()
    steps = changes_of(ledger.lineage(best), row_ids)
    changed = in_words(original, best.texts, steps, most=_MOST_WORDS)
    return {
        "changes": [step.as_json() for step in steps][:_MOST_CHANGES],
        "changes_summary": summary_of(facts, changed, _barred(ledger, best)),
    }


def verdict_word(test: Verdict | None, termination_reason: str, best: Candidate) -> str:
    """What the job came to, in a word."""
    if test is not None:
        return test.decision.value
    if termination_reason in (NO_HEADROOM, HOPELESS):
        return NO_HEADROOM
    return "untested" if best.order else "no_better_candidate"


def prompts(ledger: Ledger, *, promoted: bool) -> dict[str, str]:
    """The texts of the files of prompts: what is to be used from now on, and what the best candidate changes."""
    original, best = ledger.candidates[0].texts, ledger.best().texts
    return {
        BEST_PROMPT: as_code(prompt_of(original), best if promoted else original),
        DIFF: diff(original, best),
    }


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What the files in *folder* say, and the same made again from the lines of the candidates and the comparison.

    Returns:
        Two objects with the same keys: the figures of `summary.json`, and the SHA-256 of each report and file of
        prompts. Equal if and only if all of them are true to the lines.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    ledger = Ledger.of_lines(_lines(folder / CANDIDATES), summary["search"]["objectives"])
    lines, test = _tested(folder, summary)
    search = search_figures(ledger)
    made = prompts(ledger, promoted=scores(test, search)["promoted"])
    again = {
        **scores(test, search),
        "verdict": verdict_word(test, summary["termination_reason"], ledger.best()),
        "gap": gap(test, search),
        "comparison_test": comparison_of(lines),
        "best_agent_code": made[BEST_PROMPT],
        "search": {**summary["search"], **search},
        "test": test.as_json() if test is not None and test.total else summary["test"],
    }
    again |= words({**summary, **again}, ledger, summary["validation_ids"])
    again = json.loads(json.dumps(again))
    files = {name: text.encode() for name, text in made.items()}
    files |= rendered(report_of({**summary, **again}, ledger, made[DIFF], lines))
    again["search"] = {name: again["search"][name] for name in search}
    said = _flat(
        {name: summary.get(name) for name in again}
        | {"search": {name: summary["search"].get(name) for name in search}}
    )
    said |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    return said, _flat(again) | {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _flat(figures: Line) -> dict[str, Any]:
    """Each figure of the search and of the test by its own name, so that the one that is wrong is named."""
    groups = {name: figures[name] or {} for name in ("search", "test")}
    flat = {f"{group}.{name}": value for group, found in groups.items() for name, value in found.items()}
    return {name: value for name, value in figures.items() if name not in groups} | flat


def _tested(folder: Path, summary: Line) -> tuple[list[Line], Verdict | None]:
    """The lines of the test, and what they say; none of a test that was cut short before it compared anything."""
    if (folder / COMPARISON).exists():
        lines = _lines(folder / COMPARISON)
        return lines, verdict_of(lines, Registration(**summary["registration"]))
    if summary["test"] is None:
        return [], None
    return [], Verdict(Decision(summary["test"]["verdict"]), None, None, 0, 0, None, None)


def _barred(ledger: Ledger, best: Candidate) -> str:
    """The candidate that would have been the best, had it kept to gates and limits; empty without one."""
    found = [one for one in ledger.candidates if one.mean is not None and not one.may_win]
    first = max(found, key=lambda one: one.mean or 0.0, default=None)
    if first is None or first.mean is None or first.mean <= (best.mean or 0.0):
        return ""
    return f"{first.name} did ({100 * first.mean:.1f} of 100), but {first.message}"


def points(value: float | None) -> float:
    """*value*, in 0 to 1, on the scale of 0 to 100."""
    return round(100 * (value or 0.0), 4)


def _lines(path: Path) -> list[Line]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
