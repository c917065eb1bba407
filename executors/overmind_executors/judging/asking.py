"""One question to one judge: asked, read strictly, asked once more when it could not be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import Field

from overmind_executors.calls.answers import Answer as ModelAnswer
from overmind_executors.calls.paid_model import NotAsked, PaidModel
from overmind_executors.judging.reading import Unreadable
from overmind_executors.judging.wording import AnswerForm, Messages, again
from overmind_executors.parameters import Parameters
from overmind_executors.scoring.texts import as_text

ReadT = TypeVar("ReadT")

_FORMS: Final[Mapping[AnswerForm, str]] = {"json": "the JSON that was asked for", "word": "one word"}


class Sampling(Parameters):
    """
    How judges are asked; what is None is left out of the request.

    Attributes:
        response_format: `json_schema` holds the model to the answer's form, where its server can do that: even one
            that writes no JSON by itself.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seed: int | None = None
    response_format: Literal["json_object", "json_schema"] | None = None

    def body(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request's body; *schema* is the form of the answer."""
        given = self.model_dump(include={"temperature", "max_tokens", "seed"}, exclude_none=True)
        if self.response_format is None:
            return given
        form: dict[str, Any] = {"type": self.response_format}
        if self.response_format == "json_schema":
            form["json_schema"] = {"name": "verdict", "strict": True, "schema": dict(schema)}
        return {**given, "response_format": form}


@dataclass(frozen=True)
class Heard(Generic[ReadT]):
    """
    What came of a question.

    Attributes:
        value: what was read, None when nothing was.
        code: why nothing was: a Kind of answer, why it was not asked, or why it could not be read.
        is_asked: whether a call was made, or is in the journal.
        answers: of the model, one for each call that ended.
    """

    value: ReadT | None
    code: str = ""
    is_asked: bool = True
    answers: tuple[ModelAnswer, ...] = ()


def hear(
    model: PaidModel,
    messages: Messages,
    read: Callable[[str], ReadT],
    *,
    sampling: Sampling,
    form: AnswerForm,
    schema: Mapping[str, Any],
    row_id: str,
    vote: int,
    timeout_s: float,
) -> Heard[ReadT]:
    """
    Ask *messages*, and what comes *read*; an answer that is unreadable is asked for once more.

    Args:
        read: raises Unreadable.
        vote: which of the votes on one question this is, from 0.
    """
    answers: list[ModelAnswer] = []
    code = ""
    for _ in range(2):
        body = {"messages": messages, **sampling.body(schema)}
        answer = model.ask(body, row_id=row_id, repetition=vote, timeout_s=timeout_s)
        if isinstance(answer, NotAsked):
            return Heard(None, answer.reason, bool(answers), tuple(answers))
        answers.append(answer)
        if not answer.kind.has_output:
            return Heard(None, answer.kind.value, answers=tuple(answers))
        text = as_text(answer.output)
        try:
            return Heard(read(text), answers=tuple(answers))
        except Unreadable as error:
            code = f"unreadable_{error}"
            messages = again(messages, text, _FORMS[form])
    return Heard(None, code, answers=tuple(answers))
