"""What a judge found wrong with an output, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MOST_LETTERS: Final = 300


def objections(judge: str, details: Mapping[str, Any]) -> Iterator[str]:
    """
    A line for each question that *judge* did not answer with yes.

    Args:
        details: of its opinion, or the same from a line of a result file.
    """
    for name, one in details.get("items", {}).items():
        if one["verdict"] != "yes":
            reason = f": {one['reason'][:_MOST_LETTERS]}" if one.get("reason") else ""
            yield f"{judge} says {one['verdict']} to {name}{reason}"
