"""What a job of type `model_backtesting` may say."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from overmind_executors.backtesting.rule import Rule
from overmind_executors.calls.budget import Limits
from overmind_executors.inference.parameters import Prompt
from overmind_executors.judge_scoring.parameters import JUDGE, JudgeParameters
from overmind_executors.parameters import Parameters
from overmind_executors.rows.source import RowPlace
from overmind_executors.scoring.evaluators import Evaluators

MOST_MODELS: Final = 12
"""So many findings fit into an outcome."""

# A prompt has one of them.
_WORDS: Final = frozenset({"system_prompt", "messages_template"})
_EFFORT: Final = re.compile(r"(?P<base>.+):reasoning-(?P<effort>[a-z]{1,16})")
Key = Annotated[str, Field(min_length=1, max_length=255)]
FieldName = Annotated[str, Field(min_length=1, max_length=64)]


class Setting(Prompt):
    """A model asked in a way of its own: what is given here takes the place of what the job's `prompt` says."""

    model: Key

    def over(self, prompt: Prompt) -> Prompt:
        """*prompt* with what differs."""
        own = self.model_dump(exclude_unset=True, exclude={"model"}, by_alias=True)
        others = prompt.model_dump(exclude_unset=True, by_alias=True)
        if own.keys() & _WORDS:
            others = {name: value for name, value in others.items() if name not in _WORDS}
        return Prompt.model_validate({**others, **own})


class Racing(Parameters):
    """
    When hopeless candidates go out; see `backtesting.racing`.

    Attributes:
        first_rows: after how many rows the first look is taken; the number doubles from look to look.
        alpha: the chance, at each look, that a candidate is taken out that should not have been.
    """

    first_rows: Annotated[int, Field(ge=10)] = 20
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class BacktestingParameters(RowPlace):
    """
    One job.

    Attributes:
        current_model: the incumbent, which is asked beside the others, so that all meet the same hour.
        baseline: `asked`, or `recorded`: the outputs of the incumbent stand in the rows' `output`, with
            `latency_ms` and `cost_usd` where they are known; it is not asked, and need not be on this host.
        models: the candidates. Names that the host gave to endpoints, `name:reasoning-low` for that effort; or
            names of `settings`.
        settings: a model with a prompt or a sampling of its own, under the name by which it is a candidate.
        prompt: how all of them are asked.
        evaluators, judge: what an answer is worth; the judge's word where there is one, else the evaluators' mean.
        rule: by which a switch is advised.
        racing: take hopeless candidates out early; None asks everybody about every row.
        stream: ask for streamed answers, so that the time to the first token is known.
        repetitions: how often each model is asked about each row.
        max_items: that many rows, drawn with *seed*; 0 for all.
        segment_fields: of the row; each value is a segment, each entry of a list too.
        cluster_field: of the row; rows of one value (a document, a user) count as one.
        item_timeout_s: how long one call may take in all.
        stop_after_errors: a model that fails so many rows in a row is not asked any more.
    """

    current_model: Key
    baseline: Literal["asked", "recorded"] = "asked"
    models: Annotated[list[Key], Field(min_length=1, max_length=MOST_MODELS)]
    settings: Annotated[dict[Key, Setting], Field(max_length=MOST_MODELS + 1)] = Field(default_factory=dict)
    prompt: Prompt = Prompt()
    evaluators: Annotated[list[Evaluators], Field(max_length=50)] = Field(default_factory=list)
    judge: JudgeParameters | None = None
    rule: Rule = Rule()
    racing: Racing | None = None
    stream: bool = False
    repetitions: Annotated[int, Field(ge=1, le=20)] = 1
    max_items: Annotated[int, Field(ge=0)] = 0
    seed: int = 0
    segment_fields: Annotated[list[FieldName], Field(max_length=5)] = Field(default_factory=lambda: ["segment"])
    cluster_field: FieldName | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 5
    item_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    stop_after_errors: Annotated[int, Field(ge=0)] = 20
    budget: Limits = Limits()

    @model_validator(mode="after")
    def _holds_together(self) -> BacktestingParameters:
        if twice := [name for name in self.all_models if self.all_models.count(name) > 1]:
            raise ValueError(f"model {twice[0]!r} is named twice; the current model is no candidate")
        if unused := [name for name in self.settings if name not in self.all_models]:
            raise ValueError(f"settings.{unused[0]} is neither the current model nor a candidate")
        if not (self.evaluators or self.judge):
            raise ValueError("nothing to score with: give evaluators or a judge")
        titles = [one.title for one in self.evaluators]
        if same := [title for title in titles if titles.count(title) > 1 or title == JUDGE]:
            raise ValueError(f"two evaluators are called {same[0]!r}; give one a name")
        if self.judge and (self.judge.mode != "rubric" or self.judge.canaries or self.judge.learns):
            raise ValueError(
                "judge: mode 'rubric' alone, without canaries and without learning from labels, in a backtest"
            )
        if self.judge and self.judge.max_items:
            raise ValueError("judge.max_items: give max_items of the job; every answer is judged")
        return self

    @property
    def all_models(self) -> list[str]:
        """The incumbent first."""
        return [self.current_model, *self.models]

    def model_of(self, name: str) -> str:
        """The key of the model that is asked as *name*."""
        return self.settings[name].model if name in self.settings else name

    def prompt_of(self, name: str) -> Prompt:
        """How *name* is asked."""
        return self.settings[name].over(self.prompt) if name in self.settings else self.prompt

    @property
    def is_recorded(self) -> bool:
        """Whether the incumbent's answers are those of the rows."""
        return self.baseline == "recorded"

    @property
    def asked(self) -> list[str]:
        """All models that are asked."""
        return list(self.models) if self.is_recorded else self.all_models


def base_and_effort(key: str) -> tuple[str, str | None]:
    """`("m", "low")` for `m:reasoning-low`; no effort for any other key."""
    found = _EFFORT.fullmatch(key)
    return (found["base"], found["effort"]) if found else (key, None)
