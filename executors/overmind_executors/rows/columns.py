"""
Which column of a stranger's table means what: as the job says, else by the column's name, and never by a mere hope.

A row that already has our names is taken as it is. Else every field gets the column whose name usually means it: a
name that means one thing everywhere counts 0.9, one that often means something else 0.5, and of several that count
the same none is sure (0.3). What counts less than 0.8 is not used: for a field that it cannot do without, the job
asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.parameters import nearest

Field = Literal["id", "input", "output", "expected_output", "order"]
FIELDS: Final[tuple[Field, ...]] = ("id", "input", "output", "expected_output", "order")
SURE: Final = 0.8
_CLEAR, _VAGUE, _TIED = 0.9, 0.5, 0.3
_MOST_NAMED: Final = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names with everything but letters and digits taken out, lower case.
_CLEAR_NAMES: Final[Mapping[Field, frozenset[str]]] = {
    "id": _words(
        """id datapointid itemid rowid exampleid sampleid customid caseid testcaseid recordid questionid promptid
        uid uuid"""
    ),
    "input": _words(
        """input inputs inputtext prompt question query userinput usermessage userprompt userquery instruction
        request messages"""
    ),
    "output": _words(
        """output outputs outputtext response responsetext completion prediction predicted generated generation
        generatedtext modeloutput modelresponse modelanswer actualoutput actual llmoutput llmresponse llmanswer
        reply assistantresponse candidate hypothesis"""
    ),
    "expected_output": _words(
        """expectedoutput expected expectedanswer expectedresult expectedresponse reference referenceanswer
        referenceoutput groundtruth gold goldanswer golden idealoutput idealanswer ideal correctanswer correctoutput
        target targetoutput label"""
    ),
    "order": _words("order position rowindex rowno rownumber"),
}
_VAGUE_NAMES: Final[Mapping[Field, frozenset[str]]] = {
    "id": _words("key no nr number name"),
    "input": _words("text content body user source context document article"),
    "output": _words("answer result text content message assistant summary ypred value"),
    "expected_output": _words("answer truth ytrue solution correct labels class category summary"),
    "order": _words("index idx n"),
}


@dataclass(frozen=True)
class Guess:
    """
    What a field was taken from.

    Attributes:
        confidence: 1 when the job or the file itself says so, else 0.9, 0.5 or 0.3; used from 0.8 on.
        why: `told`, `name`, `usual_name`, `vague_name`, `several_names`.
    """

    field: str
    column: str
    confidence: float
    why: str

    @property
    def is_sure(self) -> bool:
        """Whether it is used."""
        return self.confidence >= SURE

    def as_json(self) -> dict[str, Any]:
        """For a summary."""
        return asdict(self)


@dataclass(frozen=True)
class ColumnMap:
    """What each field is taken from; a field without a guess is not in the file."""

    guesses: tuple[Guess, ...] = ()

    def renamed(self, value: Any) -> Any:
        """*value* with its fields under our names too; what stands under them already is not ours to change."""
        if not isinstance(value, dict):
            return value
        moved = {
            guess.field: value[guess.column]
            for guess in self.guesses
            if guess.is_sure and guess.column != guess.field and guess.column in value
        }
        return {**value, **moved} if moved else value

    @property
    def unsure(self) -> tuple[Guess, ...]:
        """The guesses that were not used."""
        return tuple(guess for guess in self.guesses if not guess.is_sure)


def map_columns(names: Iterable[str], told: Mapping[str, str], *, wanted: Iterable[Field] = FIELDS) -> ColumnMap:
    """
    What each of the *wanted* fields is taken from.

    Args:
        names: every column that some row has.
        told: the job's own words, field to column; they win.

    Raises:
        InvalidParameters: *told* names a column that no row has.
    """
    columns = list(dict.fromkeys(names))
    problems = [
        Problem(
            f"mapping.{field}", f"no row has a column {column[:64]!r}{nearest(column, columns)}", "no_such_column"
        )
        for field, column in told.items()
        if column not in columns
    ]
    if problems:
        raise InvalidParameters(*problems)
    taken = set(told.values())
    free = [column for column in columns if column not in taken]
    guesses = [Guess(field, column, 1.0, "told") for field, column in told.items()]
    for field in wanted:
        if field not in told and (guess := _guess(field, free)) is not None:
            guesses.append(guess)
    return ColumnMap(_settled(guesses))


def refuse_without(field: Field, columns: ColumnMap, names: Iterable[str]) -> None:
    """Raise InvalidParameters unless *field* is known, naming what it could be and what there is."""
    if any(guess.field == field and guess.is_sure for guess in columns.guesses):
        return
    likely = [guess.column for guess in columns.unsure if guess.field == field]
    has = ", ".join(repr(name[:64]) for name in list(dict.fromkeys(names))[:_MOST_NAMED]) or "none"
    hint = f"it may be {likely[0][:64]!r}; " if likely else ""
    raise InvalidParameters(
        Problem(
            f"mapping.{field}", f"which column is the {field}? {hint}say so; the columns are {has}", "unsure_column"
        )
    )


def _guess(field: Field, columns: list[str]) -> Guess | None:
    if field in columns:
        return Guess(field, field, 1.0, "name")
    for names, confidence, why in ((_CLEAR_NAMES, _CLEAR, "usual_name"), (_VAGUE_NAMES, _VAGUE, "vague_name")):
        found = [column for column in columns if _plain(column) in names[field]]
        if len(found) == 1:
            return Guess(field, found[0], confidence, why)
        if found:
            return Guess(field, found[0], _TIED, "several_names")
    return None


def _settled(guesses: list[Guess]) -> tuple[Guess, ...]:
    """A column means one thing: of two fields that want it the surer one has it, and equal ones make it unsure."""
    settled = []
    for guess in guesses:
        others = [
            o for o in guesses if o.column == guess.column and o is not guess and o.confidence >= guess.confidence
        ]
        if any(other.confidence > guess.confidence for other in others):
            continue
        settled.append(Guess(guess.field, guess.column, _TIED, "several_names") if others else guess)
    return tuple(settled)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
