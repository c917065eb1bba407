"""The figures of a job, made of the lines of `output.jsonl` and of nothing else."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from overmind_executors.calls.answers import Kind
from overmind_executors.figures import percentile, wilson_interval
from overmind_executors.inference.output import INVALID_ROW, MISSING_FIELD

_MOST_ERRORS: Final = 10
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Figures:
    """
    Sums over all lines, a few bytes each.

    Args:
        repetitions: of each row.
        compared_by: the kind of comparison with what was expected.
    """

    def __init__(self, *, repetitions: int, compared_by: str) -> None:
        self._repetitions = repetitions
        self._compared_by = compared_by
        self._outcomes: Counter[str] = Counter()
        self._ok = self._failed = self._skipped = 0
        self._compared = self._correct = 0
        self._prompt_tokens = self._completion_tokens = 0
        self._retries = self._repairs = self._refusals = self._shared = self._unpriced = 0
        self._errors: list[dict[str, Any]] = []
        self._costs = array("d")
        self._latencies_ms = array("d")

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line."""
        about = line["x_overmind"]
        outcome, is_ok = about["outcome"], line["response"] is not None
        is_asked = about["latency_ms"] is not None
        self._outcomes[outcome] += 1
        self._ok += is_ok
        self._skipped += not is_asked and outcome != INVALID_ROW
        self._failed += not is_ok and (is_asked or outcome == INVALID_ROW)
        if about["correct"] is not None:
            self._compared += 1
            self._correct += about["correct"]
        if is_asked:
            self._add_answer(about, is_ok=is_ok)
        if line["error"] is not None and len(self._errors) < _MOST_ERRORS:
            can_be_repeated = outcome not in (INVALID_ROW, MISSING_FIELD)
            self._errors.append({**line["error"], "item": line["custom_id"], "retryable": can_be_repeated})

    def _add_answer(self, about: Mapping[str, Any], *, is_ok: bool) -> None:
        self._prompt_tokens += about["prompt_tokens"] or 0
        self._completion_tokens += about["completion_tokens"] or 0
        self._retries += max(0, about["attempts"] - 1 - about["repaired"])
        self._repairs += about["repaired"] and not about["shared"]
        self._refusals += about["refusals"]
        self._shared += about["shared"]
        if is_ok:
            self._latencies_ms.append(about["latency_ms"])
        if about["cost_usd"] is not None:
            self._costs.append(about["cost_usd"])
        elif is_ok:
            self._unpriced += 1

    def facts(self) -> dict[str, Any]:
        """All figures; shares are 0 to 1."""
        total = self._ok + self._failed + self._skipped
        outcomes = dict(sorted(self._outcomes.items()))
        ascending = sorted(self._latencies_ms)
        return {
            "counts": {"total": total, "ok": self._ok, "failed": self._failed, "skipped": self._skipped},
            "outcomes": outcomes,
            "error_kinds": {k: n for k, n in outcomes.items() if k not in (Kind.OK, Kind.TRUNCATED)},
            "success_rate": round(self._ok / total, 6) if total else None,
            "accuracy": self._accuracy(),
            "score_scale": "0-1",
            "latency_ms": {name: percentile(ascending, share) for name, share in _PERCENTILES.items()},
            "usage": {
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._completion_tokens,
                "total_tokens": self._prompt_tokens + self._completion_tokens,
                "cost_usd": None if self._unpriced else round(math.fsum(self._costs), 10),
            },
            "shared_rows": self._shared,
            "retries": self._retries,
            "repairs": self._repairs,
            "refusals": self._refusals,
            "repetitions": self._repetitions,
            "errors": self._errors,
            "warnings": self._warnings(),
        }

    def _accuracy(self) -> dict[str, Any] | None:
        if not self._compared:
            return None
        # Repetitions of a row are not independent: the interval is as wide as that of its rows alone.
        rows = self._compared / self._repetitions
        low, high = wilson_interval(self._correct / self._repetitions, rows)
        return {
            "kind": self._compared_by,
            "correct": self._correct,
            "compared": self._compared,
            "accuracy": round(self._correct / self._compared, 6),
            "interval_95": [round(low, 6), round(high, 6)],
        }

    def _warnings(self) -> list[str]:
        texts = []
        if self._unpriced:
            outputs = "1 output" if self._unpriced == 1 else f"{self._unpriced} outputs"
            texts.append(f"no price is known for {outputs}: cost_usd is null, not 0")
        if truncated := self._outcomes[Kind.TRUNCATED]:
            texts.append(f"outputs that were cut short at the limit of tokens: {truncated}")
        return texts
