"""Whether a candidate carries answers that it cannot have learnt: spans of what held-out rows expect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from overmind_executors.rows.rows import Row
from overmind_executors.scoring.texts import as_text, folded

SPAN: Final = 20
"""Letters in a row, after folding, that are no coincidence."""


class LeakScan:
    """
    Knows digests of spans, never the answers themselves, so that whoever asks it learns nothing.

    Args:
        hidden: rows whose answers must not show up in a candidate.
        known: texts that it may well repeat: the prompt as it was, the answers of the rows that it learns from.
    """

    def __init__(self, hidden: Iterable[Row], known: Iterable[str]) -> None:
        may = {span for text in known for span in _spans(text)}
        answers = (as_text(row.expected) for row in hidden if row.expected is not None)
        self._hidden = frozenset(span for answer in answers for span in _spans(answer) if span not in may)

    def finds(self, text: str) -> bool:
        """Whether *text* has such a span."""
        return bool(self._hidden) and any(span in self._hidden for span in _spans(text))


def _spans(text: str) -> Iterator[bytes]:
    plain = folded(text)
    for start in range(len(plain) - SPAN + 1):
        yield hashlib.blake2b(plain[start : start + SPAN].encode(), digest_size=12).digest()
