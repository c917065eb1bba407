"""Candidates as the control plane lists them: the iterations of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.figures import percentile
from overmind_executors.statistics.intervals import mean_interval
from overmind_executors.statistics.paired import compare
from overmind_executors.tuning.constraints import Code
from overmind_executors.tuning.ledger import Candidate
from overmind_executors.tuning.promotion import Decision, Verdict
from overmind_executors.tuning.texts import Prompt, as_code

HOLDOUT: Final = "holdout"
_MOST_BYTES: Final = 60_000
_CODES: Final[Mapping[Decision, Code]] = {
    Decision.PROMOTED: Code.KEEP_BETTER,
    Decision.REFUSED: Code.DISCARD_GATE,
    Decision.INCONCLUSIVE: Code.DISCARD_NOISE,
}


def iteration_of(one: Candidate, baseline: Candidate, prompt: Prompt) -> dict[str, Any]:
    """A candidate that was tried on the validation rows; scores of 0 to 100."""
    scored = [value for value in one.values if value is not None]
    return {
        "order": one.order,
        "iteration_name": one.name,
        "agent_code": as_code(prompt, one.texts),
        "avg_score": None if one.mean is None else round(100 * one.mean, 4),
        "status": "keep" if one.code.keeps else "discard",
        "description": f"{one.code.value}: {one.message}" if one.message else one.code.value,
        "dimension_scores": {
            "reason_code": one.code.value,
            "parent": one.parent or None,
            "n": len(scored),
            "ci95": _points(mean_interval(scored)) if len(scored) > 1 else None,
            "delta_vs_baseline": _delta(one, baseline) if one.order else None,
            "usd": None if one.cost_usd is None else round(one.cost_usd, 10),
            "p50_ms": _latency(one, 0.5),
            "p95_ms": _latency(one, 0.95),
            "prompt_tokens": one.merits.prompt_tokens,
            "length": one.length,
            "gate_failures": one.gate_failures,
        },
    }


def _delta(one: Candidate, baseline: Candidate) -> dict[str, Any]:
    """The paired difference on the validation rows, points: of a search, so no proof of a gain."""
    pairs = [(b, a) for b, a in zip(baseline.values, one.values, strict=True) if a is not None and b is not None]
    found = compare([[before] for before, _ in pairs], [[after] for _, after in pairs])
    ends = None if found.low is None or found.high is None else (found.low, found.high)
    return {
        "mean": round(100 * found.difference, 4),
        "ci95": _points(ends),
        "p": float(f"{found.p_value:.4g}"),
    }


def _points(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(100 * end, 4) for end in interval]


def _latency(one: Candidate, share: float) -> float | None:
    found = sorted(one.merits.latencies_ms)
    value = percentile(found, share)
    return None if value is None else round(value, 3)


def test_of(one: Candidate, verdict: Verdict, order: int, prompt: Prompt) -> dict[str, Any]:
    """What the held-out rows said of the last candidate."""
    code = _CODES[verdict.decision]
    return {
        "order": order,
        "iteration_name": HOLDOUT,
        "agent_code": as_code(prompt, one.texts),
        "avg_score": None if verdict.candidate is None else round(100 * verdict.candidate, 4),
        "status": "keep" if code.keeps else "discard",
        "description": f"{code.value}: {one.name} on the held-out rows: {verdict.decision.value}",
        "dimension_scores": {"reason_code": code.value, "parent": one.name, **verdict.as_json()},
    }


def fitted(outcome: Mapping[str, Any], iterations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """*outcome* with as many *iterations*, and as much of their texts, as a record takes; the files have all."""
    shown = [dict(one) for one in iterations]
    for most in (None, 2000, 300, 0):
        made = {**outcome, "iterations": [_shortened(one, most) for one in shown]}
        if _size(made) <= _MOST_BYTES:
            return made
    while shown and _size({**outcome, "iterations": [_shortened(one, 0) for one in shown]}) > _MOST_BYTES:
        shown = shown[: len(shown) // 2]
    return {**outcome, "iterations": [_shortened(one, 0) for one in shown]}


def _shortened(one: Mapping[str, Any], most: int | None) -> dict[str, Any]:
    code = one["agent_code"]
    return {**one, "agent_code": code if most is None or len(code) <= most else code[:most]}


def _size(outcome: Mapping[str, Any]) -> int:
    return len(strict_json.dumps(outcome).encode())
