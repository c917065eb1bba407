"""
Models for the zoo that are tuned, and those that write prompts for them: what a prompt is worth is known exactly.

A tuned model answers `right` or `wrong`. How often it is right is the worth of its prompt: the number behind the
last `worth=` in it. Which of its answers are right is drawn from a digest of prompt and input, or, for a model with
moods, anew each time.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

Body = dict[str, Any]
_WORTH = re.compile(r"worth=([0-9.]+[0-9])")


def worth(prompt: str) -> float:
    """How often a model with that prompt is right."""
    found = _WORTH.findall(prompt)
    return float(found[-1]) if found else 0.5


def draw(*of: object) -> float:
    """A number in [0, 1) that is always the same for *of*."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:8]) / 2**64


def tuned(messages: list[Body]) -> str:
    """Right as often as its prompt is worth; the same question has the same answer."""
    prompt, given = str(messages[0]["content"]), str(messages[-1]["content"])
    return "right" if draw(prompt, given) < worth(prompt) else "wrong"


class Writer:
    """
    Answers with one text after the other, for ever.

    Attributes:
        questions: what it was shown, in order.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = itertools.cycle(texts)
        self._lock = threading.Lock()
        self.questions: list[str] = []

    def change(self, texts: Sequence[str]) -> None:
        """Answer with these from now on."""
        with self._lock:
            self._texts = itertools.cycle(texts)

    def __call__(self, messages: list[Body]) -> str:
        with self._lock:
            self.questions.append(str(messages[-1]["content"]))
            return f"<new_text>\n{next(self._texts)}\n</new_text>"


def by_question(text: Callable[[int], str]) -> Callable[[list[Body]], str]:
    """A writer whose text follows from what it is asked, whenever it is asked: for jobs that are killed."""

    def write(messages: list[Body]) -> str:
        number = int(draw(messages[-1]["content"]) * 1_000_000)
        return f"<new_text>{text(number)}</new_text>"

    return write


WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "glade", "heath", "islet", "jetty", "knoll", "larch")


def rows(number: int, **more: Any) -> list[Body]:
    """Rows that are no near-duplicates of each other, all with the answer `right`."""
    made = []
    for n in range(number):
        words = [WORDS[int(draw(n, place) * len(WORDS))] for place in range(8)]
        made.append({"id": f"r{n}", "input": f"{' '.join(words)} {n}", "expected_output": "right", **more})
    return made
