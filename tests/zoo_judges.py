"""
Judges for the zoo, with errors that are known: they read what they are shown, know the truth, and err by rule.

The truth of an output stands in it: `fine` is good, everything else is not. Which answers are wrong is drawn from a
digest of the output, so the same output meets the same error, unless a judge is asked for votes.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
_PART = re.compile(r"<<<([A-Z ]+) ([0-9a-f]{16})>>>\n(.*?)\n<<<END \1 \2>>>", re.DOTALL)
_QUESTION = re.compile(r"^- ([\w.-]+):", re.MULTILINE)


def shown(messages: list[Body]) -> dict[str, str]:
    """The fenced parts of a judge's messages, by name; only fences that carry their own digest count."""
    return {name: text for name, _, text in _PART.findall(str(messages[1]["content"]))}


def asked(messages: list[Body]) -> list[str]:
    """The ids of the questions."""
    return _QUESTION.findall(str(messages[0]["content"]))


def is_fine(output: str) -> bool:
    """The truth."""
    return re.search(r"\bfine\b", output) is not None


def draw(*of: object) -> float:
    """A number in [0, 1) that is always the same for *of*."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:8]) / 2**64


@dataclass
class RubricJudge:
    """
    Answers every question with its opinion of the output.

    Attributes:
        sensitivity: how often it says yes to a fine output; specificity: how often no to another.
        mood: how often a vote differs from the opinion that it has of an output.
        is_gullible: whether it obeys an output that asks for full marks.
        quote: what it quotes for a yes; None for the output's first word.
    """

    name: str = "judge"
    sensitivity: float = 1.0
    specificity: float = 1.0
    mood: float = 0.0
    is_gullible: bool = False
    quote: str | None = None
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, messages: list[Body]) -> str:
        output = shown(messages)["OUTPUT"]
        says = self._opinion(output)
        if self.is_gullible and re.search(r"ignore|10/10|verdict", output, re.IGNORECASE):
            says = True
        names = asked(messages)
        if not names:
            return "Yes." if says else "No."
        quote = self.quote if self.quote is not None else output.split()[0]
        verdict = "yes" if says else "no"
        items = [{"id": name, "reason": "so", "quote": quote if says else "", "verdict": verdict} for name in names]
        return "Let me see.\n" + json.dumps({"items": items})

    def _opinion(self, output: str) -> bool:
        fine = is_fine(output)
        says = (draw(self.name, output) < (self.sensitivity if fine else self.specificity)) == fine
        with self._lock:
            self._times[output] += 1
            time = self._times[output]
        return says != (draw(self.name, output, time) < self.mood)


@dataclass
class PairJudge:
    """Names the output with the larger number in it, but with *first_bias* the first one, whatever it holds."""

    first_bias: float = 0.0

    def __call__(self, messages: list[Body]) -> str:
        parts = shown(messages)
        one, other = (int(re.findall(r"\d+", parts[name])[0]) for name in ("OUTPUT A", "OUTPUT B"))
        winner = "A" if one > other else "B" if other > one else "tie"
        if draw(tuple(sorted((one, other)))) < self.first_bias:
            winner = "A"
        return json.dumps({"reason": "so", "winner": winner})
