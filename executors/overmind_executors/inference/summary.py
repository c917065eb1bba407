"""What a finished job says of itself: the figures of its lines, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from overmind_executors.calls.forecast import Estimate
from overmind_executors.calls.paid_calls import Lives
from overmind_executors.calls.prices import PriceNote
from overmind_executors.inference.parameters import InferenceParameters
from overmind_executors.sandbox.levels import Level

SUMMARY: Final = "summary.json"


def summary(
    task: InferenceParameters,
    figures: Mapping[str, Any],
    *,
    lives: Lives,
    model_calls: int,
    stopped_by: str | None,
    estimate: Estimate,
    prices: PriceNote | None,
    source: Mapping[str, Any],
    sandbox: Level | None = None,
) -> dict[str, Any]:
    """
    The facts of a finished job: the same in `summary.json` and in the job's outcome.

    Every figure comes from the lines and the journal, none from the clock, so that a job that is interrupted after
    its last call and run again says the same.
    """
    counts, target = figures["counts"], task.target
    is_partial = counts["ok"] < counts["total"]
    return {
        "status": "partial" if is_partial else "completed",
        "partial": is_partial,
        "termination_reason": stopped_by or "completed",
        **figures,
        "usage": {
            "model_calls": model_calls,
            **figures["usage"],
            "prices": None if prices is None else asdict(prices),
        },
        "estimate": estimate.as_json(),
        "resumed_rows": lives.resumed_rows,
        "calling_s": round(lives.seconds, 3),
        "rows_per_s": round(counts["ok"] / lives.seconds, 3) if lives.seconds > 0 else None,
        "dataset_id": task.dataset_id,
        "target": {"kind": target.kind, "model": target.model, **_settings(task), **_shut_in(sandbox)},
        "source": source,
    }


def _settings(task: InferenceParameters) -> dict[str, Any]:
    """How the target was asked, without the prompt's text and the tools, which are the job's parameters."""
    sampling = task.target.sampling()
    return {key: sampling[key] for key in ("temperature", "max_tokens", "top_p", "seed") if key in sampling}


def _shut_in(level: Level | None) -> dict[str, str]:
    """How far the target was, if it is a program."""
    return {} if level is None else {"sandbox": level.value}
