"""What a job of type `judge_scoring` may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from overmind_executors.calls.budget import Limits
from overmind_executors.judging.asking import Sampling
from overmind_executors.judging.injection import CANARIES
from overmind_executors.judging.judges import Manner
from overmind_executors.judging.rubric import (
    DEFAULT_CRITERIA,
    Route,
    RubricItem,
    ScoreType,
    items_from,
    route_of,
)
from overmind_executors.judging.wording import AnswerForm, pair_bytes, shown_bytes
from overmind_executors.parameters import Parameters
from overmind_executors.rows.source import RowPlace
from overmind_executors.scoring.dataset_metrics import Metrics
from overmind_executors.scoring.embedding import EmbeddingCosine
from overmind_executors.scoring.evaluators import Evaluators
from overmind_executors.scoring.items import Item

Criterion = Annotated[str, Field(min_length=1, max_length=4000)]
Model = Annotated[str, Field(min_length=1, max_length=255)]
RowEvaluators = Annotated[Evaluators | EmbeddingCosine, Field(discriminator="kind")]


class JudgeParameters(Sampling):
    """
    The judges, and how they are asked.

    Attributes:
        models: names that the host gave to endpoints; several are a panel.
        mode: `rubric`: questions about each output. `pairwise`: it, or the row's `compare_with`?
        criteria: rules in words, a question each; `rubric`: questions with weights. Without both there are five
            default ones, by the kind of output.
        answer: `word` for small models: each question by itself, answered with yes or no.
        ask: `each`: every question in a call of its own.
        votes: odd; how often each judge is asked, which needs a temperature.
        panel: `all`, or `cascade`: the next judge is asked only when the one before does not agree with itself; or
            `weighted`: all, and each counts by how often it agrees with people, learnt from half of the labels.
        min_agreement: below that confidence the panel abstains.
        target_agreement: abstain below the confidence from which on judges agree with people that often; learnt
            from half of the labels.
        pass_threshold: the value from which on an output passes.
        max_items: the judges see a sample of so many rows, drawn with the job's seed; 0 for all.
        same_family: `leave_out`: a judge is not asked about outputs of a model of its own family; `flag`: it is,
            and the result says what it gave them and what others.
        anchors: outputs with the `score` (0 to 1) that these judges gave them in an earlier job; they are judged
            again, before the first row, to see whether the judges have changed.
        on_drift: `fail`: no row is judged when they have.
        canaries: so many hostile outputs are judged besides, to see whether a judge can be talked round.
    """

    models: Annotated[list[Model], Field(min_length=1, max_length=9)]
    mode: Literal["rubric", "pairwise"] = "rubric"
    criteria: Annotated[list[Criterion], Field(min_length=1, max_length=100)] | None = None
    rubric: Annotated[list[RubricItem], Field(min_length=1, max_length=100)] | None = None
    score_type: ScoreType = "numeric"
    answer: AnswerForm = "json"
    ask: Literal["together", "each"] = "together"
    votes: Annotated[int, Field(ge=1, le=15)] = 1
    panel: Literal["all", "cascade", "weighted"] = "all"
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.0
    target_agreement: Annotated[float, Field(gt=0, lt=1)] | None = None
    pass_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    max_items: Annotated[int, Field(ge=0)] = 0
    canaries: Annotated[int, Field(ge=0, le=len(CANARIES))] = 0
    same_family: Literal["flag", "leave_out"] = "flag"
    anchors: Annotated[list[dict[str, Any]], Field(max_length=1000)] = Field(default_factory=list)
    on_drift: Literal["tell", "fail"] = "tell"
    compare_with: Annotated[str, Field(min_length=1, max_length=200)] = "baseline_output"

    @field_validator("anchors")
    @classmethod
    def _check_anchors(cls, anchors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, anchor in enumerate(anchors):
            score = anchor.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise ValueError(f"anchor {number} needs a score from 0 to 1")
            if "output" not in anchor:
                raise ValueError(f"anchor {number} needs an output")
        return anchors

    @model_validator(mode="after")
    def _holds_together(self) -> JudgeParameters:
        if self.criteria and self.rubric:
            raise ValueError("criteria and rubric are one thing; give one")
        names = [question.id for question in self.rubric or ()]
        if len(set(names)) != len(names):
            raise ValueError("two questions of the rubric have one id")
        if len(set(self.models)) != len(self.models):
            raise ValueError("a judge stands twice in models; use votes to ask it again")
        if self.votes % 2 == 0:
            raise ValueError("votes must be odd, so that most of them say one thing")
        if self.votes > 1 and self.temperature == 0:
            raise ValueError("votes at temperature 0 are the same answer again; set a temperature")
        if self.answer == "word" and any(question.evidence for question in self.rubric or ()):
            raise ValueError("a question with evidence needs answer 'json'")
        if self.panel == "cascade" and not self.min_agreement:
            raise ValueError("a cascade needs min_agreement: below it the next judge is asked")
        if self.panel == "weighted" and self.target_agreement is not None:
            raise ValueError("weights and target_agreement would be learnt from the same labels; give one")
        if self.on_drift == "fail" and not self.anchors:
            raise ValueError("on_drift 'fail' needs anchors")
        if self.mode == "pairwise" and self.canaries:
            raise ValueError("canaries are for mode 'rubric'")
        return self

    @property
    def criteria_source(self) -> str:
        """Where the questions are from."""
        return "parameters" if self.criteria or self.rubric else "default"

    @property
    def learns(self) -> bool:
        """Whether labels say how far the judges are believed."""
        return self.target_agreement is not None or self.panel == "weighted"

    @property
    def passes_at(self) -> float | None:
        """The value from which on an output passes, None where nobody has said."""
        if self.pass_threshold is not None:
            return self.pass_threshold
        return 1.0 if self.score_type == "boolean" and self.mode == "rubric" else None

    def rubrics(self) -> dict[Route, tuple[RubricItem, ...]]:
        """The questions for each kind of output."""
        given = tuple(self.rubric) if self.rubric else items_from(self.criteria) if self.criteria else None
        return {route: given or items_from(DEFAULT_CRITERIA[route]) for route in Route}

    def bytes_shown(self, item: Item) -> int:
        """How many bytes a judge is shown of *item*."""
        if self.mode == "pairwise":
            return pair_bytes(item, item.source.get(self.compare_with))
        return shown_bytes(item, route_of(item))

    def manner(self, timeout_s: float) -> Manner:
        """How a judge is asked."""
        sampling = Sampling(**self.model_dump(include=set(Sampling.model_fields)))
        return Manner(
            sampling, self.answer, self.votes, self.ask == "each", self.score_type, self.passes_at, timeout_s
        )


class Labels(Parameters):
    """
    What people have said of the outputs.

    Attributes:
        fields: of the row, one for each person: true or false, pass or fail, or a number from 0 to 1. Several are
            brought together by majority, and their agreement is the ceiling for the judge's.
        pass_threshold: the number from which on a label says that the output is fine.
    """

    fields: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=50)]
    pass_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5


class JudgeScoringParameters(RowPlace):
    """
    One job.

    Attributes:
        evaluators: for each row, deterministic but for those that have a model; metrics: for all rows together.
        max_items: a sample of so many rows, drawn with *seed*; 0 for all.
        item_timeout_s: how long one call may take in all.
        stop_after_errors: that many rows in a row that no judge could score end the work.
    """

    evaluators: Annotated[list[RowEvaluators], Field(max_length=50)] = Field(default_factory=list)
    metrics: Annotated[list[Metrics], Field(max_length=30)] = Field(default_factory=list)
    judge: JudgeParameters | None = None
    labels: Labels | None = None
    max_items: Annotated[int, Field(ge=0)] = 0
    seed: int = 0
    concurrency: Annotated[int, Field(ge=1, le=256)] = 10
    item_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    stop_after_errors: Annotated[int, Field(ge=0)] = 20
    budget: Limits = Limits()

    @model_validator(mode="after")
    def _holds_together(self) -> JudgeScoringParameters:
        if not (self.evaluators or self.metrics or self.judge):
            raise ValueError("nothing to score with: give evaluators, metrics or a judge")
        titles = [one.title for one in (*self.evaluators, *self.metrics)]
        if twice := [title for title in titles if titles.count(title) > 1 or title == JUDGE]:
            raise ValueError(f"two evaluators are called {twice[0]!r}; give one a name")
        if self.labels and self.judge and self.judge.passes_at is None:
            raise ValueError("labels say pass or fail, so judge.pass_threshold has to say when an output passes")
        if self.judge and self.judge.target_agreement is not None and not self.labels:
            raise ValueError("judge.target_agreement is learnt from labels; give labels")
        if self.judge and self.judge.panel == "weighted" and not self.labels:
            raise ValueError("the weights of a panel are learnt from labels; give labels")
        return self


JUDGE = "judge"
"""Under which the judges' scores are shown."""

TOO_MANY_ERRORS = "too_many_errors"
"""Why a model is asked no more after `stop_after_errors`."""
