"""What a job of type `prompt_tuning` may say."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from overmind_executors.calls.budget import Limits
from overmind_executors.inference.parameters import ModelTarget, TemplateMessage, Text
from overmind_executors.judge_scoring.parameters import JudgeParameters, JudgeScoringParameters, RowEvaluators
from overmind_executors.parameters import Parameters
from overmind_executors.rows.source import RowPlace
from overmind_executors.scoring.evaluators import Evaluators
from overmind_executors.scoring.text_checks import ExactMatch
from overmind_executors.tuning.merits import CandidateLimits, Objective
from overmind_executors.tuning.racing import Racing
from overmind_executors.tuning.texts import Prompt, guiding, texts_of
from overmind_executors.tuning.traffic_parameters import Traffic, WorstFirst

FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class TunedTarget(ModelTarget):
    """
    The chat model that the prompt is for; its prompt stands in `prompt`.

    Attributes:
        model: empty for the host's only model.
    """

    model: Annotated[str, Field(max_length=255)] = ""


class FeedbackFields(Parameters):
    """
    Where rows say what people thought of an earlier output.

    Attributes:
        labels: fields with a person's verdict, in any words.
        customer_feedback: fields with what a customer said.
        recorded_scores: fields with what a judge made of it: a number of 0 to 1, or `{"correctness",
            "correctness_reason"}`.
    """

    labels: Annotated[list[FieldName], Field(max_length=20)] = Field(default_factory=lambda: ["human_label"])
    customer_feedback: Annotated[list[FieldName], Field(max_length=20)] = Field(
        default_factory=lambda: ["customer_feedback"]
    )
    recorded_scores: Annotated[list[FieldName], Field(max_length=20)] = Field(
        default_factory=lambda: ["feedback_score"]
    )


class PromptTuningParameters(RowPlace):
    """
    One job.

    Attributes:
        traffic: how much recorded traffic there has to be; None for a person who decides that.
        worst_first: of recorded traffic the rows that did worst; None takes all rows.
        time_field: when a row was, ISO 8601 or a number since 1970; where rows have none the later one is newer.
        prompt: a system prompt, or the messages of a template.
        tune: the names of the texts that may change: `prompt`, or roles such as `system`; None for the system's.
        fixed: spans of the prompt that stay, letter by letter.
        evaluators, judge: what an output is worth; without both it has to equal the row's `expected_output`.
        analyzer_model: the host's name of the model that writes candidates; None for the target's own.
        drafts: texts that people wrote, tried before the analyzer is asked for any; for a prompt of one tuned text.
        search: `gepa`; or a control: `best_of_n`, which writes every candidate from the prompt as it was, or
            `random_rewrite`, whose writer is shown no row.
        objectives: in which respects a candidate may be better, for the search to go on with it. Latency is
            measured, so with it two runs of one job may search differently.
        constraints: what a candidate must keep to, measured where it is tried.
        racing: which candidates are not tried on all validation rows; None tries all of them.
        alpha: how likely a promotion may be when there is no gain. margin: the gain, in 0 to 1, to be exceeded.
        repeats: how often both prompts are asked about each held-out row; None for 1 at temperature 0, else 3.
        run_test_after_optimization: without the test nothing is promoted.
        prompt_template_version_id, prompt_template_id: of the control plane, which shows them.
    """

    max_items: Annotated[int, Field(ge=0)] = 0
    traffic: Traffic | None = None
    worst_first: WorstFirst | None = None
    time_field: FieldName = "started_at"
    prompt: Text | Annotated[list[TemplateMessage], Field(min_length=1, max_length=100)]
    target: TunedTarget = Field(default_factory=TunedTarget)
    tune: Annotated[list[FieldName], Field(min_length=1, max_length=100)] | None = None
    fixed: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=100)] = Field(default_factory=list)
    max_prompt_characters: Annotated[int, Field(ge=1, le=12_000)] = 8_000
    evaluators: Annotated[list[Evaluators], Field(max_length=100)] = Field(default_factory=list)
    judge: JudgeParameters | None = None
    analyzer_model: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    analyzer_temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    analyzer_max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    drafts: Annotated[list[Text], Field(max_length=100)] = Field(default_factory=list)
    search: Literal["gepa", "best_of_n", "random_rewrite"] = "gepa"
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)] = ("quality", "cost", "length")
    constraints: CandidateLimits = CandidateLimits()
    racing: Racing | None = Racing()
    num_iterations: Annotated[int, Field(ge=1, le=100)] = 5
    candidates_per_iteration: Annotated[int, Field(ge=1, le=20)] = 2
    examples_per_candidate: Annotated[int, Field(ge=1, le=20)] = 4
    holdout_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    max_holdout: Annotated[int, Field(ge=4, le=100_000)] = 400
    max_validation: Annotated[int, Field(ge=2, le=100_000)] = 100
    alpha: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.05
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repeats: Annotated[int, Field(ge=1, le=20)] | None = None
    seed: int = 0
    user_instructions: Annotated[str, Field(max_length=100_000)] | None = None
    use_best_practices: bool = True
    use_labels: bool = True
    use_customer_feedback: bool = True
    use_recorded_scores: bool = True
    run_test_after_optimization: bool = True
    feedback: FeedbackFields = Field(default_factory=FeedbackFields)
    prompt_template_version_id: str | None = None
    prompt_template_id: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 5
    item_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    budget: Limits = Limits()

    @model_validator(mode="after")
    def _holds_together(self) -> PromptTuningParameters:
        if self.target.system_prompt is not None or self.target.messages_template:
            raise ValueError("the prompt that is tuned stands in prompt, not in target")
        if self.holdout_share + self.validation_share >= 1:
            raise ValueError("holdout_share and validation_share leave no rows to learn from")
        if self.judge and self.judge.learns:
            raise ValueError("judge: target_agreement and panel 'weighted' need labels, which are not here")
        if self.judge and self.judge.mode != "rubric":
            raise ValueError("judge.mode must be 'rubric' here: each output is scored by itself")
        texts = texts_of(self.prompt)
        if twice := [name for name, times in Counter(self.tune or ()).items() if times > 1]:
            raise ValueError(f"tune names {twice[0]!r} twice")
        if unknown := [name for name in self.tune or () if name not in texts]:
            raise ValueError(f"tune names no text of the prompt: {unknown[0]!r}; it has {', '.join(texts)}")
        if self.drafts and len(self.tuned) != 1:
            raise ValueError(f"drafts are for one text; tune names {len(self.tuned)}")
        if gone := [span for span in self.fixed if not any(span in text for text in texts.values())]:
            raise ValueError(f"fixed span {len(gone[0])} characters long is not in the prompt")
        if sum(map(len, texts.values())) > self.max_prompt_characters:
            raise ValueError("the prompt itself is longer than max_prompt_characters")
        return self

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the texts that may change."""
        prompt: Prompt = self.prompt
        return tuple(self.tune) if self.tune else guiding(prompt)

    @property
    def times(self) -> int:
        """How often both prompts are asked about each held-out row."""
        return self.repeats or (1 if self.target.temperature == 0 else 3)

    def scoring(self) -> JudgeScoringParameters:
        """What an output is worth, as the scorer of rows takes it."""
        evaluators: list[RowEvaluators] = [*self.evaluators]
        if not evaluators and self.judge is None:
            evaluators = [ExactMatch(kind="exact_match")]
        return JudgeScoringParameters(
            items=[{}], evaluators=evaluators, judge=self.judge, item_timeout_s=self.item_timeout_s
        )
