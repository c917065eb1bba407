"""The figures of a job, made of the lines of `rows.jsonl`, the parameters and what is known of the models."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from overmind_executors.backtesting.changed_rows import changes_of
from overmind_executors.backtesting.decision import Decision, Finding, Guards, decide
from overmind_executors.backtesting.evidence import Evidence, evidence_of
from overmind_executors.backtesting.frontier import Frontier, frontier_of
from overmind_executors.backtesting.pairs import Change
from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.backtesting.planning import detectable, extra_rows
from overmind_executors.backtesting.rule import Reason, Rule
from overmind_executors.backtesting.segments import SegmentFinding
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED
from overmind_executors.figures import percentile
from overmind_executors.scoring.scores import Outcome, Score, Tally
from overmind_executors.statistics.intervals import mean_interval, quantile_interval

ROWS: Final = "rows.jsonl"
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MOST_SEGMENTS: Final = 5


class _Sums:
    """What is added up for one model while lines go by."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.scoring: Counter[str] = Counter()
        self.evaluators: defaultdict[str, Tally] = defaultdict(Tally)
        self.tokens = [0, 0]
        self.retries = self.judge_calls = self.gate_failures = 0
        self.judge_cost: float | None = 0.0
        self.first_tokens: list[float] = []

    def add(self, cell: Mapping[str, Any]) -> None:
        self.outcomes[cell["outcome"]] += 1
        if cell["answered"]:
            self.scoring[cell["scoring"]] += 1
        self.gate_failures += cell["gate_failed"]
        if cell.get("first_token_ms") is not None:
            self.first_tokens.append(cell["first_token_ms"])
        self.tokens[0] += cell["prompt_tokens"] or 0
        self.tokens[1] += cell["completion_tokens"] or 0
        self.retries += max(0, cell["attempts"] - 1)
        for title, said in cell["scores"].items():
            self.evaluators[title].add(Score.from_json(said))
        if (judge := cell["judge"]) is not None:
            self.judge_calls += judge["calls"]
            known = self.judge_cost is not None and judge["cost_usd"] is not None
            self.judge_cost = (self.judge_cost or 0.0) + judge["cost_usd"] if known else None


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of our own file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def evidence_in(path: Path, task: BacktestingParameters) -> Evidence:
    """The lines of *path* as arrays."""
    return evidence_of(
        lines_of(path),
        models=task.all_models,
        incumbent=task.current_model,
        repetitions=task.repetitions,
        is_recorded=task.is_recorded,
    )


def figures_of(path: Path, task: BacktestingParameters, guards: Guards) -> dict[str, Any]:
    """Everything that the lines of *path* say. Unknown is None, never 0."""
    evidence = evidence_in(path, task)
    sums, asked = _added(lines_of(path), task)
    out = frozenset(name for name in task.models if asked[name] < evidence.rows)
    is_cut = any(one.outcomes[BUDGET_EXHAUSTED] for one in sums.values())
    decision = decide(evidence, task.rule, guards=guards, out=out, is_cut_short=is_cut)
    frontier = frontier_of(evidence, without=out)
    models = {name: _model(evidence, name, sums[name], task) for name in task.all_models}
    return {
        "schema": "overmind-agent/backtest/1",
        "score_scale": "0-1",
        "decision": _decision(decision, task.rule),
        "models": models,
        "comparisons": {one.model: _comparison(one, evidence, task, asked) for one in decision.findings},
        "pareto": _pareto(frontier),
        "rows": evidence.rows,
        "repetitions": task.repetitions,
        "saved_requests": sum(evidence.rows - asked[name] for name in out) * task.repetitions,
    }


def _added(
    lines: Iterable[Mapping[str, Any]], task: BacktestingParameters
) -> tuple[dict[str, _Sums], Counter[str]]:
    """Sums for each model, and how many rows each of them ran in."""
    sums = {name: _Sums() for name in task.all_models}
    ran: Counter[str] = Counter()
    for line in lines:
        for name, cell in line["models"].items():
            sums[name].add(cell)
            ran[name] += line["repetition"] == 0
    return sums, ran


