"""What a candidate must not change, checked mechanically before anything is paid for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from overmind_executors.tuning.leaks import LeakScan
from overmind_executors.tuning.texts import Texts, placeholders

_FENCE: Final = re.compile(r"```.*?```", re.DOTALL)
_KEY: Final = re.compile(r'"[A-Za-z_][\w-]*"(?=\s*:)')
_FORMATS: Final = ("json", "yaml", "xml", "csv", "markdown", "one word")


class Code(StrEnum):
    """What became of a candidate."""

    KEEP_BETTER = "KEEP_BETTER"
    KEEP_PARETO = "KEEP_PARETO"
    DISCARD_SCREEN = "DISCARD_SCREEN"
    DISCARD_WORSE = "DISCARD_WORSE"
    DISCARD_NOISE = "DISCARD_NOISE"
    DISCARD_CONSTRAINT = "DISCARD_CONSTRAINT"
    DISCARD_GATE = "DISCARD_GATE"
    INVALID_TEMPLATE = "INVALID_TEMPLATE"
    FIXED_REGION = "FIXED_REGION"
    LEAKAGE = "LEAKAGE"
    CRASH = "CRASH"
    TIMEOUT = "TIMEOUT"
    DUPLICATE = "DUPLICATE"

    @property
    def keeps(self) -> bool:
        """Whether the candidate stays in the search."""
        return self in (Code.KEEP_BETTER, Code.KEEP_PARETO)


@dataclass(frozen=True)
class Objection:
    """Why a candidate is not even tried; *message* may be shown to the model that wrote it."""

    code: Code
    message: str


@dataclass(frozen=True)
class Constraints:
    """
    Attributes:
        original: the texts as they were.
        fixed: spans of them that stay, letter by letter.
        most_characters: of all texts together.
    """

    original: Texts
    fixed: Sequence[str]
    most_characters: int
    leaks: LeakScan

    def objection(self, texts: Texts) -> Objection | None:
        """The first thing that is wrong with *texts*, None when nothing is."""
        for name, before in self.original.items():
            found = self._of_text(before, texts[name])
            if found is not None:
                return found
        if (size := sum(map(len, texts.values()))) > self.most_characters:
            message = f"it has {size} characters, more than {self.most_characters}"
            return Objection(Code.DISCARD_CONSTRAINT, message)
        # Nothing of what was found is said: it would tell the very answer.
        if any(self.leaks.finds(text) for text in texts.values()):
            return Objection(Code.LEAKAGE, "it holds a part of an answer that it cannot know")
        return None

    def _of_text(self, before: str, after: str) -> Objection | None:
        if not after.strip() and before.strip():
            return Objection(Code.INVALID_TEMPLATE, "it is empty")
        if (had := placeholders(before)) != (has := placeholders(after)):
            wrong = ", ".join(sorted(had ^ has))
            return Objection(Code.INVALID_TEMPLATE, f"the variables must stay as they are; wrong: {wrong}")
        if (lost := _lost_format(before, after)) is not None:
            return Objection(Code.INVALID_TEMPLATE, f"what it says about the form of the answer must stay: {lost}")
        for span in self.fixed:
            if after.count(span) < before.count(span):
                return Objection(Code.FIXED_REGION, f"this must stay, letter by letter: {span}")
        return None


def _lost_format(before: str, after: str) -> str | None:
    """What *before* says about the form of an answer and *after* does not: an example, a key, a form's name."""
    for block in _FENCE.findall(before):
        if block not in after:
            return str(block)
    for key in _KEY.findall(before):
        if key not in after:
            return str(key)
    low, now = before.lower(), after.lower()
    return next((name for name in _FORMATS if name in low and name not in now), None)
