"""Reading what a judge answered: strictly, since an answer may be broken, long or hostile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors.judging.evidence import is_quoted
from overmind_executors.judging.rubric import Answer, RubricItem
from overmind_executors.scoring.texts import NoJson, find_json, folded

_MAX_REASON: Final = 500
_WORDS: Final[Mapping[str, Answer]] = {
    "yes": Answer.YES,
    "true": Answer.YES,
    "no": Answer.NO,
    "false": Answer.NO,
    "not_applicable": Answer.NOT_APPLICABLE,
    "not applicable": Answer.NOT_APPLICABLE,
    "n/a": Answer.NOT_APPLICABLE,
}
_FIRST_WORD: Final = re.compile(r"\W*(not[ _]applicable|n/a|[a-z]+)")


class Unreadable(ValueError):
    """The judge's answer is not what was asked for. The message is a code."""


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one question, with its reason and what it quotes."""

    answer: Answer
    reason: str = ""
    quote: str = ""


def read_items(text: str, rubric: Sequence[RubricItem], judged: str, *, has_reference: bool) -> dict[str, Verdict]:
    """
    What *text* says to each question of *rubric*; others that it brings up are ignored.

    Args:
        judged: the text that quotations have to be from.
        has_reference: with one, "not applicable" is no answer.

    Raises:
        Unreadable: it holds no object with `items`, or none of the questions.
    """
    try:
        said = find_json(text, dict).get("items")
    except NoJson:
        raise Unreadable("no_json") from None
    if not isinstance(said, list):
        raise Unreadable("no_items")
    known = {question.id: question for question in rubric}
    found: dict[str, Verdict] = {}
    for entry in said:
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in known:
            continue
        # Two answers to one question are none.
        found[name] = Verdict(Answer.NONE) if name in found else _verdict(entry, known[name], judged, has_reference)
    if not found:
        raise Unreadable("no_known_question")
    return found


def _verdict(entry: Mapping[str, Any], question: RubricItem, judged: str, has_reference: bool) -> Verdict:
    answer = _answer(entry.get("verdict"))
    if answer is Answer.NOT_APPLICABLE and has_reference:
        answer = Answer.NONE
    quote = entry.get("quote")
    quote = quote[:_MAX_REASON] if isinstance(quote, str) else ""
    if answer is Answer.YES and (quote.strip() or question.evidence) and not is_quoted(quote, judged):
        answer = Answer.VOID
    reason = entry.get("reason")
    return Verdict(answer, reason[:_MAX_REASON] if isinstance(reason, str) else "", quote)


def _answer(said: Any) -> Answer:
    if isinstance(said, bool):
        return Answer.YES if said else Answer.NO
    return _WORDS.get(folded(said), Answer.NONE) if isinstance(said, str) else Answer.NONE


def read_word(text: str) -> Answer:
    """
    The first word of *text*, or the `verdict` of an object, from a model that was held to that form.

    Raises:
        Unreadable: it is neither yes nor no.
    """
    found = _FIRST_WORD.match(folded(_member(text, "verdict")))
    answer = _WORDS.get(found.group(1).replace("_", " "), Answer.NONE) if found else Answer.NONE
    if answer is Answer.NONE:
        raise Unreadable("no_yes_or_no")
    return answer


def _member(text: str, name: str) -> str:
    """The text *name* of the object that *text* is; *text* itself when it is none."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        said = find_json(text, dict).get(name)
    except NoJson:
        return text
    return said if isinstance(said, str) else ""


def read_winner(text: str, *, is_word: bool) -> str:
    """
    `A`, `B` or `tie`.

    Raises:
        Unreadable: none of them.
    """
    if is_word:
        found = re.match(r"\W*(?:output\s+)?(a|b|tie)\b", folded(_member(text, "winner")))
        said: Any = found.group(1) if found else None
    else:
        try:
            said = find_json(text, dict).get("winner")
        except NoJson:
            raise Unreadable("no_json") from None
    winners = {"a": "A", "b": "B", "tie": "tie"}
    if not isinstance(said, str) or folded(said) not in winners:
        raise Unreadable("no_winner")
    return winners[folded(said)]