def _model(evidence: Evidence, name: str, sums: _Sums, task: BacktestingParameters) -> dict[str, Any]:
    side = evidence.sides[name]
    asked, answered = int(side.asked.sum()), int(side.answered.sum())
    known = ~np.isnan(side.quality)
    scored = np.flatnonzero(known.any(axis=1))
    means = [float(side.quality[row][known[row]].mean()) for row in scored]
    clusters = None if evidence.clusters is None else [evidence.clusters[row] for row in scored.tolist()]
    interval = mean_interval(means, clusters=clusters, level=task.rule.confidence) if means else None
    latencies = sorted(side.latency_ms[~np.isnan(side.latency_ms)].tolist())
    cost = math.fsum(side.cost_usd[side.answered].tolist()) if side.is_priced else None
    successes = int((side.quality[known] >= task.rule.success_at - 1e-9).sum())
    return {
        "requests": asked,
        "answered": answered,
        "success_rate": rounded(side.success_rate),
        "outcomes": dict(sorted(sums.outcomes.items())),
        "scoring": dict(sorted(sums.scoring.items())),
        "scored_rows": len(means),
        "avg_eval_score": rounded(math.fsum(means) / len(means)) if means else None,
        "interval": [rounded(end) for end in interval] if interval else None,
        "evaluators": {title: _evaluator(tally) for title, tally in sorted(sums.evaluators.items())},
        "gate_failures": sums.gate_failures,
        "successes": successes,
        "total_cost": rounded(cost, 10),
        "usd_per_1000_requests": rounded(1000 * cost / answered, 6) if cost is not None and answered else None,
        "usd_per_1000_successes": rounded(1000 * cost / successes, 6) if cost is not None and successes else None,
        "judge_usd": rounded(sums.judge_cost, 10) if task.judge else None,
        "judge_calls": sums.judge_calls,
        "total_input_tokens": sums.tokens[0],
        "total_output_tokens": sums.tokens[1],
        "retries": sums.retries,
        "latency_ms": _times(latencies, task.rule),
        "first_token_ms": _times(sorted(sums.first_tokens), task.rule) if task.stream else None,
    }


def _evaluator(tally: Tally) -> dict[str, Any]:
    coverage = tally.coverage()
    return {"mean": rounded(tally.mean()), "scored": coverage["scored"], "error": coverage[Outcome.ERROR.value]}


def _times(ascending: Sequence[float], rule: Rule) -> dict[str, Any]:
    return {
        "mean": rounded(math.fsum(ascending) / len(ascending), 3) if ascending else None,
        **{key: _percentile(ascending, share, rule) for key, share in _PERCENTILES.items()},
    }


def _percentile(ascending: Sequence[float], share: float, rule: Rule) -> dict[str, Any]:
    interval = quantile_interval(ascending, share, level=rule.confidence)
    return {
        "value": rounded(percentile(ascending, share), 3),
        "interval": [rounded(end, 3) for end in interval] if interval else None,
    }


def _decision(decision: Decision, rule: Rule) -> dict[str, Any]:
    extra = [extra_rows(one, rule, candidates=len(decision.findings)) for one in decision.findings]
    known = [rows for rows in extra if rows is not None]
    return {
        "verdict": decision.verdict.value,
        "reasons": [reason.value for reason in decision.reasons],
        "model": decision.winner,
        "extra_rows": max(known) if known else None,
        "rule": rule.model_dump(mode="json"),
    }


