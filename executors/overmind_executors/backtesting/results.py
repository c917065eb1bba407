"""`backtest_results` as readers of the record know them, and the job's score fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from overmind_executors.backtesting.rule import Reason, Verdict

Facts = Mapping[str, Any]

_TOLERATED: Final = {Reason.QUALITY_SUPERIOR, Reason.QUALITY_NON_INFERIOR}
_OLD_VERDICTS: Final[Mapping[str, str]] = {
    Verdict.SWITCH: "switch_recommended",
    Verdict.KEEP: "current_is_best",
    Verdict.INCONCLUSIVE: "insufficient_data",
    Verdict.BLOCKED: "insufficient_data",
}


def backtest_results(facts: Facts, current: str) -> dict[str, Any]:
    """The whole, without the rows, which are in `rows.jsonl`."""
    models = facts["models"]
    return {
        "schema": facts["schema"],
        "score_scale": facts["score_scale"],
        "decision": facts["decision"],
        "model_results": {
            name: {"aggregate_metrics": _aggregate(one)} for name, one in models.items() if name != current
        },
        "baseline_metrics": {
            **_aggregate(models[current]),
            "scored_span_count": models[current]["scored_rows"],
            "total_spans": facts["rows"],
        },
        "recommendations": recommendations(facts, current),
        "comparisons": facts["comparisons"],
        "pareto": facts["pareto"],
    }


def score_fields(facts: Facts, current: str) -> dict[str, Any]:
    """
    0 to 100. A best score other than the incumbent's only for a model that is to be switched to; both over the rows
    that both have a score for, so that their difference is the paired one.
    """
    winner = facts["decision"]["model"]
    if winner is None:
        own = facts["models"][current]["avg_eval_score"]
        score = None if own is None else round(100 * own, 4)
        return {"baseline_score": score, "best_score": score, "improvement": None if score is None else 0.0}
    pair = facts["comparisons"][winner]
    return {
        "baseline_score": round(100 * pair["incumbent_mean"], 4),
        "best_score": round(100 * pair["mean"], 4),
        "improvement": round(100 * pair["difference"], 4),
    }


def recommendations(facts: Facts, current: str) -> dict[str, Any]:
    """The best in each respect among the candidates that are shown to be no worse."""
    own = facts["models"][current]
    fine = {name: pair for name, pair in facts["comparisons"].items() if _TOLERATED & set(pair["reasons"])}
    verdict = facts["decision"]["verdict"]
    found: dict[str, Any] = {
        "current_model": {
            "name": current,
            "avg_eval_score": own["avg_eval_score"],
            "avg_latency_ms": own["latency_ms"]["mean"],
            "avg_cost_per_request": _per_request(own),
            "scored_span_count": own["scored_rows"],
        },
        **dict(_best(facts, fine)),
        "verdict": _OLD_VERDICTS[verdict],
        "summary": summary(facts, current),
    }
    return found


def summary(facts: Facts, current: str) -> str:
    """The decision in a sentence or two."""
    decision = facts["decision"]
    model, reasons = decision["model"], ", ".join(decision["reasons"]) or "no reason code"
    if model is not None:
        pair = facts["comparisons"][model]
        low, high = pair["interval"]
        return (
            f"Switch from {current} to {model} ({reasons}): quality changes by "
            f"{100 * pair['difference']:+.1f} points (interval {100 * low:+.1f} to {100 * high:+.1f}, "
            f"{pair['units']} compared)."
        )
    words = {
        Verdict.KEEP: f"Keep {current}: no candidate is shown to be better, or no worse and cheaper or faster",
        Verdict.INCONCLUSIVE: f"Keep {current} for now: the rows do not settle it",
        Verdict.BLOCKED: f"Keep {current} for now: something has to be settled first",
    }
    more = decision["extra_rows"]
    ending = f" About {more:,} more rows would settle it." if more else ""
    return f"{words[decision['verdict']]} ({reasons}).{ending}"


def _best(facts: Facts, fine: Mapping[str, Facts]) -> Iterator[tuple[str, dict[str, Any]]]:
    better = {name: pair for name, pair in fine.items() if Reason.QUALITY_SUPERIOR in pair["reasons"]}
    if better:
        name = max(better, key=lambda one: better[one]["difference"])
        base = better[name]["incumbent_mean"]
        percent = round(100 * better[name]["difference"] / max(base, 0.01), 2)
        yield "top_performer", {**_shown(facts, name), "performance_delta_pct": percent}
    for title, change, key in (
        ("fastest", "p95_ms", "latency_improvement_pct"),
        ("cheapest", "cost_usd", "cost_improvement_pct"),
    ):
        savings = {name: (pair[change] or {}).get("saving") for name, pair in fine.items()}
        known = {name: saving for name, saving in savings.items() if saving is not None and saving > 0}
        if known:
            name = max(known, key=lambda one: known[one])
            delta = round(fine[name]["difference"], 4)
            yield title, {**_shown(facts, name), "performance_delta_pp": delta, key: round(100 * known[name], 2)}
    if (winner := facts["decision"]["model"]) is not None:
        yield "best_overall", _shown(facts, winner)


def _shown(facts: Facts, name: str) -> dict[str, Any]:
    one = facts["models"][name]
    return {
        "model": name,
        "avg_eval_score": one["avg_eval_score"],
        "avg_latency_ms": one["latency_ms"]["mean"],
        "avg_cost_per_request": _per_request(one),
        "reason": ", ".join(facts["comparisons"][name]["reasons"]),
    }


def _aggregate(one: Facts) -> dict[str, Any]:
    answered = one["answered"]
    return {
        **one,
        "avg_latency_ms": one["latency_ms"]["mean"],
        "avg_cost_per_request": _per_request(one),
        "avg_input_tokens": round(one["total_input_tokens"] / answered, 2) if answered else None,
        "avg_output_tokens": round(one["total_output_tokens"] / answered, 2) if answered else None,
    }


def _per_request(one: Facts) -> float | None:
    per_thousand = one["usd_per_1000_requests"]
    return None if per_thousand is None else round(per_thousand / 1000, 9)
