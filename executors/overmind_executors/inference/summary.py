"""Counting while lines go by, and what the counts say in the end."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from overmind_executors.answers import Kind
from overmind_executors.figures import percentile, wilson_interval
from overmind_executors.inference.estimate import Estimate
from overmind_executors.inference.output import Done
from overmind_executors.inference.parameters import InferenceParameters
from overmind_executors.paid_calls import Lives
from overmind_executors.prices import PriceNote
from overmind_executors.rows import Row

_MOST_ERRORS: Final = 10
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Tally:
    """
    Sums over all lines, a few bytes each.

    Attributes:
        endings: lines by outcome and HTTP status, None where no answer came.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.endings: Counter[tuple[str, int | None]] = Counter()
        self.ok = self.failed = self.skipped = 0
        self.compared = self.correct = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.retries = self.refusals = 0
        self.unpriced = self.shared = 0
        self.failed_in_a_row = 0
        self.errors: list[dict[str, Any]] = []
        self._asked = self._provider_failed = 0
        self._costs = array("d")
        self._latencies_ms = array("d")

    def add(self, done: Done) -> None:
        """Count one line."""
        self.outcomes[done.outcome] += 1
        self.endings[done.outcome, done.answer.status if done.answer else None] += 1
        self.ok += done.is_ok
        self.skipped += done.is_skipped
        self.failed += not done.is_ok and not done.is_skipped
        if done.is_right is not None:
            self.compared += 1
            self.correct += done.is_right
        if done.answer is not None:
            self._add_answer(done)
        if done.code is not None and len(self.errors) < _MOST_ERRORS:
            self.errors.append(_error(done))

    def _add_answer(self, done: Done) -> None:
        answer = done.answer
        assert answer is not None  # noqa: S101  # the caller's condition, for the type checker
        self.failed_in_a_row = 0 if done.is_ok else self.failed_in_a_row + 1
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0
        self.retries += max(0, answer.attempts - 1)
        self.shared += done.is_paid_elsewhere
        self._asked += 1
        self._provider_failed += answer.kind.is_worth_retrying
        self.refusals += answer.refusals
        if done.is_ok:
            self._latencies_ms.append(answer.latency_ms)
        if answer.cost_usd is not None:
            self._costs.append(answer.cost_usd)
        elif done.is_ok:
            self.unpriced += 1

    @property
    def total(self) -> int:
        """Lines so far."""
        return self.ok + self.failed + self.skipped

    @property
    def is_provider_down(self) -> bool:
        """Whether rows were asked about and each met a failure of the provider's, none one of its own."""
        return 0 < self._asked == self._provider_failed

    def cost_usd(self) -> float | None:
        """The sum over all lines, None when a line has an output and no price."""
        return None if self.unpriced else round(math.fsum(self._costs), 10)

    def latencies_ms(self) -> dict[str, float | None]:
        """Percentiles over the lines with an output, milliseconds."""
        ascending = sorted(self._latencies_ms)
        return {name: percentile(ascending, share) for name, share in _PERCENTILES.items()}


def summary(
    task: InferenceParameters,
    tally: Tally,
    *,
    lives: Lives,
    model_calls: int,
    stopped_by: str | None,
    estimate: Estimate,
    prices: PriceNote | None,
) -> dict[str, Any]:
    """
    The facts of a finished job: the same in `summary.json` and in the job's outcome.

    Every figure comes from the lines and the journal, none from the clock, so that a job that is interrupted after
    its last call and run again says the same.
    """
    target = task.target
    return {
        "status": "partial" if tally.ok < tally.total else "completed",
        "partial": tally.ok < tally.total,
        "termination_reason": stopped_by or "completed",
        "counts": {"total": tally.total, "ok": tally.ok, "failed": tally.failed, "skipped": tally.skipped},
        "outcomes": dict(sorted(tally.outcomes.items())),
        "error_kinds": {k: n for k, n in sorted(tally.outcomes.items()) if k not in (Kind.OK, Kind.TRUNCATED)},
        "success_rate": round(tally.ok / tally.total, 6),
        "accuracy": _accuracy(task, tally),
        "score_scale": "0-1",
        "latency_ms": tally.latencies_ms(),
        "usage": {
            "model_calls": model_calls,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "total_tokens": tally.prompt_tokens + tally.completion_tokens,
            "cost_usd": tally.cost_usd(),
            "prices": None if prices is None else asdict(prices),
        },
        "estimate": estimate.as_json(),
        "shared_rows": tally.shared,
        "retries": tally.retries,
        "refusals": tally.refusals,
        "resumed_rows": lives.resumed_rows,
        "calling_s": round(lives.seconds, 3),
        "rows_per_s": round(tally.ok / lives.seconds, 3) if lives.seconds > 0 else None,
        "repetitions": task.repetitions,
        "dataset_id": task.dataset_id,
        "target": {"kind": target.kind, "model": target.model, **_settings(task)},
        "errors": tally.errors,
        "warnings": _warnings(tally),
    }


def _accuracy(task: InferenceParameters, tally: Tally) -> dict[str, Any] | None:
    if not tally.compared:
        return None
    # Repetitions of a row are not independent: the interval is as wide as that of its rows alone.
    rows = tally.compared / task.repetitions
    low, high = wilson_interval(tally.correct / task.repetitions, rows)
    return {
        "kind": task.comparison.kind if task.comparison else "exact",
        "correct": tally.correct,
        "compared": tally.compared,
        "accuracy": round(tally.correct / tally.compared, 6),
        "interval_95": [round(low, 6), round(high, 6)],
    }


def _settings(task: InferenceParameters) -> dict[str, Any]:
    """How the target was asked, without the prompt's text and the tools, which are the job's parameters."""
    sampling = task.target.sampling()
    return {key: sampling[key] for key in ("temperature", "max_tokens", "top_p", "seed") if key in sampling}


def _warnings(tally: Tally) -> list[str]:
    texts = []
    if tally.unpriced:
        texts.append(f"no price is known for {tally.unpriced} outputs: cost_usd is null, not 0")
    if truncated := tally.outcomes[Kind.TRUNCATED]:
        texts.append(f"{truncated} outputs were cut short at the limit of tokens")
    return texts


def _error(done: Done) -> dict[str, Any]:
    return {
        "code": done.code,
        "message": done.answer.message if done.answer else done.message,
        "item": done.row.id if isinstance(done.row, Row) else f"line-{done.row.line}",
        "retryable": done.can_be_repeated,
    }
