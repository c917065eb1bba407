"""An outcome that fits into the record: what is also in a file is left out first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.result_files import MAX_OUTCOME_BYTES


def fitted(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """*outcome*, without as many of its longer parts as do not fit; `left_out` names those, which files have."""
    made = dict(outcome)
    left_out: list[str] = []
    for name, without in _STEPS:
        if len(strict_json.dumps({**made, "left_out": left_out}).encode()) <= MAX_OUTCOME_BYTES:
            break
        made = without(made)
        left_out.append(name)
    return {**made, "left_out": left_out} if left_out else made


def _without_report(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in outcome.items() if key != "report_markdown"}


def _without(*names: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def without(outcome: Mapping[str, Any]) -> dict[str, Any]:
        results = outcome["backtest_results"]
        shorter = {
            model: {key: value for key, value in one.items() if key not in names}
            for model, one in results["comparisons"].items()
        }
        return {**outcome, "backtest_results": {**results, "comparisons": shorter}}

    return without


def _without_evaluators(outcome: Mapping[str, Any]) -> dict[str, Any]:
    results = outcome["backtest_results"]
    shorter = {
        name: {"aggregate_metrics": _but_evaluators(one["aggregate_metrics"])}
        for name, one in results["model_results"].items()
    }
    baseline = _but_evaluators(results["baseline_metrics"])
    return {**outcome, "backtest_results": {**results, "model_results": shorter, "baseline_metrics": baseline}}


def _but_evaluators(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key != "evaluators"}


_STEPS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]], ...]] = (
    ("report_markdown", _without_report),
    ("regressions and gains", _without("regressions", "gains")),
    ("segments", _without("segments")),
    ("evaluators", _without_evaluators),
)
