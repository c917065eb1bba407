"""Texts compared: by the words that they share, after the same folding everywhere; and JSON found within prose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from overmind_executors import strict_json

_WORD: Final = re.compile(r"\w+")
_FENCE: Final = re.compile(r"```[A-Za-z0-9_-]*\s*\n(.*?)```", re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_BRACKET: Final = re.compile(r"[\[{]")
# So long a text is looked through for JSON at most, and so many places are tried in it: a hostile answer may hold
# nothing but opening braces.
_MOST_SEARCHED: Final = 200_000
_MOST_PLACES: Final = 100
_STOP_WORDS: Final = frozenset(
    """
    a an and are as at be but by for from has have he her his i if in is it its me my no not of on or our she so
    that the their them they this to us was we were will with you your
    """.split()  # noqa: SIM905  # a list of forty strings is harder to read
)


def as_text(value: Any) -> str:
    """*value* itself when it is text, else its JSON."""
    return value if isinstance(value, str) else strict_json.dumps(value)


def folded(text: str) -> str:
    """One spelling for what people read as the same: NFKC, no case, single spaces, none at the ends."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def words(text: str) -> frozenset[str]:
    """The different words of *text*, lower case."""
    return frozenset(_WORD.findall(text.lower()))


def similarity(actual: str, expected: str) -> float:
    """
    (0.6 · coverage + 0.4 · Jaccard) · length factor, over sets of words, in [0, 1].

    The length factor is r / 0.3 for an output shorter than 0.3 of the expected text, and falls from 1 to 0.5 for
    one that is more than three times as long.

    Source:
        The published scorer of OverClaw, `text` fields with `eval_mode` `similarity`.
    """
    if not expected.strip():
        return 1.0
    if not actual.strip():
        return 0.0
    said, wanted = words(actual), words(expected)
    if not wanted:  # signs alone
        return float(folded(actual) == folded(expected))
    shared = len(said & wanted)
    overlap = 0.6 * shared / len(wanted) + 0.4 * shared / len(said | wanted)
    return overlap * _length_factor(len(actual) / len(expected))


def _length_factor(ratio: float) -> float:
    if ratio < 0.3:
        return ratio / 0.3
    return max(0.5, 1 - 0.1 * (ratio - 3)) if ratio > 3 else 1.0


def keyword_coverage(actual: str, expected: str) -> float | None:
    """
    The share of the expected text's words, stop words apart, that occur in *actual*; None when it has none.

    Source:
        As `similarity`, `eval_mode` `keyword_coverage`: occurs means as a part of a word, too.
    """
    keywords = words(expected) - _STOP_WORDS
    if not keywords:
        return None
    low = actual.lower()
    return sum(word in low for word in keywords) / len(keywords)


class NoJson(ValueError):
    """The text holds no JSON of the wanted kind."""


def find_json(text: str, kind: type = object) -> Any:
    """
    The JSON in *text*: the whole, else a fenced block, else the first balanced object or array.

    Args:
        kind: what is looked for, such as dict; anything else in the text is passed over.

    Raises:
        NoJson: there is none. NaN, infinities and keys that stand twice are not JSON here.
    """
    text = text[:_MOST_SEARCHED]
    for candidate in (text, *_FENCE.findall(text)):
        try:
            value = strict_json.loads(candidate.strip())
        except strict_json.NotJson:
            continue
        if isinstance(value, kind):
            return value
    found = next((value for value in _balanced(text) if isinstance(value, kind)), _NONE)
    if found is _NONE:
        raise NoJson("no JSON of the wanted kind in the text")
    return found


_NONE: Final = object()


def _balanced(text: str) -> Iterator[Any]:
    """Every object or array that begins at a bracket of *text* and can be read."""
    place = 0
    for _ in range(_MOST_PLACES):
        if (start := _BRACKET.search(text, place)) is None:
            return
        try:
            value, place = strict_json.value_at(text, start.start())
        except strict_json.NotJson:
            place = start.end()
        else:
            yield value
