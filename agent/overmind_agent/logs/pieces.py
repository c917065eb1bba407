"""
A job's log as it leaves the host: piece by piece, with every secret masked by as many asterisks.

The mask is as long as the secret, so a place in what was sent is the same place in the file. Nothing has to be
remembered of what was sent before but how much it was: not over a restart, and not when a secret is rotated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from overmind_config.redaction import Redactor

PIECE_BYTES: Final = 256 * 1024

Read = Callable[[int, int], bytes]


def next_piece(
    read: Read, redactor: Redactor, *, at: int, end: int, is_final: bool, most_bytes: int = PIECE_BYTES
) -> bytes:
    """
    What may be sent from *at* on, masked; empty for nothing yet.

    What may be the beginning of a secret is kept back until it is known, as is a line that is not ended: it is
    at most as long as the longest secret.

    Args:
        read: `read(at, size)` gives bytes of the log, fewer where it ends.
        end: where the log ends now.
        is_final: whether nothing will be added to it.
    """
    first = max(0, at - redactor.reach)
    raw = read(first, min(end, at + most_bytes + redactor.reach) - first)
    is_whole = is_final and first + len(raw) == end
    upto = len(raw) if is_whole else redactor.settled(raw)
    return redactor.masked(raw)[at - first : min(upto, at - first + most_bytes)]
