"""One job of type `prompt_tuning`: search on some rows, choose on others, decide on rows that neither has seen."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.calls.forecast import Estimate, refuse_beyond
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED, Account, PaidModel
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    Problem,
    Result,
)
from overmind_executors.inference.parameters import InferenceParameters, ModelTarget
from overmind_executors.inference.source import survey
from overmind_executors.judge_scoring.scorer import Panel, RowScorer
from overmind_executors.rows.rows import Row
from overmind_executors.rows.source import RowPlace, find_rows
from overmind_executors.scoring.evaluator import NotInstalled
from overmind_executors.tuning.constraints import Constraints
from overmind_executors.tuning.endpoints import Endpoints, endpoints_of
from overmind_executors.tuning.estimate import estimate, least
from overmind_executors.tuning.feedback import Feedback
from overmind_executors.tuning.iterations import fitted, iteration_of, test_of
from overmind_executors.tuning.leaks import LeakScan
from overmind_executors.tuning.ledger import Candidate, Ledger
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.promotion import FLOOR, NOTABLE, Decision, Verdict, outlook
from overmind_executors.tuning.proposing import DraftsFirst, ModelProposer
from overmind_executors.tuning.recounting import CANDIDATES, COMPARISON, SUMMARY, scores, search_figures, verdict_of
from overmind_executors.tuning.report import report_of
from overmind_executors.tuning.reserve import Reserve
from overmind_executors.tuning.sealed import Registration, Sealed
from overmind_executors.tuning.search import FEW, HOPELESS, Ground, Plan, Search, SearchOver, best_of_n
from overmind_executors.tuning.splitting import Case, Shares, Split, counts, split
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.texts import Texts, as_code, changes, diff, digest, target_with, texts_of
from overmind_executors.tuning.trials import ModelBench, NoMoreCalls, Piece, Trial

BEST_PROMPT: Final = "best_prompt.txt"
DIFF: Final = "prompt.diff"
NO_SCORE: Final = "no_score"
NO_HEADROOM: Final = "no_headroom"
_SATURATED: Final = 0.99
# Where the prompt stands here, for what is said about it elsewhere.
_FIELDS: Final = {"target": "prompt", "target.messages_template": "prompt"}


def run(task: PromptTuningParameters, context: Context, policy: RetryPolicy | None) -> Result:
    """Search and test; see the executor contract for what is raised."""
    search = _search(task)
    _prepare(task)
    endpoints = endpoints_of(task, context)
    steps = _Steps(task, context)
    steps.say(1, "validate the inputs")
    rows = _rows(task, context)
    parts = split(rows, _shares(task), task.seed)
    expected = estimate(task, parts, endpoints, policy or RetryPolicy())
    limits = task.budget.within(context.spend_limits)
    refuse_beyond(
        limits, least(task, parts, endpoints, policy or RetryPolicy()), "the baseline, a candidate and the test"
    )
    context.log.info("job.estimated", rows=counts(parts), estimate=expected.as_json())
    sealed = Sealed(context.state)
    sealed.seal(parts.held_out)
    leaks = LeakScan(
        [case.row for case in (*parts.held_out, *parts.validation)],
        [*texts_of(task.prompt).values(), *(_expected(case.row) for case in parts.train)],
    )
    with ExitStack() as stack:
        account = stack.enter_context(Account(context, task.budget))
        models = {
            name: stack.enter_context(PaidModel(one, context, policy=policy, account=account))
            for name, one in endpoints.named.items()
        }
        log = stack.enter_context(StepLog(context.state / "search.log"))
        sizes, searched = counts(parts), replace(parts, held_out=())
        work = _Tuning(
            task, context, searched, sizes, sealed, endpoints, models, account, log, leaks, steps, expected
        )
        work.run(search)
        return work.result(rows)


@dataclass
class _Steps:
    """How far the job is: validate, baseline, every iteration, the test, the report."""

    task: PromptTuningParameters
    context: Context
    _last: tuple[int, str] = (0, "")

    @property
    def total(self) -> int:
        """The number of the last step."""
        return 3 + self.task.num_iterations + self.task.run_test_after_optimization

    def say(self, step: int, name: str) -> None:
        """Step number *step* begins; never one before the last."""
        self._last = (max(step, self._last[0]), name)
        self.again()

    def again(self) -> None:
        """The step goes on."""
        self.context.report(self._last[0], self.total, self._last[1])


@dataclass
class _Tuning:
    """One run of a job."""

    task: PromptTuningParameters
    context: Context
    parts: Split
    sizes: Mapping[str, int]
    sealed: Sealed
    endpoints: Endpoints
    models: Mapping[str, PaidModel]
    account: Account
    log: StepLog
    leaks: LeakScan
    steps: _Steps
    estimate: Estimate
    lines: list[dict[str, Any]] = field(default_factory=list)
    registration: Registration | None = None
    verdict: Verdict | None = None
    ended: str = "completed"
    outlook: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.task
        self.original: Texts = texts_of(task.prompt)
        self.feedback = Feedback(task)
        self.ledger = Ledger(self._on_candidate)
        self.iterations: list[dict[str, Any]] = []
        self.bench = self._bench()
        limits = task.budget.within(self.context.spend_limits)
        tested = 2 * task.times * self.sealed.rows if task.run_test_after_optimization else 0
        self.reserve = Reserve(limits, self.account.calls.spent, tested)

    # ------------------------------------------------------------------------------------ the three parts

    def run(self, search: Search) -> None:
        """Baseline, search, test."""
        ground = self._ground()
        self.steps.say(2, "baseline")
        is_saturated = self._baseline(ground)
        if is_saturated:
            self.ended = NO_HEADROOM
        else:
            self._search(search, ground)
        best = self.ledger.best()
        if best.order and self.task.run_test_after_optimization:
            self.steps.say(self.steps.total - 1, "hold-out test")
            self._test(best)
        self.steps.say(self.steps.total - 1 + (not self.task.run_test_after_optimization), "report")

    def _baseline(self, ground: Ground) -> bool:
        """The prompt as it was, on the rows of the search; returns whether there is nothing to be gained."""
        try:
            train, chosen = ground.trials(
                [(self.original, self.parts.train), (self.original, self.parts.validation)]
            )
        except NoMoreCalls as none:
            raise ExecutionFailed(
                "the prompt as it is could not be tried on all rows", reason=none.reason
            ) from None
        values = [trial.value for trial in (*train, *chosen) if trial.value is not None]
        if not values or all(trial.value is None for trial in chosen):
            kinds = ", ".join(sorted({trial.kind for trial in (*train, *chosen)}))
            raise ExecutionFailed(f"no output of the prompt as it is could be scored ({kinds})", reason=NO_SCORE)
        self.reserve.learn(len(train) + len(chosen))
        self.ledger.baseline(self.original, chosen)
        self.outlook = outlook(self.sealed.groups, values, self.task.times, self.task.alpha)
        self.context.log.info("search.planned", rows=dict(self.sizes), outlook=dict(self.outlook))
        return fmean(values) >= _SATURATED

    def _search(self, search: Search, ground: Ground) -> None:
        try:
            search(ground)
        except SearchOver as over:
            self.ended = over.reason
        except NoMoreCalls as none:
            if none.reason != BUDGET_EXHAUSTED:
                raise ExecutionFailed(f"the search cannot go on: {none.reason}", reason=none.reason) from None
            self.ended = BUDGET_EXHAUSTED
        self.context.log.info("search.finished", candidates=dict(self.ledger.counts()), ended_by=self.ended)

    def _test(self, best: Candidate) -> None:
        """The one test: what it decides by is written down, then its rows are looked at."""
        task = self.task
        self.registration = Registration(
            alpha=task.alpha,
            margin=task.margin,
            repeats=task.times,
            rows=self.sealed.rows,
            floor=FLOOR,
            baseline=digest(self.original),
            candidate=digest(best.texts),
        )
        cases = self.sealed.open(self.registration)
        try:
            sides = [self._side(texts, cases) for texts in (self.original, best.texts)]
        except NoMoreCalls as none:
            if none.reason != BUDGET_EXHAUSTED:
                raise ExecutionFailed(f"the test cannot go on: {none.reason}", reason=none.reason) from None
            self.ended = BUDGET_EXHAUSTED
            self.verdict = Verdict(Decision.INCONCLUSIVE, None, None, 0, len(cases), None, None, BUDGET_EXHAUSTED)
        else:
            self.lines = [
                {
                    "item_id": case.row.id,
                    "group": case.group,
                    "expected": case.row.expected,
                    "baseline": [trial.as_json() for trial in before],
                    "candidate": [trial.as_json() for trial in after],
                }
                for case, before, after in zip(cases, *sides, strict=True)
            ]
            self.verdict = verdict_of(self.lines, self.registration)
        self._tell(test_of(best, self.verdict, len(self.ledger.candidates), task.prompt))

    def _side(self, texts: Texts, cases: Sequence[Case]) -> list[list[Trial]]:
        """For each of *cases* its trials."""
        times = self.task.times
        made = iter(self.bench.trials([Piece(texts, case, number) for case in cases for number in range(times)]))
        return [[next(made) for _ in range(times)] for _ in cases]

    # ------------------------------------------------------------------------------------ what it is made of

    def _bench(self) -> ModelBench:
        task, scoring = self.task, self.task.scoring()
        judges = [self.models[name] for name in self.endpoints.judges]
        panel = Panel(scoring.judge, judges, timeout_s=task.item_timeout_s) if scoring.judge else None
        return ModelBench(
            model=self.models[self.endpoints.target],
            others=[model for name, model in self.models.items() if name != self.endpoints.target],
            target=task.target,
            prompt=task.prompt,
            scorer=RowScorer(scoring, panel),
            gates=frozenset(one.title for one in scoring.evaluators if one.gate),
            concurrency=task.concurrency,
            timeout_s=task.item_timeout_s,
            stop=self.context.stop,
            on_trial=self.steps.again,
        )

    def _ground(self) -> Ground:
        task = self.task
        constraints = Constraints(self.original, task.fixed, task.max_prompt_characters, self.leaks)
        writer = ModelProposer(self.models[self.endpoints.analyzer], task, constraints, self.feedback)
        return Ground(
            original=self.original,
            train=self.parts.train,
            validation=self.parts.validation,
            bench=self.bench,
            proposer=DraftsFirst(task.drafts, task.tuned[0], constraints, writer) if task.drafts else writer,
            ledger=self.ledger,
            log=self.log,
            plan=Plan(
                task.num_iterations,
                task.candidates_per_iteration,
                task.examples_per_candidate,
                task.tuned,
                task.seed,
            ),
            is_short=self.reserve.is_short,
            on_iteration=lambda number: self.steps.say(
                2 + number, f"iteration {number} of {self.task.num_iterations}"
            ),
        )

    def _on_candidate(self, one: Candidate) -> None:
        told = iteration_of(one, self.ledger.candidates[0], self.task.prompt)
        self._tell(told)
        self.context.log.info("candidate.tried", name=one.name, code=one.code.value, avg_score=told["avg_score"])

    def _tell(self, iteration: dict[str, Any]) -> None:
        self.iterations.append(iteration)
        self.context.tell_iteration(iteration)

    # ------------------------------------------------------------------------------------ what comes out

    def result(self, rows: Sequence[Row]) -> Result:
        """Files and outcome."""
        task, output = self.task, self.context.output
        best = self.ledger.best()
        facts = {**self._facts(best), "data_sources_used": self._sources(rows)}
        winner = best.texts if facts["promoted"] else self.original
        facts["best_agent_code"] = as_code(task.prompt, winner)
        proposed = diff(self.original, best.texts)
        written = {
            BEST_PROMPT: facts["best_agent_code"],
            DIFF: proposed,
            CANDIDATES: _lines(one.as_json() for one in self.ledger.candidates),
            **({COMPARISON: _lines(self.lines)} if self.lines else {}),
            SUMMARY: strict_json.dumps(facts) + "\n",
        }
        for name, text in written.items():
            (output / name).write_text(text, encoding="utf-8", newline="\n")
        reports = report.write(report_of(facts, self.ledger.candidates, proposed), output)
        told = (output / report.MARKDOWN).read_text(encoding="utf-8")
        self.context.log.info("prompt.decided", verdict=facts["verdict"], promoted=facts["promoted"])
        return Result((*written, *reports), fitted({**facts, "report_markdown": told[:16_000]}, self.iterations))

    def _facts(self, best: Candidate) -> dict[str, Any]:
        test = self.verdict
        search = search_figures([one.as_json() for one in self.ledger.candidates])
        figures = scores(test, search)
        promoted = figures["promoted"]
        spent = self.account.calls.spent()
        told = {
            "verdict": self._word(best),
            **({} if promoted else {"optimized_version_id": None}),
            "partial": self.ended == BUDGET_EXHAUSTED,
            "termination_reason": self.ended,
            **figures,
            "test": test.as_json() if test else None,
            "registration": asdict(self.registration) if self.registration else None,
            "outlook": dict(self.outlook),
            "estimate": self.estimate.as_json(),
            "search": {"kind": self.task.search, **search, "optimistic": True},
            "test_run_id": self._id("holdout") if test else None,
            "comparison_id": self._id("comparison") if test else None,
            "usage": {"model_calls": spent.calls, "tokens": spent.tokens, "cost_usd": round(spent.usd, 8)},
            "resumed_steps": self.log.replayed,
            # A short job ends before any heartbeat has told how far it is.
            "progress": {"step": self.steps.total, "total_steps": self.steps.total, "step_name": "report"},
        }
        return {**told, "changes_summary": _summary(told, changes(self.original, best.texts))}

    def _word(self, best: Candidate) -> str:
        if self.verdict is not None:
            return self.verdict.decision.value
        if self.ended in (NO_HEADROOM, HOPELESS):
            return NO_HEADROOM
        return "untested" if best.order else "no_better_candidate"

    def _sources(self, rows: Sequence[Row]) -> dict[str, Any]:
        digests = sorted(hashlib.sha256(strict_json.canonical(row.source)).hexdigest() for row in rows)
        content = hashlib.sha256("".join(digests).encode()).hexdigest()
        return {
            **self.feedback.counts(),
            "rows_total": len(rows),
            **self.sizes,
            "sha256": content,
        }

    def _id(self, name: str) -> str:
        with suppress(ValueError):
            return str(uuid.uuid5(uuid.UUID(self.context.job_id), name))
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.context.job_id}/{name}"))


def _summary(facts: Mapping[str, Any], changed: str) -> str:
    test = facts["test"]
    if facts["termination_reason"] == HOPELESS:
        return (
            f"Not changed: neither the prompt nor any of the first {FEW} candidates scored on a single row. "
            "Look at the evaluators, the judge and the model first."
        )
    if facts["verdict"] == NO_HEADROOM:
        return f"Not changed: the prompt scores {facts['baseline_score']:.1f} of 100, which leaves nothing to gain."
    if facts["verdict"] == "no_better_candidate":
        return "Not changed: no candidate scored higher than the prompt on the validation rows."
    if test is None:
        return f"Not promoted: no test was asked for. The best candidate so far:\n{changed}"[:1500]
    seen = f"{test['compared']} held-out rows"
    if facts["promoted"]:
        low, high = (100 * end for end in test["gain_interval_95"])
        gain = f"+{100 * test['gain']:.1f} points (95 %: {low:+.1f} to {high:+.1f}) on {seen}"
        return f"Promoted: {gain}, p = {test['p_value']:.2g}.\n{changed}"[:1500]
    if test["gain"] is None:
        return f"Not promoted: the test could not be finished ({test['code']})."
    needed = (
        f" About {test['rows_needed']} held-out rows would show {_size_of(facts)}." if test["rows_needed"] else ""
    )
    why = "is no better" if facts["verdict"] == "refused" else "cannot be told from chance"
    return (
        f"Not promoted: on {seen} the best candidate {why} "
        f"({100 * test['gain']:+.1f} points, p = {test['p_value']:.2g}).{needed}"
    )


def _size_of(facts: Mapping[str, Any]) -> str:
    """The gain that so many rows are needed for."""
    is_seen = facts["test"]["gain"] > facts["registration"]["margin"]
    return "a gain of this size" if is_seen else f"a gain of {100 * NOTABLE:.0f} points"


def _lines(entries: Any) -> str:
    return "".join(strict_json.dumps(entry) + "\n" for entry in entries)


def _expected(row: Row) -> str:
    return row.expected if isinstance(row.expected, str) else strict_json.dumps(row.expected)


def _shares(task: PromptTuningParameters) -> Shares:
    return Shares(task.holdout_share, task.validation_share, task.max_holdout, task.max_validation)


def _rows(task: PromptTuningParameters, context: Context) -> list[Row]:
    """All rows that can be read; raises as `survey` does."""
    target = target_with(task.target.model_copy(update={"model": "none"}), task.prompt, texts_of(task.prompt))
    place = task.model_dump(include=set(RowPlace.model_fields))
    wanted = InferenceParameters(**place, target=ModelTarget.model_validate(target.model_dump()))
    source = find_rows(task, context, most=task.max_items)
    try:
        survey(source, wanted, context.stop)
    except InvalidParameters as error:  # the prompt is no part of the target here
        raise InvalidParameters(
            *(replace(one, field=_FIELDS.get(one.field, one.field)) for one in error.problems)
        ) from None
    return [row for row in source.rows() if isinstance(row, Row) and row.input is not None]


def _search(task: PromptTuningParameters) -> Search:
    """The search that *task* names; raises InvalidParameters when this host cannot do it."""
    if task.search == "best_of_n":
        return best_of_n
    try:
        from overmind_executors.tuning.gepa_search import gepa_search
    except ImportError:
        message = "gepa is not installed; install overmind-agent[tuning] on this host, or use best_of_n"
        raise InvalidParameters(Problem("search", message)) from None
    return gepa_search


def _prepare(task: PromptTuningParameters) -> None:
    problems = []
    for number, one in enumerate(task.scoring().evaluators):
        try:
            one.prepare()
        except (NotInstalled, ValueError) as error:
            problems.append(Problem(f"evaluators.{number}", str(error)[:200]))
    if problems:
        raise InvalidParameters(*problems)
