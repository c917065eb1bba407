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
from overmind_executors.tuning.changed_rows import Change, changes_of, in_words
from overmind_executors.tuning.changes_summary import NO_HEADROOM, summary_of
from overmind_executors.tuning.held_out_test import HeldOutTest
from overmind_executors.tuning.iterations import fitted
from overmind_executors.tuning.ledger import Candidate, Ledger
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.recounting import CANDIDATES, COMPARISON, SUMMARY, gap, scores, search_figures
from overmind_executors.tuning.report import report_of
from overmind_executors.tuning.search import HOPELESS
from overmind_executors.tuning.side_by_side import comparison_of
from overmind_executors.tuning.texts import as_code, diff, texts_of

BEST_PROMPT: Final = "best_prompt.txt"
DIFF: Final = "prompt.diff"
_MOST_REPORT: Final = 16_000
_MOST_CHANGES: Final = 20
# Of the changes in a summary, whose first sentence is to fit, too.
_MOST_WORDS: Final = 1300


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
    traffic: Mapping[str, Any] | None
    sources: Mapping[str, Any]
    resumed_steps: int
    total_steps: int
    validation_ids: Sequence[str]

    def steps_to(self, best: Candidate) -> list[Change]:
        """What was changed on the way to *best*."""
        return changes_of(self.ledger.lineage(best), self.validation_ids)


def result_of(ended: Ended, context: Context) -> Result:
    """Write the files into the output folder."""
    task, output = ended.task, context.output
    original, best = texts_of(task.prompt), ended.ledger.best()
    facts = _facts(ended, best, context.job_id)
    facts["best_agent_code"] = as_code(task.prompt, best.texts if facts["promoted"] else original)
    proposed = diff(original, best.texts)
    written = {
        BEST_PROMPT: facts["best_agent_code"],
        DIFF: proposed,
        CANDIDATES: _lines(one.as_json() for one in ended.ledger.candidates),
        **({COMPARISON: _lines(ended.test.lines)} if ended.test.lines else {}),
        SUMMARY: strict_json.dumps(facts) + "\n",
    }
    for name, text in written.items():
        (output / name).write_text(text, encoding="utf-8", newline="\n")
    found = report_of(facts, ended.ledger, proposed, ended.test.lines)
    reports = report.write(found, output)
    told = (output / report.MARKDOWN).read_text(encoding="utf-8")
    context.log.info("prompt.decided", verdict=facts["verdict"], promoted=facts["promoted"])
    outcome = fitted({**facts, "report_markdown": told[:_MOST_REPORT]}, ended.iterations)
    return Result((*written, *reports), outcome)


def digest_of_rows(rows: Iterable[Row]) -> str:
    """SHA-256, hex, of all *rows* whatever their order."""
    digests = sorted(hashlib.sha256(strict_json.canonical(row.source)).hexdigest() for row in rows)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _facts(ended: Ended, best: Candidate, job_id: str) -> dict[str, Any]:
    test, registration, spent = ended.test.verdict, ended.test.registration, ended.spent
    search = search_figures([one.as_json() for one in ended.ledger.candidates])
    figures = scores(test, search)
    told = {
        "verdict": _word(ended, best),
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
            "frontier": [one.name for one in ended.ledger.frontier()],
        },
        "gap": gap(test, search),
        "comparison_test": comparison_of(ended.test.lines),
        "changes": [step.as_json() for step in ended.steps_to(best)][:_MOST_CHANGES],
        "test_run_id": _id(job_id, "holdout") if test else None,
        "comparison_id": _id(job_id, "comparison") if test else None,
        "usage": {
            "model_calls": spent.calls,
            "tokens": spent.tokens,
            "cost_usd": None if ended.estimate.cost_usd is None else round(spent.usd, 8),
        },
        "resumed_steps": ended.resumed_steps,
        # A short job ends before any heartbeat has told how far it is.
        "progress": {"step": ended.total_steps, "total_steps": ended.total_steps, "step_name": "report"},
        "data_sources_used": dict(ended.sources),
        "traffic": ended.traffic,
    }
    changed = in_words(texts_of(ended.task.prompt), best.texts, ended.steps_to(best), most=_MOST_WORDS)
    return {**told, "changes_summary": summary_of(told, changed, _barred(ended, best))}


def _word(ended: Ended, best: Candidate) -> str:
    if ended.test.verdict is not None:
        return ended.test.verdict.decision.value
    if ended.termination_reason in (NO_HEADROOM, HOPELESS):
        return NO_HEADROOM
    return "untested" if best.order else "no_better_candidate"


def _barred(ended: Ended, best: Candidate) -> str:
    """The candidate that would have been the best, had it kept to gates and limits; empty without one."""
    found = [one for one in ended.ledger.candidates if one.mean is not None and not one.may_win]
    first = max(found, key=lambda one: one.mean or 0.0, default=None)
    if first is None or first.mean is None or first.mean <= (best.mean or 0.0):
        return ""
    return f"{first.name} did ({100 * first.mean:.1f} of 100), but {first.message}"


def _id(job_id: str, name: str) -> str:
    with suppress(ValueError):
        return str(uuid.uuid5(uuid.UUID(job_id), name))
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job_id}/{name}"))


def _lines(entries: Iterable[Mapping[str, Any]]) -> str:
    return "".join(strict_json.dumps(entry) + "\n" for entry in entries)
