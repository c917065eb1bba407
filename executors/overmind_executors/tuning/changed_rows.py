"""
What each change of a prompt did: the steps from the prompt as it was to the best candidate, each with the texts
that it changes and the validation rows that it fixed and broke; and the held-out rows that changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

from overmind_executors.statistics.ties import TIE
from overmind_executors.tuning.ledger import Candidate
from overmind_executors.tuning.texts import MAX_SUMMARY, Texts, changes

_NAMED: Final = 4
_LISTED: Final = 8
_MOST_OF_A_CHANGE: Final = 300
_MOST_OF_AN_ID: Final = 64

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """
    One step on the way to the best candidate.

    Attributes:
        components: the names of the texts that it changes.
        said: what the diff says of them, a line each.
        fixed, broke: ids of the validation rows whose value rose, and fell; of those that both have one for.
    """

    name: str
    parent: str
    components: tuple[str, ...]
    said: str
    fixed: tuple[str, ...]
    broke: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the outcome, which has room for the first rows alone."""
        return {
            "name": self.name,
            "parent": self.parent,
            "components": list(self.components),
            "diff": self.said[:_MOST_OF_A_CHANGE],
            **{
                name: {"rows": len(rows), "first": [row[:_MOST_OF_AN_ID] for row in rows[:_LISTED]]}
                for name, rows in (("fixed", self.fixed), ("broke", self.broke))
            },
        }

    def line(self) -> str:
        """In one line."""
        diff = " | ".join(self.said.splitlines())[:_MOST_OF_A_CHANGE]
        return f"{self.name}: {diff} (of the validation rows fixed {_some(self.fixed)}, broke {_some(self.broke)})"


def changes_of(lineage: Sequence[Candidate], row_ids: Sequence[str]) -> list[Change]:
    """
    The steps of *lineage*.

    Args:
        lineage: from the baseline on, each written from the one before it.
        row_ids: of the validation rows, in the order of the candidates' values.
    """
    found = []
    for before, after in pairwise(lineage):
        both = zip(row_ids, before.values, after.values, strict=True)
        values = [(row, old, new) for row, old, new in both if old is not None and new is not None]
        found.append(
            Change(
                after.name,
                before.name,
                components_of(before.texts, after.texts),
                changes(before.texts, after.texts),
                tuple(row for row, old, new in values if new > old + TIE),
                tuple(row for row, old, new in values if new < old - TIE),
            )
        )
    return found


def components_of(before: Texts, after: Texts) -> tuple[str, ...]:
    """The names of the texts that differ."""
    return tuple(name for name, text in before.items() if after[name] != text)


def in_words(before: Texts, after: Texts, steps: Sequence[Change], *, most: int = MAX_SUMMARY) -> str:
    """Every changed text by name, then a line for each step, as many whole ones as *most* letters hold."""
    lines = [f"Changed: {', '.join(components_of(before, after))}."]
    for step in steps:
        if sum(map(len, lines)) + len(lines) + len(step.line()) > most:
            break
        lines.append(step.line())
    return "\n".join(lines)[:most]


@dataclass(frozen=True)
class ChangedRow:
    """A held-out row whose mean value changed; *said* by evaluators and judges, of the first answers."""

    row_id: str
    difference: float
    outputs: tuple[Any, Any]
    said: tuple[str, str]


def changed_rows(lines: Sequence[Line]) -> list[ChangedRow]:
    """Those of *lines*, of `comparison.jsonl`, that changed; the greatest losses first."""
    found = []
    for line in lines:
        before, after = (_mean(line[side]) for side in ("baseline", "candidate"))
        if before is None or after is None or abs(after - before) < TIE:
            continue
        sides = line["baseline"][0], line["candidate"][0]
        outputs, said = [side["output"] for side in sides], ["; ".join(side["said"]) for side in sides]
        found.append(ChangedRow(line["item_id"], after - before, (outputs[0], outputs[1]), (said[0], said[1])))
    return sorted(found, key=lambda one: one.difference)


def _mean(trials: Sequence[Line]) -> float | None:
    values = [trial["value"] for trial in trials if trial["value"] is not None]
    return fmean(values) if values else None


def _some(rows: Sequence[str]) -> str:
    if not rows:
        return "none"
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"{', '.join(row[:_MOST_OF_AN_ID] for row in rows[:_NAMED])}{more}"
