"""One job of type `model_backtesting`: rows to all models, their answers to a decision."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final

from overmind_executors import report, strict_json
from overmind_executors.backtesting.asking import Piece, RowAsker, piece_of
from overmind_executors.backtesting.estimate import estimate, least
from overmind_executors.backtesting.figures import ROWS, evidence_in, figures_of
from overmind_executors.backtesting.hosted import Hosted, hosted
from overmind_executors.backtesting.outcome import fitted
from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.backtesting.racing import hopeless, looks
from overmind_executors.backtesting.recounting import SUMMARY
from overmind_executors.backtesting.report import PARETO, pareto_svg, report_of
from overmind_executors.backtesting.results import backtest_results, recommendations, score_fields
from overmind_executors.calls.forecast import refuse_beyond
from overmind_executors.calls.pace import Pace, pace_of
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import Account, PaidModel
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    Problem,
    Result,
)
from overmind_executors.inference.parameters import InferenceParameters, ModelTarget
from overmind_executors.inference.source import survey
from overmind_executors.rows.engine import in_threads
from overmind_executors.rows.replays import is_replay
from overmind_executors.rows.rows import Row
from overmind_executors.rows.source import RowPlace, find_rows
from overmind_executors.scoring.evaluator import NotInstalled

NO_OUTPUT: Final = "no_output"
TOO_MANY_ERRORS: Final = "too_many_errors"
_ROWS_AHEAD: Final = 4
_MOST_ENDINGS: Final = 5
_ASKED: Final = ("input", "expected_output")
_RECORDED: Final = (*_ASKED, "output")
# Where rows come from: what is not needed to make the figures again.
_PLACE: Final = frozenset(RowPlace.model_fields)


def run(task: BacktestingParameters, context: Context, policy: RetryPolicy | None) -> Result:
    """Ask, score, decide; see the executor contract for what is raised."""
    _prepare(task)
    host = hosted(task, context)
    rows = _rows(task, context)
    wanted = policy or RetryPolicy()
    expected = estimate(task, rows, host.endpoints, wanted)
    limits = task.budget.within(context.spend_limits)
    fewest = least(task, rows, host.endpoints, wanted)
    refuse_beyond(limits, fewest, "low", "the fewest rows that a verdict needs take at least")
    context.log.info("job.estimated", rows=len(rows), models=len(task.asked), estimate=expected.as_json())
    with Account(context, task.budget, policy) as account:
        models = {name: account.open(host.endpoints[name]) for name in task.asked}
        judges = [account.open(host.endpoints[name]) for name in (task.judge.models if task.judge else ())]
        asking = _Asking(task, context, models, judges, account)
        asking.all_rows(rows)
        halted = account.halted_by
        spent, lives = account.calls.spent(), account.calls.lives()
    facts = figures_of(context.output / ROWS, task, host.guards)
    if not any(one["answered"] for one in facts["models"].values()):
        raise _nothing_came(facts, spent.calls, halted, account.halted_words)
    data = hashlib.sha256(strict_json.canonical([dict(row.source) for row in rows])).hexdigest()
    about = {
        "termination_reason": halted or "completed",
        "data_sha256": data,
        "seed": task.seed,
        "identities": host.identities,
        "usage": {
            "model_calls": spent.calls,
            "tokens": spent.tokens,
            "cost_usd": None if expected.cost_usd is None else round(spent.usd, 8),
        },
        "estimate": expected.as_json(),
        "resumed_calls": lives.resumed_rows,
        "calling_s": round(lives.seconds, 3),
    }
    return _results(task, context, host, facts, about)


class _Asking:
    """One run over all rows."""

    def __init__(
        self,
        task: BacktestingParameters,
        context: Context,
        models: Mapping[str, PaidModel],
        judges: Sequence[PaidModel],
        account: Account,
    ) -> None:
        self._task = task
        self._context = context
        self._models = models
        self._judges = judges
        self._account = account
        self._asker = RowAsker(task, models, judges)
        self._failed_in_a_row: Counter[str] = Counter()
        self._running = list(task.asked)
        self._done = 0

    def all_rows(self, rows: Sequence[Row]) -> None:
        """Write a line for every row and repetition, in the order of asking; a race may end for some on the way."""
        racing, path = self._task.racing, self._context.output / ROWS
        begin = 0
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for end in looks(len(rows), racing):
                self._ask(rows[begin:end], len(rows) * self._task.repetitions, file)
                begin = end
                candidates = [name for name in self._running if name != self._task.current_model]
                if racing is None or end == len(rows) or not candidates:
                    continue
                file.flush()
                gone = hopeless(evidence_in(path, self._task), candidates, self._task.rule, racing)
                self._context.log.info("race.looked", rows=end, out=len(gone), running=len(candidates) - len(gone))
                self._running = [name for name in self._running if name not in gone]

    def _ask(self, rows: Sequence[Row], total: int, file: IO[str]) -> None:
        for line in self._in_order(self._pieces(rows)):
            file.write(strict_json.dumps(line) + "\n")
            self._give_up(line)
            self._done += 1
            self._pace(total).tell(self._context, self._done, total, "rows")

    def _pace(self, total: int) -> Pace:
        spent = self._account.purse.spent()
        left = spent.calls * (total - self._done) / self._done
        is_priced = all(model.prices is not None for model in (*self._models.values(), *self._judges))
        return pace_of(spent, calls_left=left, is_priced=is_priced)

    def _pieces(self, rows: Sequence[Row]) -> Iterator[Piece]:
        for row in rows:
            for repetition in range(self._task.repetitions):
                yield piece_of(row, repetition, self._running, self._task.seed)

    def _in_order(self, pieces: Iterator[Piece]) -> Iterator[dict[str, Any]]:
        workers, stop, cut = self._task.concurrency, self._context.stop, self._account.cut_after
        work = self._asker.ask
        yield from in_threads(pieces, work, workers=workers, ahead=_ROWS_AHEAD, stop=stop, cut_after=cut)

    def _give_up(self, line: Mapping[str, Any]) -> None:
        """A model that only fails is not asked any more, and without the incumbent nobody is."""
        limit = self._task.stop_after_errors
        for name, cell in line["models"].items():
            if not cell["asked"] or name not in self._models:
                continue
            self._failed_in_a_row[name] = 0 if cell["answered"] else self._failed_in_a_row[name] + 1
            if limit and self._failed_in_a_row[name] >= limit:
                self._models[name].halt.set(TOO_MANY_ERRORS)
        incumbent = self._models.get(self._task.current_model)
        reason = incumbent.halt.reason if incumbent else None
        if reason is None and any(judge.halt.reason for judge in self._judges):
            reason = next(judge.halt.reason for judge in self._judges if judge.halt.reason)
        if reason is not None:
            self._account.halt(reason)


def _rows(task: BacktestingParameters, context: Context) -> list[Row]:
    """
    The rows in the order of asking, which is drawn from the seed: their first part is a fair sample of them.

    Raises:
        InvalidParameters: there are none that can be asked about.
        WorkStopped: the job was asked to stop.
    """
    source = find_rows(task, context, wanted=_RECORDED if task.is_recorded else _ASKED)
    for prompt in [task.prompt_of(name) for name in task.asked if name in task.settings] or [task.prompt]:
        target = ModelTarget(model="any", **dict(prompt))
        survey(source, InferenceParameters(format=task.format, target=target), context.stop)
    read = [row for row in source.rows() if isinstance(row, Row)]
    rows = [row for row in read if not is_replay(row)]
    if not rows:
        raise InvalidParameters(Problem("input", "every row is one that a job had made: its operation says so"))
    if len(rows) < len(read):
        context.log.info("rows.left_out", replays=len(read) - len(rows))

    def draw(row: Row) -> bytes:
        return hashlib.sha256(f"{task.seed}\n{row.id}".encode()).digest()

    return sorted(rows, key=draw)[: task.max_items or None]


def _prepare(task: BacktestingParameters) -> None:
    """Raises InvalidParameters naming every evaluator that cannot work on this host."""
    problems = []
    for number, one in enumerate(task.evaluators):
        try:
            one.prepare()
        except NotInstalled as error:
            problems.append(Problem(f"evaluators.{number}", str(error)))
        except ValueError as error:
            problems.append(Problem(f"evaluators.{number}", f"cannot be used: {str(error)[:200]}"))
    if problems:
        raise InvalidParameters(*problems)


def _results(
    task: BacktestingParameters, context: Context, host: Hosted, facts: dict[str, Any], about: dict[str, Any]
) -> Result:
    said = task.model_dump(mode="json", by_alias=True, exclude=set(_PLACE), exclude_unset=True)
    guards = {name: sorted(reasons) for name, reasons in host.guards.items()}
    summary = {**facts, **about, "guards": guards, "task": said}
    (context.output / SUMMARY).write_text(strict_json.dumps(summary) + "\n", encoding="utf-8")
    reports = report.write(report_of(summary, task, context.output / ROWS), context.output)
    files = [ROWS, SUMMARY, *reports]
    if svg := pareto_svg(facts):
        (context.output / PARETO).write_text(svg, encoding="utf-8")
        files.append(PARETO)
    context.log.info("backtest.decided", verdict=facts["decision"]["verdict"], reasons=facts["decision"]["reasons"])
    current = task.current_model
    outcome = {
        **_counts(facts, about),
        **score_fields(facts, current),
        "decision": facts["decision"],
        "recommendations": recommendations(facts, current),
        "current_model": current,
        "backtest_run_id": about["data_sha256"][:16],
        "identities": about["identities"],
        "usage": about["usage"],
        "estimate": about["estimate"],
        "resumed_calls": about["resumed_calls"],
        "backtest_results": backtest_results(facts, current),
        "report_markdown": (context.output / report.MARKDOWN).read_text(encoding="utf-8"),
    }
    return Result(tuple(files), fitted(outcome))


def _counts(facts: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """`spans_…` count pairs of model and row, as readers of the record know them."""
    models = facts["models"].values()
    asked, ok = sum(one["requests"] for one in models), sum(one["answered"] for one in models)
    is_partial = ok < asked or about["termination_reason"] != "completed"
    return {
        "status": "partial" if is_partial else "completed",
        "partial": is_partial,
        "termination_reason": about["termination_reason"],
        "counts": {"total": asked, "ok": ok, "failed": asked - ok, "skipped": 0},
        "models_tested": len(facts["models"]) - 1,
        "spans_tested": facts["rows"],
        "spans_succeeded": ok,
        "spans_failed": asked - ok,
        "pairs_total": asked,
        "pairs_ok": ok,
        "pairs_failed": asked - ok,
    }


def _nothing_came(facts: Mapping[str, Any], calls: int, halted: str | None, words: str) -> ExecutionFailed:
    """Never with the words of a model's server: this goes into logs and statuses."""
    outcomes: Counter[str] = Counter()
    for one in facts["models"].values():
        outcomes.update(one["outcomes"])
    counts = ", ".join(f"{count} x {outcome}" for outcome, count in outcomes.most_common(_MOST_ENDINGS))
    said = (f"no model answered any row: {counts}", f"{calls} calls were made", words)
    return ExecutionFailed("; ".join(filter(None, said)), reason=halted or NO_OUTPUT)
