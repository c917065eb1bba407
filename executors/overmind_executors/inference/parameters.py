"""What a job of type `inference` may say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from overmind_executors.calls.budget import Limits
from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.parameters import Parameters
from overmind_executors.rows.source import RowPlace

Text = Annotated[str, Field(max_length=1_000_000)]


class TemplateMessage(Parameters):
    """One message of a template: `{name}` in `content` becomes the row's field of that name, as text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text


class Prompt(Parameters):
    """
    How a chat model is asked.

    Attributes:
        messages_template: in place of `system_prompt` and the row's input as the user's message.
        temperature … tools: passed on as they are; what is None is left out.
    """

    system_prompt: Text | None = None
    messages_template: Annotated[list[TemplateMessage], Field(min_length=1, max_length=100)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Prompt:
        if self.messages_template and self.system_prompt is not None:
            raise ValueError("give system_prompt or messages_template, not both")
        if any("{expected_output}" in message.content for message in self.messages_template or ()):
            raise ValueError("messages_template shows {expected_output} to the model that is to find it")
        return self

    def sampling(self) -> dict[str, Any]:
        """The fields that go into a request's body as they are."""
        names = {"temperature", "max_tokens", "top_p", "seed", "stop", "response_format", "tools"}
        return self.model_dump(include=names, exclude_none=True)


class ModelTarget(Prompt):
    """
    A chat model, and how to ask it.

    Attributes:
        model: a name that the host gave to an endpoint.
    """

    kind: Literal["model"] = "model"
    model: Annotated[str, Field(min_length=1, max_length=255)]


class ProgramTarget(Parameters):
    """
    A target that is a program of the host: there is nothing to say about how to ask it.

    Attributes:
        models: names that the host gave to endpoints; the program may ask these while it runs.
    """

    models: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(default_factory=list, max_length=16)

    system_prompt: ClassVar[None] = None
    messages_template: ClassVar[None] = None
    temperature: ClassVar[None] = None

    @property
    @abstractmethod
    def model(self) -> str:
        """What results call it."""

    def sampling(self) -> dict[str, Any]:
        """A program has no such settings."""
        return {}


class AgentTarget(ProgramTarget):
    """
    A Python agent: a function that is given a row's input and returns its output.

    Attributes:
        path: of its folder, or of a zip file of it, in one of the host's code folders.
        entrypoint: `module:function`.
    """

    kind: Literal["agent"]
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    entrypoint: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=255)]

    @property
    def model(self) -> str:
        """See ProgramTarget."""
        return self.entrypoint


class CommandTarget(ProgramTarget):
    """A command of the host: `{"input": …}` on its standard input, `{"output": …}` on its standard output."""

    kind: Literal["command"]
    command: Annotated[str, Field(min_length=1, max_length=255)]

    @property
    def model(self) -> str:
        """See ProgramTarget."""
        return self.command


class Comparison(Parameters):
    """
    How an answer is held against the row's `expected_output`.

    Attributes:
        kind: `exact`: equal once white space at both ends is gone. `contains`: occurs in the answer. `label`:
            the first of `labels` that stands in the answer as a word is the expected one.
        labels: None for every `expected_output` that the rows have.
        case_sensitive: None for yes with `exact` and no with the others.
    """

    kind: Literal["exact", "label", "contains"] = "exact"
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)] | None = None
    case_sensitive: bool | None = None

    @model_validator(mode="after")
    def _labels_where_used(self) -> Comparison:
        if self.labels and self.kind != "label":
            raise ValueError(f"labels have no meaning for kind {self.kind!r}; use kind 'label'")
        return self


class InferenceParameters(RowPlace):
    """
    One job.

    Attributes:
        max_items: 0 for all; `max_rows` is another word for it.
        item_timeout_s: how long one call may take in all.
        stop_after_errors: that many failed rows in a row end the work.
        refuse_over_budget: call nothing when the estimate is beyond the budget; else go as far as it lasts.
        output_schema: a JSON schema; an output that is not JSON of that form fails its row, as `schema_mismatch`.
        repair: ask once more, naming the fault, before that.
        share_equal_rows: one call for all rows whose requests are equal and have a temperature of 0.
    """

    target: ModelTarget | AgentTarget | CommandTarget
    repetitions: Annotated[int, Field(ge=1, le=100)] = 1
    max_items: Annotated[int, Field(ge=0)] = 0
    max_rows: Annotated[int, Field(ge=0)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 5
    item_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    stop_after_errors: Annotated[int, Field(ge=0)] = 20
    comparison: Comparison | None = None
    budget: Limits = Limits()
    refuse_over_budget: bool = False
    share_equal_rows: bool = False
    output_schema: dict[str, Any] | None = None
    repair: bool = True

    @model_validator(mode="after")
    def _holds_together(self) -> InferenceParameters:
        if self.max_rows is not None and self.max_items:
            raise ValueError("max_rows and max_items are one thing; give one")
        if self.share_equal_rows and self.target.temperature not in (None, 0):
            raise ValueError("share_equal_rows needs target.temperature 0: else equal rows have different answers")
        return self

    @property
    def may_repair(self) -> bool:
        """Whether a row may be asked once more than its retries."""
        return self.output_schema is not None and self.repair and isinstance(self.target, ModelTarget)

    @property
    def most_items(self) -> int:
        """How many rows at most, 0 for all."""
        return self.max_rows if self.max_rows is not None else self.max_items


class _ModelParameters(InferenceParameters):
    target: ModelTarget


class _AgentParameters(InferenceParameters):
    target: AgentTarget


class _CommandParameters(InferenceParameters):
    target: CommandTarget


# One class for each kind, so that a problem names the field and not the kinds that it might have been of.
_BY_KIND: Final[Mapping[str, type[InferenceParameters]]] = {
    "model": _ModelParameters,
    "agent": _AgentParameters,
    "command": _CommandParameters,
}


def parameters_class(given: Mapping[str, Any]) -> type[InferenceParameters]:
    """
    The class for the kind of target that *given* names, a model's when it names none.

    Raises:
        InvalidParameters: there is no such kind.
    """
    target = given.get("target")
    kind = target.get("kind", "model") if isinstance(target, dict) else "model"
    if not isinstance(kind, str) or kind not in _BY_KIND:
        raise InvalidParameters(Problem("target.kind", f"should be {', '.join(map(repr, _BY_KIND))}"))
    return _BY_KIND[kind]
