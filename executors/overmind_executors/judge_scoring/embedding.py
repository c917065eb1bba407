"""What a job's evaluators need of models for embeddings: named, forecast, done before the first row, told after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.allowed_models import named_models
from overmind_executors.calls.answer_cache import AnswerCache
from overmind_executors.calls.forecast import Calls
from overmind_executors.calls.paid_model import Account
from overmind_executors.contract import Context
from overmind_executors.judge_scoring.embedder import Batch, Embedder, Needs, batches
from overmind_executors.judge_scoring.parameters import TOO_MANY_ERRORS, JudgeScoringParameters
from overmind_executors.judge_scoring.source import Selection
from overmind_executors.rows.engine import in_threads
from overmind_executors.scoring.embedding import EmbeddingCosine
from overmind_executors.scoring.evaluator import Evaluator

EMBEDDING_FILE: Final = "embeddings.jsonl"
_BATCHES_AHEAD: Final = 2


class Embedding:
    """
    Of one job; does nothing in one whose evaluators need no vectors.

    Raises:
        InvalidParameters, ExecutionFailed: a model is not to be had, see `named_models`.
    """

    def __init__(self, task: JudgeScoringParameters, context: Context) -> None:
        self._task = task
        self._context = context
        ones = [(n, one) for n, one in enumerate(task.evaluators) if isinstance(one, EmbeddingCosine)]
        places = {f"evaluators.{number}.model": [one.model] for number, one in ones}
        self._models = named_models(places, context, task.budget, "embeddings")
        self._ones = {name: [one for _, one in ones if one.model == name] for name in self._models}
        self._needs: dict[str, Needs] = {}

    def expected(self, selection: Selection, *, may_be_known: bool) -> list[Calls]:
        """What the models will be asked, for the forecast: a look at every row."""
        self._needs = {name: Needs.of(batches(ones, selection.rows())) for name, ones in self._ones.items()}
        return [
            calls
            for name, needs in self._needs.items()
            for calls in needs.as_calls(self._models[name], may_be_known=may_be_known)
        ]

    @contextmanager
    def done(
        self, selection: Selection, account: Account, cache: AnswerCache | None
    ) -> Iterator[Sequence[Evaluator]]:
        """
        Ask for all vectors; the evaluators of the job, ready for use within.

        Raises:
            WorkStopped: the job was asked to stop.
        """
        with ExitStack() as stack:
            embedders = {}
            path = self._context.output / EMBEDDING_FILE
            if self._models:
                lines = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            for name, endpoint in self._models.items():
                model = account.open(endpoint)
                model.cache = cache
                embedders[name] = Embedder(model, self._context.state, timeout_s=self._task.item_timeout_s)
                stack.callback(embedders[name].close)
                for batch in self._batches(embedders[name], selection, account):
                    lines.writelines(strict_json.dumps(line) + "\n" for line in batch.lines)
            yield [
                one.over(embedders[one.model].vector) if isinstance(one, EmbeddingCosine) else one
                for one in self._task.evaluators
            ]

    def _batches(self, embedder: Embedder, selection: Selection, account: Account) -> Iterator[Batch]:
        """What came of each batch, which *embedder* then knows."""
        endpoint, task = embedder.model.endpoint, self._task
        known = 0
        for batch in in_threads(
            batches(self._ones[endpoint.name], selection.rows()),
            embedder.ask,
            workers=min(task.concurrency, endpoint.max_concurrency),
            ahead=_BATCHES_AHEAD,
            stop=self._context.stop,
            cut_after=account.cut_after,
        ):
            embedder.take(batch)
            if task.stop_after_errors and embedder.failed_in_a_row >= task.stop_after_errors:
                embedder.model.halt.set(TOO_MANY_ERRORS)
            known += len(batch.found)
            self._context.report(known, self._needs[endpoint.name].texts, "texts")
            yield batch


def embedding_figures(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]] | None:
    """For each model the texts that have a vector, the calls, tokens and US dollars; None without any line."""
    models: dict[str, dict[str, Any]] = {}
    for line in lines:
        one = models.setdefault(
            line["model"],
            {"texts": 0, "calls": 0, "cached": 0, "prompt_tokens": 0, "cost_usd": 0.0, "outcomes": {}},
        )
        one["texts"] += line["vectors"]
        for key in ("calls", "cached", "prompt_tokens"):
            one[key] += line[key]
        one["cost_usd"] = _plus(one["cost_usd"], line["cost_usd"])
        one["outcomes"][line["outcome"]] = one["outcomes"].get(line["outcome"], 0) + 1
    return models or None


def usage_with(usage: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """*usage* of the judges with that of embeddings."""
    ones = list((figures or {}).values())
    cost = usage["cost_usd"]
    for one in ones:
        cost = _plus(cost, one["cost_usd"])
    tokens = sum(one["prompt_tokens"] for one in ones)
    return {
        **usage,
        "cached_answers": usage["cached_answers"] + sum(one["cached"] for one in ones),
        "prompt_tokens": usage["prompt_tokens"] + tokens,
        "total_tokens": usage["total_tokens"] + tokens,
        "cost_usd": cost,
    }


def _plus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else round(left + right, 10)
