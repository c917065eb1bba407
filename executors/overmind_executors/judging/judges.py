"""The two ways of judging one output with one model: by a rubric, and against another output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from overmind_executors.calls.paid_model import PaidModel
from overmind_executors.judging import wording
from overmind_executors.judging.asking import Heard, Sampling, hear
from overmind_executors.judging.reading import Verdict, read_items, read_winner, read_word
from overmind_executors.judging.rubric import (
    Answer,
    Route,
    RubricItem,
    ScoreType,
    failed_gates,
    missing_fields,
    route_of,
    worth,
)
from overmind_executors.judging.votes import Opinion, majority, no_word
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Outcome, scored, skipped


@dataclass(frozen=True)
class Manner:
    """
    How a judge is asked.

    Attributes:
        votes: how often, each for itself.
        is_apart: each question in a call of its own, so that a change to one is a new call for that one alone.
        passes_at: the value from which on an output passes; None when nobody has said.
    """

    sampling: Sampling
    form: wording.AnswerForm
    votes: int
    is_apart: bool
    score_type: ScoreType
    passes_at: float | None
    timeout_s: float


class Judge(Protocol):
    """One way of judging; called from the engine's threads."""

    def opinion(self, model: PaidModel, item: Item, row_id: str) -> Opinion:
        """What *model* says of *item*. *row_id* is what the journal knows the row by."""


class RubricJudge:
    """Asks the questions of a rubric."""

    def __init__(self, rubrics: Mapping[Route, Sequence[RubricItem]], manner: Manner) -> None:
        self._rubrics = rubrics
        self._manner = manner

    def opinion(self, model: PaidModel, item: Item, row_id: str) -> Opinion:
        """All its votes, each question decided by the majority of them; a tie decides nothing."""
        route = route_of(item)
        rubric = self._rubrics[route]
        heard = [self._ballot(model, item, route, row_id, vote) for vote in range(self._manner.votes)]
        ballots = [one.value for one in heard if one.value is not None]
        answers = tuple(answer for one in heard for answer in one.answers)
        name = model.endpoint.name
        if not ballots:
            return Opinion(name, no_word(heard), None, None, {"route": route.value}, answers)
        decided = {q.id: majority([b.get(q.id, Verdict(Answer.NONE)).answer for b in ballots]) for q in rubric}
        said = {question: answer or Answer.NONE for question, (answer, _) in decided.items()}
        score = worth(rubric, said, score_type=self._manner.score_type)
        passes = None
        if score.value is not None and self._manner.passes_at is not None:
            passes = score.value >= self._manner.passes_at and not failed_gates(rubric, said)
        agreement = math.fsum(share for _, share in decided.values()) / len(decided)
        return Opinion(name, score, agreement, passes, _details(route, said, ballots), answers)

    def _ballot(
        self, model: PaidModel, item: Item, route: Route, row_id: str, vote: int
    ) -> Heard[dict[str, Verdict]]:
        given = {name: Verdict(Answer.NO, "the output has no such field") for name in self._missing(item, route)}
        open_questions = [question for question in self._rubrics[route] if question.id not in given]
        if not open_questions:
            return Heard(given)
        apart = self._manner.is_apart or self._manner.form == "word"
        groups = [[question] for question in open_questions] if apart else [open_questions]
        answers: list[Any] = []
        for group in groups:
            heard = self._ask(model, item, route, group, row_id, vote)
            answers.extend(heard.answers)
            if heard.value is None:
                return Heard(None, heard.code, heard.is_asked or bool(answers), tuple(answers))
            given.update(heard.value)
        return Heard(given, answers=tuple(answers))

    def _ask(
        self, model: PaidModel, item: Item, route: Route, group: list[RubricItem], row_id: str, vote: int
    ) -> Heard[dict[str, Verdict]]:
        manner = self._manner
        if manner.form == "word":
            messages = wording.about_one(item, group[0], route)
        else:
            messages = wording.about_items(item, group, route)
        judged = wording.judged_text(item, route)

        def read(text: str) -> dict[str, Verdict]:
            if manner.form == "word":
                return {group[0].id: Verdict(read_word(text))}
            return read_items(text, group, judged, has_reference=item.expected is not None)

        return hear(
            model,
            messages,
            read,
            sampling=manner.sampling,
            form=manner.form,
            schema=wording.SCHEMAS[manner.form],
            row_id=row_id,
            vote=vote,
            timeout_s=manner.timeout_s,
        )

    def _missing(self, item: Item, route: Route) -> frozenset[str]:
        return missing_fields(self._rubrics[route], item)


