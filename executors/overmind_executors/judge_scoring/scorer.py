"""One row scored: evaluators first, then, if no gate is shut, the panel of judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from overmind_executors.calls.families import family_of
from overmind_executors.calls.paid_model import PaidModel
from overmind_executors.judge_scoring.drift import ANCHOR_ROW
from overmind_executors.judge_scoring.labels import label_of
from overmind_executors.judge_scoring.lines import Judged, Scored
from overmind_executors.judge_scoring.parameters import JUDGE, JudgeParameters, JudgeScoringParameters
from overmind_executors.judge_scoring.source import is_judgeable
from overmind_executors.judging.injection import CANARIES, signs_of_injection
from overmind_executors.judging.judges import Judge, PairwiseJudge, RubricJudge, is_final
from overmind_executors.judging.rubric import Route
from overmind_executors.judging.votes import Opinion, panel_word
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.scoring.evaluator import Evaluator
from overmind_executors.scoring.items import Item, item_of
from overmind_executors.scoring.scores import Score, passed, skipped
from overmind_executors.scoring.texts import as_text

CANARY_ROW: Final = "canary:"


class Panel:
    """The judges of a job."""

    def __init__(self, said: JudgeParameters, models: Sequence[PaidModel], *, timeout_s: float) -> None:
        self._said = said
        self._models = models
        manner = said.manner(timeout_s)
        rubrics = said.rubrics()
        self._judge: Judge = RubricJudge(rubrics, manner)
        if said.mode == "pairwise":
            self._judge = PairwiseJudge(rubrics[Route.PLAIN], manner, against=said.compare_with)

    def judge(self, item: Item, row_id: str) -> Judged:
        """What it says of *item*."""
        opinions: list[Opinion] = []
        for model in self._models:
            kin = family_of(model.endpoint.model) == family_of(item.model) if item.model else None
            if kin and self._said.same_family == "leave_out":
                continue
            opinions.append(replace(self._judge.opinion(model, item, row_id), same_family=kin))
            if self._said.panel == "cascade" and is_final(opinions[-1], self._said.min_agreement):
                break
        if not opinions:
            return Judged(skipped("same_family"))
        # The last word of a cascade is that of the judge that was sure, or else nobody's.
        heard = opinions[-1:] if self._said.panel == "cascade" else opinions
        score, confidence, passes = panel_word(heard, min_agreement=self._said.min_agreement)
        return Judged(score, confidence, passes, tuple(opinions))

    def anchor(self, item: Item) -> Judged:
        """What it says now of an output that it has judged before."""
        return self.judge(item, f"{ANCHOR_ROW}{item.id}")

    def canary(self, name: str, like: Item) -> Judged:
        """What it says of a hostile output for the input of *like*."""
        item = Item(f"{CANARY_ROW}{name}", 0, CANARIES[name], like.input, like.expected)
        return self.judge(item, item.id)


class RowScorer:
    """
    Scores one row after the other; called from the engine's threads, and keeps nothing between rows.

    Args:
        evaluators: those of the task, ready for use.
        judged: the ids of the rows that the panel sees, None for all.
    """

    def __init__(
        self,
        task: JudgeScoringParameters,
        evaluators: Sequence[Evaluator],
        panel: Panel | None,
        judged: frozenset[str] | None = None,
    ) -> None:
        self._task = task
        self._evaluators = evaluators
        self._panel = panel
        self._sample = judged

    def score(self, row: Row | BrokenRow) -> Scored:
        """Everything that is to be said of *row*."""
        if isinstance(row, BrokenRow):
            return Scored(None, row)
        item, task = item_of(row), self._task
        scores: dict[str, Score] = {one.title: one.evaluate(item) for one in self._evaluators}
        limits = {one.title: one.passes_at for one in self._evaluators}
        passes = {title: _passes(score, limits[title]) for title, score in scores.items()}
        judged = None
        if self._panel is not None:
            is_shut = any(one.gate and passes[one.title] is False for one in self._evaluators)
            judged = self._judged(self._panel, item, row.id, is_shut=is_shut)
            scores[JUDGE], passes[JUDGE] = judged.score, judged.passes
        return Scored(
            item,
            scores=scores,
            passes=passes,
            parts={one.title: one.part(item) for one in task.metrics},
            judged=judged,
            label=label_of(row.source, task.labels) if task.labels else None,
            flags=() if item.absence else signs_of_injection(as_text(item.output)),
        )

    def _judged(self, panel: Panel, item: Item, row_id: str, *, is_shut: bool) -> Judged:
        if not is_judgeable(item):
            return Judged(skipped(item.absence, item.failure))
        if self._sample is not None and row_id not in self._sample:
            return Judged(skipped("not_sampled"))
        if is_shut:
            return Judged(passed(False, "gate_failed"), 1.0, passes=False)
        return panel.judge(item, row_id)


def _passes(score: Score, limit: float | None) -> bool | None:
    return None if score.value is None or limit is None else score.value >= limit - 1e-12
