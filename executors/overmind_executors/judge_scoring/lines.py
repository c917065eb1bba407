"""The lines of `scores.jsonl`: everything that the figures of a job are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from overmind_executors.judge_scoring.labels import Label
from overmind_executors.judge_scoring.parameters import JUDGE
from overmind_executors.judging.votes import Opinion
from overmind_executors.rows.rows import BrokenRow
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Outcome, Score, abstained, failed, not_applicable

SCORES: Final = "scores.jsonl"
CANARY_FILE: Final = "canaries.jsonl"
INVALID_ROW: Final = "invalid_row"


@dataclass(frozen=True)
class Judged:
    """
    What the judges say of one item.

    Attributes:
        confidence: in [0, 1], None when there was nothing to be sure of.
        passes: None when that was not asked, or could not be decided.
    """

    score: Score
    confidence: float | None = None
    passes: bool | None = None
    opinions: tuple[Opinion, ...] = ()


@dataclass(frozen=True)
class Scored:
    """One row with everything that was found out about it."""

    item: Item | None
    broken: BrokenRow | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    passes: Mapping[str, bool | None] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    judged: Judged | None = None
    label: Label | None = None
    flags: tuple[str, ...] = ()


def overall(scores: Mapping[str, Score], gates: frozenset[str]) -> Score:
    """
    One score for a row: the judge's; without a judge the mean of what the evaluators say, gates apart.
    """
    if JUDGE in scores:
        return scores[JUDGE]
    counted = [score for title, score in scores.items() if title not in gates] or list(scores.values())
    values = [score.value for score in counted if score.value is not None]
    if values:
        return Score(Outcome.SCORED, sum(values) / len(values))
    return counted[0] if counted else not_applicable("no_evaluator")


def line_of(scored: Scored, gates: frozenset[str]) -> dict[str, Any]:
    """One line, the keys always in one order."""
    if scored.item is None:
        return _broken_line(scored.broken)
    item, judged = scored.item, scored.judged
    whole = overall(scored.scores, gates)
    answers = [answer for opinion in (judged.opinions if judged else ()) for answer in opinion.answers]
    costs = [answer.cost_usd for answer in answers]
    return {
        "item_id": item.id,
        "line": item.line,
        **_main(whole),
        "scores": {
            title: {**score.as_json(), "passes": scored.passes.get(title)} for title, score in scored.scores.items()
        },
        "metrics": dict(scored.parts),
        "judge": _judge(judged),
        "label": {"values": list(scored.label.values), "passes": scored.label.passes} if scored.label else None,
        "flags": list(scored.flags),
        "model": item.model or None,
        "calls": sum(answer.attempts for answer in answers),
        "cached": sum(answer.attempts == 0 for answer in answers),
        "latency_ms": round(sum(answer.latency_ms for answer in answers), 3) if answers else None,
        "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
        "completion_tokens": sum(answer.completion_tokens or 0 for answer in answers),
        "cost_usd": None if None in costs else round(sum(cost or 0.0 for cost in costs), 10),
        "error": None if whole.outcome is not Outcome.ERROR else {"code": whole.code, "message": whole.reason},
    }


def _main(score: Score) -> dict[str, Any]:
    return {"outcome": score.outcome.value, "correctness": score.value, "code": score.code or None}


def _judge(judged: Judged | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {
        "confidence": judged.confidence,
        "passes": judged.passes,
        "opinions": [
            {
                "judge": opinion.judge,
                **opinion.score.as_json(),
                "agreement": opinion.agreement,
                "passes": opinion.passes,
                "same_family": opinion.same_family,
                **opinion.details,
            }
            for opinion in judged.opinions
        ],
    }


def _broken_line(broken: BrokenRow | None) -> dict[str, Any]:
    line, message = (broken.line, broken.message) if broken else (0, "")
    score = failed(INVALID_ROW, message)
    return {
        "item_id": f"line-{line}",
        "line": line,
        **_main(score),
        "scores": {},
        "metrics": {},
        "judge": None,
        "label": None,
        "flags": [],
        "model": None,
        "calls": 0,
        "cached": 0,
        "latency_ms": None,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
        "error": {"code": INVALID_ROW, "message": message},
    }


def result_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """Those of the file *name* of a result; not every one has it."""
    path = folder / name
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def withheld(line: dict[str, Any], needed: float | None) -> dict[str, Any]:
    """
    *line* as it is when a judge is believed from the confidence *needed* on only; None is never.
    """
    judge = line["judge"]
    if judge is None or line["outcome"] != Outcome.SCORED or judge["confidence"] is None:
        return line
    if needed is not None and judge["confidence"] >= needed:
        return line
    return _judged_anew(line, abstained("low_confidence"), passes=None, confidence=judge["confidence"])


def reweighed(line: dict[str, Any], weights: Mapping[str, float], *, passes_at: float) -> dict[str, Any]:
    """
    *line* as it is when each judge counts by its weight: the value is the weighted mean, and the output passes when
    the judges that say so weigh more than the others. It passes at the value *passes_at* when they weigh the same.
    """
    judge = line["judge"]
    heard = [one for one in (judge or {}).get("opinions", ()) if one["value"] is not None]
    whole = sum(weights[one["judge"]] for one in heard)
    if not heard or not whole or line["outcome"] != Outcome.SCORED:
        return line
    value = sum(weights[one["judge"]] * one["value"] for one in heard) / whole
    lets_pass = sum(weights[one["judge"]] for one in heard if one["passes"])
    passes = value >= passes_at if lets_pass * 2 == whole else lets_pass * 2 > whole
    agreements = [one["agreement"] for one in heard if one["agreement"] is not None]
    sure = sum(agreements) / len(agreements) if agreements else 1.0
    confidence = round(sure * max(lets_pass, whole - lets_pass) / whole, 6)
    code = line["code"] or ""
    return _judged_anew(line, Score(Outcome.SCORED, value, code), passes=passes, confidence=confidence)


def _judged_anew(
    line: dict[str, Any], score: Score, *, passes: bool | None, confidence: float | None
) -> dict[str, Any]:
    return {
        **line,
        **_main(score),
        "scores": {**line["scores"], JUDGE: {**score.as_json(), "passes": passes}},
        "judge": {**line["judge"], "confidence": confidence, "passes": passes},
    }
