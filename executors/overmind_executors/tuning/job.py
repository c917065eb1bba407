"""One job of type `prompt_tuning`: search on some rows, choose on others, decide on rows that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.budget import Limits
from overmind_executors.calls.forecast import refuse_beyond, within
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED, Account, PaidModel
from overmind_executors.contract import Context, ExecutionFailed, Result
from overmind_executors.judge_scoring.scorer import Panel, RowScorer
from overmind_executors.tuning.changes_summary import NO_HEADROOM
from overmind_executors.tuning.constraints import Constraints
from overmind_executors.tuning.endpoints import Endpoints, endpoints_of
from overmind_executors.tuning.estimate import estimate, least
from overmind_executors.tuning.feedback import Feedback
from overmind_executors.tuning.held_out_test import HeldOutTest
from overmind_executors.tuning.iterations import iteration_of, test_of
from overmind_executors.tuning.leaks import LeakScan
from overmind_executors.tuning.ledger import Candidate, Ledger
from overmind_executors.tuning.outcome import Ended, digest_of_rows, result_of
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.preparing import leaks_of, parts_of, prepare_evaluators, rows_of, search_of
from overmind_executors.tuning.promotion import outlook
from overmind_executors.tuning.proposing import DraftsFirst, ModelProposer
from overmind_executors.tuning.recounting import CANDIDATES
from overmind_executors.tuning.reserve import Reserve
from overmind_executors.tuning.sealed import Sealed
from overmind_executors.tuning.search import Ground, Plan, Search, SearchOver
from overmind_executors.tuning.splitting import Split, counts
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.steps import Steps
from overmind_executors.tuning.texts import Texts, digest, texts_of
from overmind_executors.tuning.traffic import selected
from overmind_executors.tuning.trials import ModelBench, NoMoreCalls, Piece, Trial

NO_SCORE: Final = "no_score"
TRIALS: Final = "trials.jsonl"
_SATURATED: Final = 0.99


def run(task: PromptTuningParameters, context: Context, policy: RetryPolicy | None) -> Result:
    """Search and test; see the executor contract for what is raised."""
    search = search_of(task)
    prepare_evaluators(task)
    endpoints, steps = endpoints_of(task, context), Steps(task, context)
    steps.say(1, "validate the inputs")
    rows, traffic = selected(task, rows_of(task, context))
    parts = parts_of(task, rows)
    expected = estimate(task, parts, endpoints, policy or RetryPolicy())
    limits = within(task.budget, expected).within(context.spend_limits)
    fewest = least(task, parts, endpoints, policy or RetryPolicy())
    refuse_beyond(limits, fewest, "low", "the baseline, a candidate and the test take at least")
    context.log.info("job.estimated", rows=counts(parts), estimate=expected.as_json())
    sealed = Sealed(context.state)
    sealed.seal(parts.held_out)
    leaks, sizes = leaks_of(task, parts), counts(parts)
    with ExitStack() as stack:
        account = stack.enter_context(Account(context, limits, policy))
        models = {name: account.open(one) for name, one in endpoints.named.items()}
        steps.spent, steps.estimate = account.purse.spent, expected
        log = stack.enter_context(StepLog(context.state / "search.log"))
        # Nobody from here on has a reference to a held-out row.
        searched = replace(parts, held_out=())
        work = _Tuning(task, context, searched, sealed, endpoints, models, account, limits, log, leaks, steps)
        work.run(search, sizes)
        spent, prices = account.calls.spent(), account.prices()
    ended = Ended(
        task=task,
        ledger=work.ledger,
        test=work.test,
        iterations=work.iterations,
        termination_reason=work.ended,
        outlook=work.outlook,
        estimate=expected,
        limits=limits,
        spent=spent,
        prices=prices,
        traffic=traffic,
        sources={**work.feedback.counts(), "rows_total": len(rows), **sizes, "sha256": digest_of_rows(rows)},
        resumed_steps=log.replayed,
        total_steps=steps.total,
        validation_ids=[case.row.id for case in parts.validation],
    )
    return result_of(ended, context)


@dataclass
class _Tuning:
    """One run of a job."""

    task: PromptTuningParameters
    context: Context
    parts: Split
    sealed: Sealed
    endpoints: Endpoints
    models: Mapping[str, PaidModel]
    account: Account
    limits: Limits
    log: StepLog
    leaks: LeakScan
    steps: Steps
    ended: str = "completed"
    outlook: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.task
        self.original: Texts = texts_of(task.prompt)
        self.feedback = Feedback(task)
        self.ledger = Ledger(self._on_candidate, task.constraints, task.objectives, self._on_line)
        self.iterations: list[dict[str, Any]] = []
        self.bench = self._bench()
        self.test = HeldOutTest(task, self.sealed, self.bench)
        self.reserve = Reserve(self.limits, self.account.calls.spent, self.test.trials)

    # ------------------------------------------------------------------------------------ the three parts

    def run(self, search: Search, sizes: Mapping[str, int]) -> None:
        """Baseline, search, test."""
        ground = self._ground()
        self.steps.baseline()
        values = self._baseline(ground)
        ground.learnt = [self.bench.done[Piece(self.original, case).key()].value for case in self.parts.train]
        self.outlook = outlook(self.sealed.groups, values, self.task.times, self.task.alpha)
        self.context.log.info("search.planned", rows=dict(sizes), outlook=dict(self.outlook))
        if fmean(values) >= _SATURATED:
            self.ended = NO_HEADROOM
        else:
            self._search(search, ground)
        best = self.ledger.best()
        if best.order and self.task.run_test_after_optimization:
            self.steps.test()
            self._test(best)
        self.steps.report()

    def _baseline(self, ground: Ground) -> list[float]:
        """The prompt as it was, on the rows of the search; returns what it is worth on each of them."""
        try:
            train, chosen = ground.trials(
                [(self.original, self.parts.train), (self.original, self.parts.validation)]
            )
        except NoMoreCalls as none:
            raise ExecutionFailed(
                f"the prompt as it is could not be tried on all rows: {none}", reason=none.reason
            ) from None
        values = [trial.value for trial in (*train, *chosen) if trial.value is not None]
        if not values or all(trial.value is None for trial in chosen):
            kinds = ", ".join(sorted({trial.kind for trial in (*train, *chosen)}))
            raise ExecutionFailed(f"no output of the prompt as it is could be scored ({kinds})", reason=NO_SCORE)
        self.reserve.learn(len(train) + len(chosen))
        self.ledger.baseline(self.original, chosen)
        return values

    def _search(self, search: Search, ground: Ground) -> None:
        try:
            search(ground)
        except SearchOver as over:
            self.ended = over.reason
        except NoMoreCalls as none:
            if none.reason != BUDGET_EXHAUSTED:
                raise ExecutionFailed(f"the search cannot go on: {none}", reason=none.reason) from None
            self.ended = BUDGET_EXHAUSTED
        self.context.log.info("search.finished", candidates=dict(self.ledger.counts()), ended_by=self.ended)

    def _test(self, best: Candidate) -> None:
        verdict = self.test.hold(self.original, best.texts)
        if verdict.code == BUDGET_EXHAUSTED:
            self.ended = BUDGET_EXHAUSTED
        self._tell(test_of(best, verdict, len(self.ledger.candidates), self.task.prompt))

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
            scorer=RowScorer(scoring, scoring.evaluators, panel),
            gates=frozenset(one.title for one in scoring.evaluators if one.gate),
            concurrency=task.concurrency,
            timeout_s=task.item_timeout_s,
            stop=self.context.stop,
            on_trial=self._on_trial,
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
            plan=_plan(task),
            racing=task.racing,
            is_short=self.reserve.is_short,
            on_iteration=self.steps.iteration,
        )

    def _on_candidate(self, one: Candidate) -> None:
        told = iteration_of(one, self.ledger.candidates[0], self.task.prompt)
        self._tell(told)
        self.context.log.info("candidate.tried", name=one.name, code=one.code.value, avg_score=told["avg_score"])

    # What is written as it comes is what a job leaves that is canceled; one that ends well has other files.

    def _on_trial(self, piece: Piece, trial: Trial) -> None:
        self.steps.again()
        told = {"texts": digest(piece.texts)[:16], "row_id": trial.row_id, "repetition": piece.repetition}
        self._write(TRIALS, {**told, **trial.as_json()})

    def _on_line(self, one: Candidate) -> None:
        self._write(CANDIDATES, one.as_json())

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        with (self.context.output / name).open("a", encoding="utf-8", newline="\n") as file:
            file.write(strict_json.dumps(line) + "\n")

    def _tell(self, iteration: dict[str, Any]) -> None:
        self.iterations.append(iteration)
        self.context.tell_iteration(iteration)


def _plan(task: PromptTuningParameters) -> Plan:
    return Plan(
        task.num_iterations, task.candidates_per_iteration, task.examples_per_candidate, task.tuned, task.seed
    )
