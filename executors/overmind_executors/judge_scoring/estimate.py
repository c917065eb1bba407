"""What judging will need, told before the first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from overmind_executors.calls.forecast import TYPICAL, Calls, Estimate, Range, forecast, of_answers
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import ModelEndpoint
from overmind_executors.judge_scoring.parameters import JudgeParameters, JudgeScoringParameters
from overmind_executors.judge_scoring.source import Selection

# The framing of a question to a judge, beside the criteria and the text that is judged; characters.
_FRAME: Final = 1200


def of_judges(
    judge: JudgeParameters | None,
    models: Mapping[str, ModelEndpoint],
    outputs: Range,
    *,
    may_be_shut: bool,
    said_tokens: float,
) -> list[Calls]:
    """
    The calls that judging *outputs* takes.

    Args:
        may_be_shut: whether a gate may keep the judges from being asked. So may an output without another one to
            compare it with, and one of a judge's own family.
        said_tokens: of an output that is judged, typically.
    """
    if judge is None:
        return []
    rubrics = judge.rubrics().values()
    is_apart = judge.ask == "each" or judge.answer == "word"
    groups = [len(rubric) if is_apart else 1 for rubric in rubrics]
    if judge.mode == "pairwise":
        groups = [2]  # both orders
    may_be_shut = may_be_shut or judge.mode == "pairwise" or judge.same_family == "leave_out"
    letters = min(sum(len(question.q) for question in rubric) for rubric in rubrics)
    found = []
    for place, name in enumerate(judge.models):
        is_first = place == 0 or judge.panel == "all"
        least = outputs.low * judge.votes * min(groups) if is_first and not may_be_shut else 0
        typical = outputs.typical * judge.votes * min(groups) if is_first else 0
        # Every question may be asked once more when its answer cannot be read.
        most = 2 * (outputs.ceiling or 0) * judge.votes * max(groups)
        asked = Range(0, (letters + _FRAME) / TYPICAL + said_tokens, None)
        found.append(Calls(models[name], Range(least, typical, most), asked, of_answers(judge.max_tokens)))
    return found


def estimate(
    task: JudgeScoringParameters, models: Mapping[str, ModelEndpoint], selection: Selection, policy: RetryPolicy
) -> Estimate:
    """What the judges of a job over *selection* will need; nothing without judges."""
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
    gates = any(one.gate for one in task.evaluators)
    return forecast(of_judges(judge, models, outputs, may_be_shut=gates, said_tokens=said), policy)
