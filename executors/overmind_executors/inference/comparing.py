"""Whether an answer is the expected one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.inference.parameters import Comparison
from overmind_executors.inference.requests import as_text

Judgement = Callable[[Any, Any], bool]
MAX_LABELS: Final = 1000


def judgement(comparison: Comparison, labels: Iterable[str]) -> Judgement:
    """
    A function that says of `(output, expected)` whether the output is right.

    Args:
        labels: of the rows, for a comparison that names none of its own.

    Raises:
        InvalidParameters: a comparison by label without labels.
    """
    sensitive = comparison.case_sensitive if comparison.case_sensitive is not None else comparison.kind == "exact"
    fold: Callable[[str], str] = str if sensitive else str.casefold
    if comparison.kind == "label":
        return _by_label(tuple(comparison.labels or labels), fold)
    return _exact(fold) if comparison.kind == "exact" else _contains(fold)


def _exact(fold: Callable[[str], str]) -> Judgement:
    def is_right(output: Any, expected: Any) -> bool:
        if isinstance(output, str) and not isinstance(expected, str):
            return _same_json(output, expected)
        return fold(as_text(output).strip()) == fold(as_text(expected).strip())

    return is_right


def _same_json(output: str, expected: Any) -> bool:
    try:
        said = strict_json.loads(output)
    except strict_json.NotJson:
        return False
    return strict_json.canonical(said) == strict_json.canonical(expected)


def _contains(fold: Callable[[str], str]) -> Judgement:
    return lambda output, expected: fold(as_text(expected).strip()) in fold(as_text(output))


def _by_label(labels: tuple[str, ...], fold: Callable[[str], str]) -> Judgement:
    if not 0 < len(labels) <= MAX_LABELS:
        raise InvalidParameters(
            Problem("comparison.labels", f"name the labels: the rows have {len(labels)} expected outputs")
        )
    # Longest first, so that of "not good" and "good" at one place the longer one is found.
    choices = "|".join(re.escape(fold(label.strip())) for label in sorted(labels, key=len, reverse=True))
    word = re.compile(rf"(?<!\w)(?:{choices})(?!\w)")

    def is_right(output: Any, expected: Any) -> bool:
        found = word.search(fold(as_text(output)))
        return found is not None and found.group() == fold(as_text(expected).strip())

    return is_right
