"""The job type `inference`: one output for every row, and how they compare with what was expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.calls.allowed_models import named_models
from overmind_executors.calls.answers import Answer
from overmind_executors.calls.forecast import refuse_beyond
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import PROVIDER_UNAVAILABLE, Halt, NotAsked, PaidModel, digest_of
from overmind_executors.calls.prices import price_note, prices_of
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    ModelEndpoint,
    Result,
)
from overmind_executors.inference.comparing import Judgement, judgement
from overmind_executors.inference.endings import Endings
from overmind_executors.inference.estimate import Estimator
from overmind_executors.inference.figures import Figures
from overmind_executors.inference.output import (
    ERRORS,
    INVALID_ROW,
    MISSING_FIELD,
    OUTPUT,
    Done,
    OutputFiles,
)
from overmind_executors.inference.output_schema import OutputSchema
from overmind_executors.inference.parameters import Comparison, InferenceParameters, ModelTarget, parameters_class
from overmind_executors.inference.programs import Program, open_program
from overmind_executors.inference.report import report_of
from overmind_executors.inference.requests import MissingField, NotMessages, body_of, is_shareable
from overmind_executors.inference.source import survey
from overmind_executors.inference.summary import SUMMARY, summary
from overmind_executors.parameters import check
from overmind_executors.rows.engine import in_threads
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.rows.source import RowSource, find_rows

TOO_MANY_ERRORS: Final = "too_many_errors"
NO_OUTPUT: Final = "no_output"
# What is read ahead of the row that is waited for: enough to keep every worker busy behind a slow one.
_ROWS_AHEAD: Final = 16
# As many ways in which rows ended as a failure's message names, the most frequent ones.
_MOST_ENDINGS: Final = 5


class InferenceExecutor:
    """Fills the port `Executor`. Resumable: what was answered is in the journal of paid calls."""

    job_type = "inference"
    is_resumable = True

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy

    def validate(self, parameters: Mapping[str, Any]) -> InferenceParameters:
        """The parameters, typed; raises InvalidParameters naming every wrong field."""
        return check(parameters_class(parameters), parameters)

    def run(self, task: InferenceParameters, context: Context) -> Result:
        """Ask the target about every row; see the contract for what is raised."""
        endpoint = _endpoint(task, context)
        prices = prices_of(endpoint) if endpoint else None
        source = find_rows(task, context, most=task.most_items, wanted=("id", "input", "expected_output"))
        policy = self._policy or RetryPolicy()
        estimator = Estimator(task, prices, policy)
        seen = survey(source, task, context.stop, look=estimator.look)
        estimate = estimator.estimate()
        if task.refuse_over_budget:
            refuse_beyond(task.budget, estimate, "typical", "the job will need about")
        form = OutputSchema(task.output_schema, repairs=task.may_repair) if task.output_schema is not None else None
        is_right = judgement(task.comparison or Comparison(), seen.labels)
        context.log.info("rows.surveyed", rows=seen.total, model=task.target.model, estimate=estimate.as_json())
        compared_by = (task.comparison or Comparison()).kind
        figures = Figures(repetitions=task.repetitions, compared_by=compared_by)
        with (
            _open(task, endpoint, context, policy) as model,
            OutputFiles(context.output, figures.add) as files,
        ):
            asking = _Asking(task, model, is_right, form)
            endings = asking.all_rows(source, seen.total * task.repetitions, context, files)
            facts = summary(
                task,
                figures.facts(),
                lives=model.lives(),
                model_calls=model.spent_calls(),
                stopped_by=model.halt.reason,
                estimate=estimate,
                prices=price_note(endpoint) if endpoint else None,
                source=source.described(),
                sandbox=model.level if isinstance(model, Program) else None,
            )
        if not endings.ok:
            raise _nothing_came(endings, model.endpoint.name, facts["usage"]["model_calls"], model.halt)
        (context.output / SUMMARY).write_text(strict_json.dumps(facts) + "\n", encoding="utf-8")
        told = report_of(facts)
        names = report.write(told, context.output)
        context.log.info("rows.finished", **facts["counts"], termination_reason=facts["termination_reason"])
        return Result((OUTPUT, ERRORS, SUMMARY, *names), report.with_text(facts, told))


class _Asking:
    """One run over all rows."""

    def __init__(
        self, task: InferenceParameters, model: PaidModel | Program, is_right: Judgement, form: OutputSchema | None
    ) -> None:
        self._form = form
        self._task = task
        self._model = model
        self._is_right = is_right
        self._paid: set[tuple[bytes, int]] = set()

    def all_rows(self, source: RowSource, total: int, context: Context, files: OutputFiles) -> Endings:
        """Write a line for every row and repetition; returns how they ended."""
        endings = Endings()
        workers = min(self._task.concurrency, self._model.endpoint.max_concurrency)
        lines = in_threads(
            self._pieces(source),
            self._one,
            workers=workers,
            ahead=_ROWS_AHEAD,
            stop=context.stop,
            cut_after=self._model.cut_after,
        )
        with closing(lines):
            for done in map(self._credit, lines):
                files.write(done)
                endings.add(done)
                self._give_up_after_errors(endings)
                context.report(endings.total, total, "rows")
        return endings

    def _pieces(self, source: RowSource) -> Iterator[tuple[Row | BrokenRow, int]]:
        for row in source.rows():
            for repetition in range(self._task.repetitions if isinstance(row, Row) else 1):
                yield row, repetition

    def _one(self, piece: tuple[Row | BrokenRow, int]) -> Done:
        row, repetition = piece
        if isinstance(row, BrokenRow):
            return Done(row, repetition, INVALID_ROW, message=f"line {row.line}: {row.message}")
        try:
            body = body_of(row, self._task.target)
        except MissingField as missing:
            return Done(row, repetition, MISSING_FIELD, message=f"line {row.line} has no field {str(missing)!r}")
        except NotMessages:
            return Done(
                row, repetition, INVALID_ROW, message=f"line {row.line}: input is a list, but not of messages"
            )
        shared = digest_of(body) if self._task.share_equal_rows and is_shareable(body) else None

        def ask(what: Mapping[str, Any]) -> Answer | NotAsked:
            return self._model.ask(
                what,
                row_id=row.id,
                repetition=repetition,
                timeout_s=self._task.item_timeout_s,
                is_shared=shared is not None,
            )

        answer, is_repaired = self._form.answer(ask, body) if self._form else (ask(body), False)
        if isinstance(answer, NotAsked):
            return Done(row, repetition, answer.reason, message=f"not asked: {answer.reason}")
        right = None
        if answer.kind.has_output and row.expected is not None:
            right = self._is_right(answer.output, row.expected)
        kind = answer.kind.value
        return Done(row, repetition, kind, answer, is_right=right, shared=shared, is_repaired=is_repaired)

    def _credit(self, done: Done) -> Done:
        """*done*; where equal rows share a call, it is the first one of them, in their order, that has paid."""
        if done.shared is None or done.answer is None:
            return done
        key = (done.shared, done.repetition)
        if key not in self._paid:
            self._paid.add(key)
            return done
        free = replace(
            done.answer,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=None if done.answer.cost_usd is None else 0.0,
            attempts=0,
            refusals=0,
        )
        return replace(done, answer=free, is_paid_elsewhere=True)

    def _give_up_after_errors(self, endings: Endings) -> None:
        limit = self._task.stop_after_errors
        if limit and endings.failed_in_a_row >= limit:
            self._model.halt.set(TOO_MANY_ERRORS)


def _nothing_came(endings: Endings, name: str, calls: int, halt: Halt) -> ExecutionFailed:
    """Never with the words of the model's server: it may quote a row, and this goes into logs and statuses."""
    counts = ", ".join(
        f"{count} x {outcome}" + (f" (HTTP status {status})" if status else "")
        for (outcome, status), count in endings.kinds.most_common(_MOST_ENDINGS)
    )
    # Where the server never worked, that is the cause, whichever limit its failures ran into first.
    reason = PROVIDER_UNAVAILABLE if endings.is_provider_down else halt.reason or NO_OUTPUT
    said = "; ".join(
        filter(None, (f"no row was answered: {counts}", f"model {name} was called {calls} times", halt.words))
    )
    return ExecutionFailed(said, reason=reason)


def _open(
    task: InferenceParameters, endpoint: ModelEndpoint | None, context: Context, policy: RetryPolicy
) -> PaidModel | Program:
    if endpoint is not None:
        return PaidModel(endpoint, context, limits=task.budget, policy=policy)
    assert not isinstance(task.target, ModelTarget)  # noqa: S101  # for the type checker
    named = named_models({"target.models": task.target.models}, context, task.budget)
    return open_program(task.target, context, task.budget, endpoints=list(named.values()), policy=policy)


def _endpoint(task: InferenceParameters, context: Context) -> ModelEndpoint | None:
    """The chat model, None when the target is a program."""
    if not isinstance(task.target, ModelTarget):
        return None
    named = named_models({"target.model": [task.target.model]}, context, task.budget)
    return named[task.target.model]
