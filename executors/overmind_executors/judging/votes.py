"""Many ballots on one output brought together: votes of one judge, then a panel of judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from overmind_executors.calls.answers import Answer as ModelAnswer
from overmind_executors.judging.asking import Heard
from overmind_executors.scoring.scores import Outcome, Score, abstained, failed, scored, skipped

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Opinion:
    """
    One judge's word on one output, after all its votes.

    Attributes:
        agreement: the share of its votes that say what the word says, in [0, 1]; None without votes.
        passes: whether the output is fine; None when that was not asked.
        details: for the line of the result: answers to questions, orders of a pair.
        same_family: whether the judge is of the family of the model that made the output; None when nobody says who
            made it.
    """

    judge: str
    score: Score
    agreement: float | None
    passes: bool | None
    details: Mapping[str, Any]
    answers: tuple[ModelAnswer, ...] = ()
    same_family: bool | None = None


def majority(ballots: Sequence[ValueT]) -> tuple[ValueT | None, float]:
    """What more ballots say than anything else, None on a tie; and the share of ballots that say so."""
    ranked = Counter(ballots).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None, ranked[0][1] / len(ballots)
    return ranked[0][0], ranked[0][1] / len(ballots)


def no_word(heard: Sequence[Heard[Any]]) -> Score:
    """Why there is no opinion: nobody was asked, or nothing came that could be read."""
    first = next((one for one in heard if one.is_asked), heard[0])
    return failed(first.code) if first.is_asked else skipped(first.code)


def panel_word(opinions: Sequence[Opinion], *, min_agreement: float) -> tuple[Score, float | None, bool | None]:
    """
    The panel's score, its confidence, and whether the output passes.

    The value is the mean of the members that have one; it passes when more of them say so than not. Confidence is
    the mean agreement of the votes within the members, times the share of members that are with the majority.

    Args:
        min_agreement: below that confidence the panel abstains.
    """
    with_value = [one for one in opinions if one.score.value is not None]
    if not with_value:
        return min((one.score for one in opinions), key=_rank), None, None
    agreements = [one.agreement for one in with_value if one.agreement is not None]
    confidence = math.fsum(agreements) / len(agreements) if agreements else 1.0
    passes, share = majority([one.passes for one in with_value])
    confidence = round(confidence * share, 6)
    if confidence < min_agreement:
        return abstained("low_agreement"), confidence, None
    value = math.fsum(one.score.value or 0.0 for one in with_value) / len(with_value)
    code = "panel_incomplete" if len(with_value) < len(opinions) else with_value[0].score.code
    return scored(value, code if len(opinions) == 1 or code == "panel_incomplete" else ""), confidence, passes


_RANKS = (Outcome.ERROR, Outcome.ABSTAINED, Outcome.NOT_APPLICABLE, Outcome.SKIPPED)


def _rank(score: Score) -> int:
    return _RANKS.index(score.outcome)