def _comparison(
    finding: Finding, evidence: Evidence, task: BacktestingParameters, ran: Mapping[str, int]
) -> dict[str, Any]:
    better, candidates = finding.quality.better, len(evidence.candidates)
    return {
        "verdict": finding.verdict.value,
        "reasons": [reason.value for reason in finding.reasons],
        "rows": finding.quality.compared_rows,
        "units": better.units,
        "coverage": rounded(finding.quality.coverage),
        "incumbent_mean": _shared_mean(evidence, evidence.incumbent, finding.model),
        "mean": _shared_mean(evidence, finding.model, evidence.incumbent),
        "difference": rounded(better.difference) if better.units else None,
        "interval": None if better.low is None else [rounded(better.low), rounded(better.high)],
        "method": better.method.value,
        "p": {"superior": _p(better.p_value), "non_inferior": _p(finding.quality.no_worse.p_value)},
        "p_holm": {
            "superior": _p(finding.p_better),
            "non_inferior": _p(finding.p_no_worse),
            "inferior": _p(finding.p_worse),
        },
        "win_tie_loss": [better.better, better.equal, better.worse],
        "spread": {"between": rounded(better.between, 8), "within": rounded(better.within, 8)},
        "detectable_difference": detectable(finding, task.rule, candidates=candidates),
        "extra_rows": extra_rows(finding, task.rule, candidates=candidates),
        "new_gate_failures": finding.new_gate_failures,
        "cost_usd": _change(finding.cost, 10),
        "p95_ms": _change(finding.latency, 3),
        "segments": [_segment(one) for one in _shown_segments(finding.segments)],
        "segments_total": len(finding.segments),
        "out_after_rows": ran[finding.model] if finding.is_out else None,
        **changes_of(evidence, finding.model, task.rule),
    }


def _shared_mean(evidence: Evidence, name: str, other: str) -> float | None:
    """The mean of *name* over the rows that *other* has a score for too: what may be set beside its mean."""
    mine, theirs = evidence.sides[name].quality, evidence.sides[other].quality
    rows = np.flatnonzero((~np.isnan(mine)).any(axis=1) & (~np.isnan(theirs)).any(axis=1))
    means = [float(np.nanmean(mine[row])) for row in rows]
    return rounded(math.fsum(means) / len(means)) if means else None


def _shown_segments(found: Sequence[SegmentFinding]) -> Sequence[SegmentFinding]:
    """All regressions, up to a number, and the worst of the others."""
    regressions = [one for one in found if one.is_regression]
    others = [one for one in found if not one.is_regression]
    return [*regressions, *others][:_MOST_SEGMENTS]


def _segment(one: SegmentFinding) -> dict[str, Any]:
    seen = one.comparison
    return {
        "segment": one.segment,
        "rows": one.rows,
        "difference": rounded(seen.difference),
        "interval": None if seen.low is None else [rounded(seen.low), rounded(seen.high)],
        "p_holm_inferior": None if one.p_worse is None else _p(one.p_worse),
        "code": Reason.SEGMENT_REGRESSION.value if one.is_regression else None,
    }


def _change(change: Change | None, digits: int) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "incumbent": rounded(change.before, digits),
        "candidate": rounded(change.after, digits),
        "difference_interval": [rounded(change.low, digits), rounded(change.high, digits)],
        "saving": change.saving,
    }


def _pareto(frontier: Frontier) -> dict[str, Any]:
    points = {
        point.model: {
            "quality": rounded(point.quality),
            "usd_per_1000_requests": None if point.cost_usd is None else rounded(1000 * point.cost_usd, 6),
            "p95_ms": rounded(point.p95_ms, 3),
            "on_frontier": point.is_on,
            "membership": rounded(point.membership, 3),
        }
        for point in frontier.points
    }
    return {"respects": list(frontier.respects), "rows": frontier.rows, "points": points}


def rounded(value: float | None, digits: int = 6) -> float | None:
    """*value* with so many decimal places, which hides the last digits of float sums; None stays None."""
    return None if value is None else round(float(value), digits)


def _p(value: float) -> float:
    """Small ones keep their size."""
    return float(f"{value:.4g}")
