"""What judging will need, told before the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from overmind_executors.calls.forecast import MESSAGE_TOKENS, TYPICAL, Calls, Estimate, Range, forecast, of_answers
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import ModelEndpoint
from overmind_executors.judge_scoring.drift import anchored
from overmind_executors.judge_scoring.parameters import JudgeParameters, JudgeScoringParameters
from overmind_executors.judge_scoring.source import Selection
from overmind_executors.judging.injection import CANARIES

# The framing of a question to a judge, beside the criteria and the text that is judged; characters.
_FRAME: Final = 1200
# What a request has at most besides the questions and what is judged: framing, form of the answer, and, where an
# answer could not be read, 2,000 letters of it. Bytes.
_MOST_BESIDES: Final = 2 * _FRAME + 4 * 2000 + 4 * MESSAGE_TOKENS
_MOST_FOR_A_QUESTION: Final = 64


def of_judges(
    judge: JudgeParameters | None,
    models: Mapping[str, ModelEndpoint],
    outputs: Range,
    *,
    may_be_shut: bool,
    said_tokens: float,
    most_bytes: int | None = None,
) -> list[Calls]:
    """
    The calls that judging *outputs* takes.

    Args:
        may_be_shut: whether something, such as a gate, may keep the judges from being asked. So may an output with
            nothing to compare it with, and one of a judge's own family.
        said_tokens: of an output that is judged, typically.
        most_bytes: of what a judge is shown of any of them; None for not known, so that nothing bounds the tokens.
    """
    if judge is None:
        return []
    rubrics = judge.rubrics().values()
    is_apart = judge.ask == "each" or judge.answer == "word"
    groups = [len(rubric) if is_apart else 1 for rubric in rubrics]
    # Where an output lacks the field that a question is about, nobody is asked.
    sure = [sum(question.field is None for question in rubric) for rubric in rubrics]
    if judge.mode == "pairwise":
        groups = sure = [2]  # both orders
    may_be_shut = may_be_shut or judge.mode == "pairwise" or judge.same_family == "leave_out"
    letters = min(sum(len(question.q) for question in rubric) for rubric in rubrics)
    questions = max(
        sum(len((q.q + (q.applies_when or "")).encode()) + _MOST_FOR_A_QUESTION + len(q.id) for q in rubric)
        for rubric in rubrics
    )
    most_asked = None if most_bytes is None else most_bytes + questions + _MOST_BESIDES
    found = []
    for place, name in enumerate(judge.models):
        is_first = place == 0 or judge.panel != "cascade"
        least = outputs.low * judge.votes * min(*groups, *sure) if is_first and not may_be_shut else 0
        typical = outputs.typical * judge.votes * min(groups) if is_first else 0
        # Every question may be asked once more when its answer cannot be read.
        most = 2 * (outputs.ceiling or 0) * judge.votes * max(groups)
        asked = Range(0, (letters + _FRAME) / TYPICAL + said_tokens, most_asked)
        found.append(Calls(models[name], Range(least, typical, most), asked, of_answers(judge.max_tokens)))
    return found


def estimate(
    task: JudgeScoringParameters,
    models: Mapping[str, ModelEndpoint],
    selection: Selection,
    policy: RetryPolicy,
    *,
    may_be_known: bool = False,
    embedding: Sequence[Calls] = (),
) -> Estimate:
    """
    What the judges of a job over *selection* will need, and *embedding*; nothing without either.

    Args:
        may_be_known: whether answers are kept from job to job here, so that none may be needed.
    """
    judge = task.judge
    besides = len(judge.anchors) + judge.canaries if judge else 0
    seen = selection.total if selection.judged is None else len(selection.judged)
    read = selection.read
    absent = read.total - read.askable
    outputs = Range(
        max(0, seen - absent) + (len(judge.anchors) if judge else 0),
        round(seen * read.askable / read.total) + besides,
        min(seen, read.askable) + besides,
    )
    said = read.letters / TYPICAL / max(1, read.askable)
    may_be_shut = may_be_known or any(one.gate for one in task.evaluators)
    kinds = of_judges(
        judge, models, outputs, may_be_shut=may_be_shut, said_tokens=said, most_bytes=_longest(judge, read.longest)
    )
    return forecast([*kinds, *embedding], policy)


def _longest(judge: JudgeParameters | None, of_rows: int) -> int:
    """The most bytes that a judge is shown of anything: rows, anchors, and canaries in the place of an output."""
    if judge is None:
        return 0
    canaries = max((len(text.encode()) for text in CANARIES.values()), default=0) if judge.canaries else 0
    return max([of_rows + canaries, *(judge.bytes_shown(item) for item, _ in anchored(judge.anchors))])