def _details(route: Route, said: Mapping[str, Answer], ballots: Sequence[Mapping[str, Verdict]]) -> dict[str, Any]:
    """What the line of the result shows: every answer, the reason and quotation of the first vote that gave it."""
    shown = {}
    for name, answer in said.items():
        verdict = next((b[name] for b in ballots if name in b and b[name].answer is answer), Verdict(answer))
        texts = {"reason": verdict.reason, "quote": verdict.quote}
        shown[name] = {"verdict": answer.value, **{key: text for key, text in texts.items() if text}}
    return {"route": route.value, "items": shown}


class PairwiseJudge:
    """
    Asks which of two outputs is better, in both orders; when the two answers differ it is a tie.

    The value is 1 when the item's output wins, 0 when the other does, one half for a tie.
    """

    def __init__(self, criteria: Sequence[RubricItem], manner: Manner, *, against: str) -> None:
        self._criteria = criteria
        self._manner = manner
        self._against = against

    def opinion(self, model: PaidModel, item: Item, row_id: str) -> Opinion:
        """All its votes, decided by their majority."""
        other = item.source.get(self._against)
        name = model.endpoint.name
        if other in (None, ""):
            return Opinion(name, skipped("nothing_to_compare_with"), None, None, {})
        heard = [
            self._ask(model, item, pair, row_id, vote)
            for vote in range(self._manner.votes)
            for pair in ((item.output, other), (other, item.output))
        ]
        answers = tuple(answer for one in heard for answer in one.answers)
        rounds = [(one.value, two.value) for one, two in zip(heard[::2], heard[1::2], strict=True)]
        whole = [(one, two) for one, two in rounds if one is not None and two is not None]
        if not whole:
            return Opinion(name, no_word([one for one in heard if one.value is None]), None, None, {}, answers)
        won, agreement = majority([_winner(one, two) for one, two in whole])
        value = {"output": 1.0, "other": 0.0}.get(won or "", 0.5)
        passes = value >= self._manner.passes_at if self._manner.passes_at is not None else None
        return Opinion(name, scored(value), agreement, passes, {"orders": [list(pair) for pair in whole]}, answers)

    def _ask(self, model: PaidModel, item: Item, pair: tuple[Any, Any], row_id: str, vote: int) -> Heard[str]:
        form = self._manner.form
        return hear(
            model,
            wording.about_pair(item, *pair, self._criteria, form),
            lambda text: read_winner(text, is_word=form == "word"),
            sampling=self._manner.sampling,
            form=form,
            schema=wording.SCHEMAS[f"pair_{form}"],
            row_id=row_id,
            vote=vote,
            timeout_s=self._manner.timeout_s,
        )


def _winner(as_first: str, as_second: str) -> str:
    """Who wins when the output stood first in one order and second in the other; a change of mind is a tie."""
    return {("A", "B"): "output", ("B", "A"): "other"}.get((as_first, as_second), "tie")


def is_final(opinion: Opinion, min_agreement: float) -> bool:
    """Whether a cascade ends here: the word is clear, or no other judge would say more."""
    if opinion.score.outcome in (Outcome.NOT_APPLICABLE, Outcome.SKIPPED):
        return True
    return opinion.score.is_scored and (opinion.agreement or 0.0) >= min_agreement
