"""The job type `judge_scoring`: a typed score for every row, and what they say together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.calls.allowed_models import named_models
from overmind_executors.calls.answer_cache import AnswerCache
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import Account, PaidModel
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    Problem,
    Result,
)
from overmind_executors.judge_scoring.drift import ANCHOR_FILE, JUDGE_DRIFTED, anchored, drift_figures
from overmind_executors.judge_scoring.embedding import EMBEDDING_FILE, Embedding, embedding_figures, usage_with
from overmind_executors.judge_scoring.estimate import estimate
from overmind_executors.judge_scoring.figures import canary_figures, figures_of
from overmind_executors.judge_scoring.lessons import Lessons
from overmind_executors.judge_scoring.lines import CANARY_FILE, SCORES, line_of, result_lines
from overmind_executors.judge_scoring.parameters import (
    TOO_MANY_ERRORS,
    JudgeParameters,
    JudgeScoringParameters,
)
from overmind_executors.judge_scoring.recounting import SUMMARY
from overmind_executors.judge_scoring.report import report_of
from overmind_executors.judge_scoring.scorer import Panel, RowScorer
from overmind_executors.judge_scoring.source import Selection, select
from overmind_executors.judging.injection import CANARIES
from overmind_executors.parameters import check
from overmind_executors.rows.engine import in_threads
from overmind_executors.rows.rows import Row
from overmind_executors.rows.source import RowPlace
from overmind_executors.scoring.evaluator import Evaluator, NotInstalled
from overmind_executors.scoring.items import Item, item_of
from overmind_executors.scoring.scores import Outcome
from overmind_executors.statistics.agreement import INSTALL_STATS

NO_SCORE: Final = "no_score"
_ROWS_AHEAD: Final = 16
_MOST_CODES: Final = 5

# Where rows come from: what is not needed to make the figures again.
_ROWS: Final = set(RowPlace.model_fields)


class JudgeScoringExecutor:
    """Fills the port `Executor`. Resumable: what a judge has answered is in the journal of paid calls."""

    job_type = "judge_scoring"
    is_resumable = True

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy

    def validate(self, parameters: Mapping[str, Any]) -> JudgeScoringParameters:
        """The parameters, typed; raises InvalidParameters naming every wrong field."""
        return check(JudgeScoringParameters, parameters)

    def run(self, task: JudgeScoringParameters, context: Context) -> Result:
        """Score every row; see the contract for what is raised."""
        _prepare(task)
        endpoints = named_models({"judge.models": task.judge.models if task.judge else ()}, context, task.budget)
        embedding = Embedding(task, context)
        selection = select(task, context)
        policy, is_kept = self._policy or RetryPolicy(), context.answers_kept is not None
        expected = embedding.expected(selection, may_be_known=is_kept)
        needs = estimate(task, endpoints, selection, policy, may_be_known=is_kept, embedding=expected).as_json()
        context.log.info("rows.surveyed", rows=selection.total, judges=len(endpoints), estimate=needs)
        with ExitStack() as stack:
            account = stack.enter_context(Account(context, task.budget, self._policy))
            models = [account.open(one) for one in endpoints.values()]
            work = _Scoring(task, context, selection, models, account)
            anchors = work.all_anchors()
            cache = None
            if context.answers_kept is not None:
                cache = stack.enter_context(AnswerCache(context.answers_kept))
                for model in models:  # not before the anchors, which ask what the judges say now
                    model.cache = cache
            work.all_rows(stack.enter_context(embedding.done(selection, account, cache)))
            canaries = work.all_canaries()
            lives, calls = account.calls.lives(), account.calls.spent().calls
        facts = figures_of(context.output / SCORES, task)
        facts["embeddings"] = embedding_figures(result_lines(context.output, EMBEDDING_FILE))
        facts["usage"] = usage_with(facts["usage"], facts["embeddings"])
        facts |= _about(task, canaries, work.learnt, account.halted_by) | {
            "drift": drift_figures(anchors),
            "estimate": needs,
        }
        facts["usage"] |= {"model_calls": calls, "prices": account.prices()}
        facts["partial"] |= facts["error"] > 0
        facts["status"] = "partial" if facts["partial"] else "completed"
        facts["resumed_calls"], facts["calling_s"] = lives.resumed_rows, round(lives.seconds, 3)
        if not facts["scored"] and all(metric["value"] is None for metric in facts["metrics"].values()):
            raise _nothing_scored(facts, account.halted_by, account.halted_words)
        said = task.model_dump(mode="json", by_alias=True, exclude=_ROWS, exclude_unset=True)
        summary = {**facts, "task": said}
        (context.output / SUMMARY).write_text(strict_json.dumps(summary) + "\n", encoding="utf-8")
        context.log.info("rows.finished", **facts["counts"], termination_reason=facts["termination_reason"])
        told = report_of(facts)
        has = {CANARY_FILE: canaries, ANCHOR_FILE: anchors, EMBEDDING_FILE: facts["embeddings"]}
        besides = [name for name, lines in has.items() if lines]
        files = [SCORES, *besides, SUMMARY, *report.write(told, context.output)]
        return Result(tuple(files), report.with_text(facts, told))


class _Scoring:
    """One run over all rows."""

    def __init__(
        self,
        task: JudgeScoringParameters,
        context: Context,
        selection: Selection,
        models: Sequence[PaidModel],
        account: Account,
    ) -> None:
        self._task = task
        self._context = context
        self._selection = selection
        self._models = models
        self._account = account
        self._panel = Panel(task.judge, models, timeout_s=task.item_timeout_s) if task.judge else None
        self._failed_in_a_row = 0
        self._first: Item | None = None
        self.learnt: dict[str, Any] = {"confidence_needed": None, "weights": None}

    def all_rows(self, evaluators: Sequence[Evaluator]) -> None:
        """Write a line for every row; then, where labels say how far the judges are believed, write it anew."""
        scorer = RowScorer(self._task, evaluators, self._panel, self._selection.judged)
        gates = frozenset(one.title for one in self._task.evaluators if one.gate)
        lessons = Lessons(self._task.judge) if self._task.judge and self._task.judge.learns else None
        path = self._context.state / "first_scores.jsonl" if lessons else self._context.output / SCORES
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for number, scored in enumerate(self._in_order(scorer.score, self._rows()), start=1):
                line = line_of(scored, gates)
                file.write(strict_json.dumps(line) + "\n")
                self._give_up_after_errors(line)
                if lessons:
                    lessons.add(line)
                self._context.report(number, self._selection.total, "rows")
        if lessons:
            self.learnt = lessons.learnt()
            self._revise(path, lessons)

    def all_canaries(self) -> list[dict[str, Any]]:
        """What the panel says of hostile outputs; each is judged by itself, as every row is."""
        if self._panel is None or self._task.judge is None or self._first is None or not self._task.judge.canaries:
            return []
        panel, first = self._panel, self._first
        names = list(CANARIES)[: self._task.judge.canaries]
        said = self._in_order(lambda name: (name, panel.canary(name, first)), names)
        lines = [
            {
                "canary": name,
                **judged.score.as_json(),
                "passes": judged.passes,
                "leaked": judged.passes is True or (judged.passes is None and (judged.score.value or 0) >= 0.5),
            }
            for name, judged in said
        ]
        self._write(CANARY_FILE, lines)
        return lines

    def all_anchors(self) -> list[dict[str, Any]]:
        """What the panel says of outputs that it has judged before; raises ExecutionFailed if that ends the job."""
        if self._panel is None or self._task.judge is None or not self._task.judge.anchors:
            return []
        panel = self._panel
        said = self._in_order(lambda anchor: (*anchor, panel.anchor(anchor[0])), anchored(self._task.judge.anchors))
        lines = [{"item_id": item.id, "reference": then, **judged.score.as_json()} for item, then, judged in said]
        self._write(ANCHOR_FILE, lines)
        drift = drift_figures(lines) or {}
        if self._task.judge.on_drift == "fail" and drift["has_drifted"]:
            low, high = drift["interval_95"]
            raise ExecutionFailed(
                f"the judges score {drift['judged']} anchors by {drift['difference']:+.3f} otherwise than before "
                f"(95 %: {low:+.3f} to {high:+.3f}); no row was judged",
                reason=JUDGE_DRIFTED,
            )
        return lines

    def _write(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(strict_json.dumps(line) + "\n" for line in lines)
        (self._context.output / name).write_text(text, encoding="utf-8")

    def _rows(self) -> Iterator[Any]:
        for row in self._selection.rows():
            if self._first is None and isinstance(row, Row) and not (item := item_of(row)).absence:
                self._first = item
            yield row

    def _in_order(self, work: Any, rows: Any) -> Iterator[Any]:
        limits = [model.endpoint.max_concurrency for model in self._models]
        workers = min([self._task.concurrency, *([max(limits)] if limits else [1])])
        stop, cut = self._context.stop, self._account.cut_after
        yield from in_threads(rows, work, workers=workers, ahead=_ROWS_AHEAD, stop=stop, cut_after=cut)

    def _give_up_after_errors(self, line: Mapping[str, Any]) -> None:
        if not line["calls"]:
            return
        self._failed_in_a_row = self._failed_in_a_row + 1 if line["outcome"] == Outcome.ERROR else 0
        if self._task.stop_after_errors and self._failed_in_a_row >= self._task.stop_after_errors:
            self._account.halt(TOO_MANY_ERRORS)

    def _revise(self, path: Path, lessons: Lessons) -> None:
        with (
            path.open(encoding="utf-8") as lines,
            (self._context.output / SCORES).open("w", encoding="utf-8", newline="\n") as file,
        ):
            for line in lines:
                file.write(strict_json.dumps(lessons.revised(json.loads(line), self.learnt)) + "\n")


def _about(
    task: JudgeScoringParameters,
    canaries: Sequence[Mapping[str, Any]],
    learnt: Mapping[str, Any],
    halted: str | None,
) -> dict[str, Any]:
    """How the scores were made."""
    about: dict[str, Any] = {
        "status": "completed",
        "partial": halted is not None,
        "termination_reason": halted or "completed",
        "dataset_id": task.dataset_id,
        "seed": task.seed,
        "judge": None,
        "canaries": canary_figures(canaries),
    }
    if task.judge is not None:
        about["judge"] = {**_manner(task.judge), **learnt}
    return about


def _manner(judge: JudgeParameters) -> dict[str, Any]:
    questions = {r.value: [q.model_dump(exclude_none=True) for q in items] for r, items in judge.rubrics().items()}
    digest = hashlib.sha256(strict_json.canonical(questions)).hexdigest()
    said = judge.model_dump(
        include={"models", "mode", "votes", "panel", "answer", "ask", "score_type", "temperature", "min_agreement"}
    )
    return {**said, "criteria_source": judge.criteria_source, "criteria_sha256": digest}


def _prepare(task: JudgeScoringParameters) -> None:
    """Raises InvalidParameters naming every evaluator that cannot work on this host."""
    problems = []
    if task.judge is not None and task.judge.anchors and find_spec("scipy") is None:
        problems.append(Problem("judge.anchors", f"scipy is not installed; {INSTALL_STATS}"))
    for where, ones in (("evaluators", task.evaluators), ("metrics", task.metrics)):
        for number, one in enumerate(ones):
            try:
                one.prepare()
            except NotInstalled as error:
                problems.append(Problem(f"{where}.{number}", str(error)))
            except ValueError as error:
                problems.append(Problem(f"{where}.{number}", f"cannot be used: {str(error)[:200]}"))
    if problems:
        raise InvalidParameters(*problems)


def _nothing_scored(facts: Mapping[str, Any], halted_by: str | None, words: str) -> ExecutionFailed:
    """Never with the words of a judge or of the model's server: this goes into logs and statuses."""
    codes = sorted(facts["codes"].items(), key=lambda pair: -pair[1])[:_MOST_CODES]
    counts = ", ".join(f"{count} x {code}" for code, count in codes) or "nothing applied"
    said = "; ".join(filter(None, (f"no row was scored: {counts}", words)))
    return ExecutionFailed(said, reason=halted_by or NO_SCORE)
