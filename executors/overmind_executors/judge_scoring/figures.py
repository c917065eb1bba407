"""The figures of a job, made of the lines of `scores.jsonl` and of nothing else."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answers import Kind
from overmind_executors.figures import percentile, wilson_interval
from overmind_executors.judge_scoring.agreement_figures import LabelledRows
from overmind_executors.judge_scoring.kinship import Kinship
from overmind_executors.judge_scoring.pair_figures import PairFigures
from overmind_executors.judge_scoring.parameters import JUDGE, JudgeScoringParameters
from overmind_executors.scoring.buckets import BUCKETS, bucket_of
from overmind_executors.scoring.scores import Outcome, Score, Tally
from overmind_executors.statistics.agreement import NoStatistics, score_interval

_MOST_ERRORS: Final = 10
_MOST_MODELS: Final = 100
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class _Evaluator:
    """One evaluator over all rows."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.passes: Counter[bool] = Counter()

    def add(self, said: Mapping[str, Any]) -> None:
        self.tally.add(Score.from_json(said))
        if said["passes"] is not None:
            self.passes[said["passes"]] += 1


class Figures:
    """Adds lines up, some dozens of bytes each."""

    def __init__(self, task: JudgeScoringParameters) -> None:
        self._task = task
        self._whole = Tally()
        self._evaluators: dict[str, _Evaluator] = {}
        self._parts: dict[str, Counter[str]] = {metric.title: Counter() for metric in task.metrics}
        self._labelled = LabelledRows(task)
        self._flags: Counter[str] = Counter()
        self._flagged = 0
        self._models: Counter[str] = Counter()
        self._latencies_ms, self._costs = array("d"), array("d")
        self._tokens = [0, 0]
        self._calls = self._unpriced = self._cached = 0
        self._pairs = PairFigures()
        self._kinship = Kinship()
        self._errors: list[dict[str, Any]] = []
        self._warnings: list[str] = []

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line."""
        self._whole.add(Score(Outcome(line["outcome"]), line["correctness"], line["code"] or ""))
        for title, said in line["scores"].items():
            self._evaluators.setdefault(title, _Evaluator()).add(said)
        for title, part in line["metrics"].items():
            if part is not None:
                self._parts[title][strict_json.dumps(part)] += 1
        self._labelled.add(line)
        self._flags.update(line["flags"])
        self._flagged += bool(line["flags"])
        if line["model"] and (line["model"] in self._models or len(self._models) < _MOST_MODELS):
            self._models[line["model"]] += 1
        self._add_usage(line)
        self._pairs.add(line["judge"])
        self._kinship.add(line["judge"])
        if line["error"] and len(self._errors) < _MOST_ERRORS:
            self._errors.append({**line["error"], "item": line["item_id"], "retryable": _is_passing(line["code"])})

    def _add_usage(self, line: Mapping[str, Any]) -> None:
        self._calls += line["calls"]
        self._cached += line["cached"]
        self._tokens[0] += line["prompt_tokens"]
        self._tokens[1] += line["completion_tokens"]
        if line["latency_ms"] is not None:
            self._latencies_ms.append(line["latency_ms"])
        if line["cost_usd"] is None:
            self._unpriced += 1
        else:
            self._costs.append(line["cost_usd"])

    def facts(self) -> dict[str, Any]:
        """All figures. The mean is 0 to 1, `best_score` 0 to 100."""
        mean = self._mean()
        coverage = self._whole.coverage()
        scored = coverage["scored"]
        others = coverage["abstained"] + coverage["not_applicable"] + coverage["skipped"]
        return {
            "avg_score": mean,
            "avg_score_interval_95": self._interval(),
            "best_score": None if mean is None else round(100 * mean, 4),
            "score_scale": "avg_score 0-1, best_score 0-100",
            **coverage,
            "counts": {
                "total": self._whole.total,
                "ok": scored,
                "failed": coverage["error"],
                "skipped": others,
            },
            "outcomes": dict(sorted(self._whole.outcomes.items())),
            "codes": dict(sorted(self._whole.codes.items())),
            "distribution": self._distribution(),
            "evaluators": {title: self._evaluator(title, one) for title, one in self._evaluators.items()},
            "metrics": {metric.title: self._metric(metric) for metric in self._task.metrics},
            "agreement": self._labelled.facts(self._warnings),
            "pairwise": self._pairs.facts(),
            "same_family": self._kinship.facts(),
            "flagged": {"rows": self._flagged, "signs": dict(sorted(self._flags.items()))},
            "judged_models": dict(self._models.most_common(10)),
            "latency_ms": self._latency_ms(),
            "usage": {
                "cached_answers": self._cached,
                "prompt_tokens": self._tokens[0],
                "completion_tokens": self._tokens[1],
                "total_tokens": sum(self._tokens),
                "cost_usd": None if self._unpriced else round(math.fsum(self._costs), 10),
            },
            "errors": self._errors,
            "warnings": sorted(set(self._warnings)),
        }

    def _mean(self) -> float | None:
        """The judge's mean; without a judge the mean of the means of the evaluators that are no gates."""
        if JUDGE in self._evaluators or self._task.judge:
            return _rounded(self._whole.mean())
        gates = {one.title for one in self._task.evaluators if one.gate}
        means = {title: one.tally.mean() for title, one in self._evaluators.items()}
        counted = [m for title, m in means.items() if title not in gates and m is not None]
        counted = counted or [m for m in means.values() if m is not None]
        return _rounded(math.fsum(counted) / len(counted)) if counted else None

    def _interval(self) -> list[float] | None:
        """Of the rows' scores; None when evaluators that cover different rows make the mean another one."""
        mean = self._whole.mean()
        if mean is None or _rounded(mean) != self._mean():
            return None
        return self._interval_of(self._whole)

    def _interval_of(self, tally: Tally) -> list[float] | None:
        try:
            found = score_interval(tally.values)
        except NoStatistics as error:
            self._warnings.append(str(error))
            return None
        return None if found is None else [round(end, 6) for end in found]

    def _evaluator(self, title: str, one: _Evaluator) -> dict[str, Any]:
        decided = one.passes.total()
        passing = None
        if decided:
            low, high = wilson_interval(one.passes[True], decided)
            passing = {
                "passed": one.passes[True],
                "decided": decided,
                "pass_rate": _rounded(one.passes[True] / decided),
                "interval_95": [round(low, 6), round(high, 6)],
            }
        kinds = {evaluator.title: evaluator.kind for evaluator in self._task.evaluators}
        return {
            "kind": kinds.get(title, "llm_judge"),
            "gate": title in {evaluator.title for evaluator in self._task.evaluators if evaluator.gate},
            "mean": _rounded(one.tally.mean()),
            "interval_95": self._interval_of(one.tally),
            "pass": passing,
            **one.tally.coverage(),
            "codes": dict(sorted(one.tally.codes.items())),
        }

    def _metric(self, metric: Any) -> dict[str, Any]:
        parts = self._parts[metric.title]
        score = metric.score([(json.loads(part), count) for part, count in parts.items()])
        return {"kind": metric.kind, **score.as_json(), "rows": parts.total()}

    def _distribution(self) -> dict[str, int]:
        counts = Counter(map(bucket_of, self._whole.values))
        return {name: counts[name] for name in BUCKETS}

    def _latency_ms(self) -> dict[str, float | None]:
        ascending = sorted(self._latencies_ms)
        return {name: percentile(ascending, share) for name, share in _PERCENTILES.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _is_passing(code: str | None) -> bool:
    """Whether scoring the row again may go better."""
    passing = {kind.value for kind in Kind if kind.is_worth_retrying} | {Kind.TIMEOUT.value}
    return code in passing


def canary_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How many canaries there were, and the names of those that the judges let pass; None without any."""
    return {"asked": len(lines), "leaked": [line["canary"] for line in lines if line["leaked"]]} if lines else None


def figures_of(scores: Path, task: JudgeScoringParameters) -> dict[str, Any]:
    """All figures that the lines of *scores* make."""
    figures = Figures(task)
    with scores.open(encoding="utf-8") as lines:
        for line in lines:
            figures.add(json.loads(line))  # our own lines, a hair deeper than strict_json lets in
    return figures.facts()
