"""Whether a quotation stands in the text that it is said to be from."""

from __future__ import annotations

import unicodedata
from typing import Final

from overmind_executors.scoring.texts import folded

# Shorter ones stand in almost any text.
SHORTEST: Final = 3
_ELLIPSES: Final = ("…", "...", "[...]", "(...)")
_SPELLINGS: Final = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00ab": '"', "\u00bb": '"'}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def is_quoted(quotation: str, text: str) -> bool:
    """
    Whether *quotation* stands in *text*, apart from case, white space and the look of quotation marks and dashes.

    With an ellipsis its parts have to stand there one after the other. What is left out, put in or said in other
    words makes it no quotation.
    """
    for sign in _ELLIPSES:
        quotation = quotation.replace(sign, "\0")
    parts = [part for piece in quotation.split("\0") if (part := _plain(piece).strip("\"' "))]
    if not parts or sum(map(len, parts)) < SHORTEST:
        return False
    where, place = _plain(text), 0
    for part in parts:
        found = where.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _plain(text: str) -> str:
    """One spelling; characters that nobody sees are left out."""
    seen = "".join(sign for sign in text.translate(_SPELLINGS) if unicodedata.category(sign) != "Cf")
    return folded(seen).translate(_SPELLINGS)
