"""
Rows in three parts: for learning, for choosing, for the one test. Near-duplicates are never on two sides.

The order of the rows says nothing: a row's place follows from the digest of its content, so the same rows give the
same parts in every life of a job, however they are listed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.rows.rows import Row
from overmind_executors.scoring.texts import as_text, folded

SIMILAR: Final = 0.8
"""Two inputs that share so many of their groups of three words are one for the split."""

_WORD: Final = re.compile(r"\w+")
_IN_A_GROUP: Final = 3


@dataclass(frozen=True)
class Case:
    """A row, and which group of near-duplicates it belongs to."""

    row: Row
    group: str


@dataclass(frozen=True)
class Shares:
    """
    How many of the rows, at most.

    Attributes:
        held_out, validation: shares, above 0 and together below 1; the rest is for learning.
        most_held_out, most_validation: rows.
    """

    held_out: float = 0.5
    validation: float = 0.25
    most_held_out: int = 400
    most_validation: int = 100


@dataclass(frozen=True)
class Split:
    """
    Attributes:
        moved: rows that were kept together with a near-duplicate, each group's first one not counted.
    """

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    held_out: tuple[Case, ...]
    moved: int


def split(rows: Sequence[Row], shares: Shares, seed: int) -> Split:
    """
    *rows* in three parts.

    Raises:
        InvalidParameters: a part has too little: one row to learn from, two to choose by, four to test on.
    """
    groups = sorted(_groups(rows), key=lambda group: _rank(group, seed))
    want = {
        "held_out": min(shares.most_held_out, round(len(rows) * shares.held_out)),
        "validation": min(shares.most_validation, round(len(rows) * shares.validation)),
    }
    parts: dict[str, list[Case]] = {"held_out": [], "validation": [], "train": []}
    for group in groups:
        # A group that is larger than what is left of a part goes on to the next: no part grows beyond its share.
        part = next((name for name, most in want.items() if len(parts[name]) + len(group) <= most), "train")
        parts[part].extend(Case(row, _content(group[0])) for row in group)
    for name, least in (("train", 1), ("validation", 2), ("held_out", 4)):
        if len({case.group for case in parts[name]}) < least:
            largest = max((len(group) for group in groups), default=0)
            message = (
                f"{len(rows)} rows in {len(groups)} groups of near-duplicates, the largest of {largest}, are too "
                f"few: the part {name} needs {least}"
            )
            raise InvalidParameters(Problem("input", message))
    ordered = {name: tuple(sorted(part, key=lambda case: case.row.order)) for name, part in parts.items()}
    return Split(ordered["train"], ordered["validation"], ordered["held_out"], len(rows) - len(groups))


def _rank(group: Sequence[Row], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{min(map(_content, group))}".encode()).digest()


def _content(row: Row) -> str:
    """The digest of what a row asks and expects; its id and its place are not part of it."""
    return hashlib.sha256(strict_json.canonical([row.input, row.expected])).hexdigest()


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """*rows* joined by `SIMILAR` pairs, each group sorted by content."""
    leader = list(range(len(rows)))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for left, right in _pairs([shingles(as_text(row.input)) for row in rows]):
        leader[find(left)] = find(right)
    joined: defaultdict[int, list[Row]] = defaultdict(list)
    for place, row in enumerate(rows):
        joined[find(place)].append(row)
    return [sorted(group, key=lambda row: (_content(row), row.order)) for group in joined.values()]


def shingles(text: str) -> frozenset[str]:
    """The groups of three words in a row that *text* has; a shorter text is one group."""
    words = _WORD.findall(folded(text))
    if len(words) < _IN_A_GROUP:
        return frozenset({" ".join(words) or text})
    return frozenset(" ".join(words[at : at + _IN_A_GROUP]) for at in range(len(words) - _IN_A_GROUP + 1))


def _pairs(sets: Sequence[frozenset[str]]) -> Iterator[tuple[int, int]]:
    """
    The places of all pairs with a Jaccard index of at least `SIMILAR`.

    Such a pair shares one of the rarest elements of each, so that only few pairs have to be looked at.

    Source:
        R. J. Bayardo, Y. Ma, R. Srikant, "Scaling up all pairs similarity search", WWW 2007.
    """
    frequency = Counter(element for one in sets for element in one)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(sets):
        ranked = sorted(one, key=lambda element: (frequency[element], element))
        prefix = ranked[: len(ranked) - math.ceil(SIMILAR * len(ranked)) + 1]
        for other in dict.fromkeys(other for element in prefix for other in seen[element]):
            if len(one & sets[other]) >= SIMILAR * len(one | sets[other]):
                yield other, place
        for element in prefix:
            seen[element].append(place)


def counts(parts: Split) -> Mapping[str, int]:
    """How many rows each part has."""
    return {
        "train": len(parts.train),
        "validation": len(parts.validation),
        "holdout": len(parts.held_out),
        "near_duplicates": parts.moved,
    }
