"""A rubric: yes-or-no questions with weights, and what the answers to them are worth together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from overmind_executors.parameters import Parameters
from overmind_executors.scoring.evaluator import NoField, object_of
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Score, failed, not_applicable, passed, scored

ScoreType = Literal["numeric", "boolean"]


class RubricItem(Parameters):
    """
    One question about an output, answered with yes, no or not applicable; yes is good.

    Attributes:
        gate: with `score_type` boolean a no makes the whole 0; with numeric the item does not pass.
        evidence: a yes counts only with a quotation that stands in the output.
        field: of the output; where it lacks the field the answer is no, and nobody is asked.
        applies_when: what has to hold for the question to make sense, in words for the judge.
    """

    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
    q: Annotated[str, Field(min_length=1, max_length=4000)]
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    gate: bool = False
    evidence: bool = False
    field: str | None = None
    applies_when: Annotated[str, Field(max_length=1000)] | None = None


class Answer(StrEnum):
    """What a judge says to one question. `void`: its quotation is not in the output. `none`: nothing."""

    YES = "yes"
    NO = "no"
    NOT_APPLICABLE = "not_applicable"
    VOID = "void"
    NONE = "none"


class Route(StrEnum):
    """What kind of output is judged; decides which questions stand in for criteria that nobody gave."""

    PLAIN = "plain"
    TOOL_CALL = "tool_call"
    TOOL_ANSWER = "tool_answer"
    AGENTIC = "agentic"


def route_of(item: Item) -> Route:
    """By what the row says of itself, else by what is in it."""
    kind = item.source.get("response_type")
    if kind == "tool_calls":
        return Route.TOOL_CALL
    if kind == "text":
        return Route.TOOL_ANSWER if item.source.get("is_agentic") is True else Route.PLAIN
    output = item.output
    if isinstance(output, Mapping) and output.get("tool_calls") and not output.get("content"):
        return Route.TOOL_CALL
    return Route.AGENTIC if item.tool_calls else Route.PLAIN


DEFAULT_CRITERIA: Final[Mapping[Route, Sequence[str]]] = {
    Route.PLAIN: (
        "The output is accurate and complete.",
        "It holds no factual error.",
        "It answers every part of the input.",
        "It does not contradict itself.",
        "Its terms are precise.",
    ),
    Route.TOOL_CALL: (
        "The right tools are called.",
        "No call is missing.",
        "The arguments fit the tools.",
        "The values of the arguments come from the input.",
        "No call is redundant.",
    ),
    Route.TOOL_ANSWER: (
        "The output says what the tools returned, faithfully.",
        "It answers every part of the input.",
        "Nothing in it is made up.",
        "Several results are brought together without contradiction.",
        "It is clear, complete and well laid out.",
    ),
    Route.AGENTIC: (
        "Tools were used where they were needed.",
        "Their results were read correctly.",
        "The results are brought together well.",
        "What the output concludes follows from the results.",
        "It claims nothing beyond what was found.",
    ),
}


def items_from(criteria: Sequence[str]) -> tuple[RubricItem, ...]:
    """One question for each rule."""
    return tuple(RubricItem(id=f"rule-{number}", q=text) for number, text in enumerate(criteria, start=1))


def missing_fields(rubric: Sequence[RubricItem], item: Item) -> frozenset[str]:
    """The questions whose field the output lacks: answered without asking."""
    return frozenset(question.id for question in rubric if question.field and not _has(item, question.field))


def _has(item: Item, field: str) -> bool:
    try:
        return field in object_of(item.output)
    except NoField:
        return False


def worth(rubric: Sequence[RubricItem], answers: Mapping[str, Answer], *, score_type: ScoreType) -> Score:
    """
    What *answers* are worth: the weight of the yeses over that of all questions that apply.

    Answers to questions that nobody asked are ignored; a question without an answer counts as no, and so does one
    whose quotation is not in the output.

    Args:
        score_type: boolean makes it 1 when everything is yes and else 0; a gate's no is 0 at once.
    """
    said = {question.id: answers.get(question.id, Answer.NONE) for question in rubric}
    if all(answer is Answer.NONE for answer in said.values()):
        return failed("unanswered")
    concerned = [question for question in rubric if said[question.id] is not Answer.NOT_APPLICABLE]
    if not concerned:
        return not_applicable("no_question_applies")
    code = "gate_failed" if failed_gates(rubric, said) else ""
    earned = math.fsum(question.weight for question in concerned if said[question.id] is Answer.YES)
    share = earned / math.fsum(question.weight for question in concerned)
    if score_type == "boolean":
        return passed(not code and math.isclose(share, 1.0), code)
    return scored(share, code)


def failed_gates(rubric: Sequence[RubricItem], answers: Mapping[str, Answer]) -> list[str]:
    """The gates that are not answered with yes and do apply."""
    fine = (Answer.YES, Answer.NOT_APPLICABLE)
    return [q.id for q in rubric if q.gate and answers.get(q.id, Answer.NONE) not in fine]
