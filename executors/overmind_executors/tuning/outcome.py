"""The files and the outcome of a job, made of what it came to."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.calls.budget import Limits, Spent
from overmind_executors.calls.forecast import Estimate
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED
from overmind_executors.contract import Context, Result
from overmind_executors.rows.rows import Row
from overmind_executors.tuning.held_out_test import HeldOutTest
from overmind_executors.tuning.iterations import fitted
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.recounting import (
    BEST_PROMPT,
    CANDIDATES,
    COMPARISON,
    DIFF,
    SUMMARY,
    gap,
    prompts,
    scores,
    search_figures,
    verdict_word,
    words,
)
from overmind_executors.tuning.report import report_of
from overmind_executors.tuning.side_by_side import comparison_of

_MOST_REPORT: Final = 16_000


@dataclass(frozen=True)
class Ended:
    """
    What a job came to.

    Attributes:
        iterations: as the control plane was told of them.
        outlook: what the held-out rows could show, before they were paid for.
        traffic: what was counted of recorded traffic; None where the job asked for nothing of it.
        sources: what was used of the rows, by source.
        limits: of the budget that the job was held to.
        prices: of its models, by name.
        total_steps: of the job's progress.
        validation_ids: of the rows that chose, in their order.
    """

    task: PromptTuningParameters
    ledger: Ledger
    test: HeldOutTest
    iterations: Sequence[Mapping[str, Any]]
    termination_reason: str
    outlook: Mapping[str, Any]
    estimate: Estimate
    limits: Limits
    spent: Spent
    prices: Mapping[str, Any]
    traffic: Mapping[str, Any] | None
    sources: Mapping[str, Any]
    resumed_steps: int
    total_steps: int
    validation_ids: Sequence[str]


def result_of(ended: Ended, context: Context) -> Result:
    """Write the files into the output folder. What they say is made of the lines that are written, and so again."""
    output, candidates = context.output, [one.as_json() for one in ended.ledger.candidates]
    ledger = Ledger.of_lines(candidates, ended.task.objectives)
    facts = _facts(ended, ledger, context.job_id)
    texts = prompts(ledger, promoted=facts["promoted"])
    facts["best_agent_code"] = texts[BEST_PROMPT]
    written = {
        **texts,
        CANDIDATES: _lines(candidates),
        **({COMPARISON: _lines(ended.test.lines)} if ended.test.lines else {}),
        SUMMARY: strict_json.dumps({**facts, "validation_ids": list(ended.validation_ids)}) + "\n",
    }
    for name, text in written.items():
        (output / name).write_text(text, encoding="utf-8", newline="\n")
    found = report_of(facts, ledger, written[DIFF], ended.test.lines)
    reports = report.write(found, output)
    told = (output / report.MARKDOWN).read_text(encoding="utf-8")
    context.log.info("prompt.decided", verdict=facts["verdict"], promoted=facts["promoted"])
    outcome = fitted({**facts, "report_markdown": told[:_MOST_REPORT]}, ended.iterations)
    return Result((*written, *reports), outcome)


def digest_of_rows(rows: Iterable[Row]) -> str:
    """SHA-256, hex, of all *rows* whatever their order."""
    digests = sorted(hashlib.sha256(strict_json.canonical(row.source)).hexdigest() for row in rows)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _facts(ended: Ended, ledger: Ledger, job_id: str) -> dict[str, Any]:
    test, registration, spent = ended.test.verdict, ended.test.registration, ended.spent
    search = search_figures(ledger)
    figures = scores(test, search)
    told = {
        "verdict": verdict_word(test, ended.termination_reason, ledger.best()),
        **({} if figures["promoted"] else {"optimized_version_id": None}),
        "partial": ended.termination_reason == BUDGET_EXHAUSTED,
        "termination_reason": ended.termination_reason,
        **figures,
        "test": test.as_json() if test else None,
        "registration": asdict(registration) if registration else None,
        "outlook": dict(ended.outlook),
        "estimate": ended.estimate.as_json(),
        "budget": ended.limits.model_dump(exclude_none=True),
        "search": {
            "kind": ended.task.search,
            **search,
            "optimistic": True,
            "objectives": list(ended.task.objectives),
        },
        "gap": gap(test, search),
        "comparison_test": comparison_of(ended.test.lines),
        "test_run_id": _id(job_id, "holdout") if test else None,
        "comparison_id": _id(job_id, "comparison") if test else None,
        "usage": {
            "model_calls": spent.calls,
            "tokens": spent.tokens,
            "cost_usd": None if ended.estimate.cost_usd is None else round(spent.usd, 8),
            "prices": dict(ended.prices),
        },
        "resumed_steps": ended.resumed_steps,
        # A short job ends before any heartbeat has told how far it is.
        "progress": {"step": ended.total_steps, "total_steps": ended.total_steps, "step_name": "report"},
        "data_sources_used": dict(ended.sources),
        "traffic": ended.traffic,
    }
    return {**told, **words(told, ledger, ended.validation_ids)}


def _id(job_id: str, name: str) -> str:
    with suppress(ValueError):
        return str(uuid.uuid5(uuid.UUID(job_id), name))
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job_id}/{name}"))


def _lines(entries: Iterable[Mapping[str, Any]]) -> str:
    return "".join(strict_json.dumps(entry) + "\n" for entry in entries)
