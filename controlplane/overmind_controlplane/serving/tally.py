"""Refusals that nobody answers for, counted: a flood of them leaves a few lines a minute, however long it lasts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from overmind_controlplane.record import audit

MOST_CALLERS: Final = 50
"""Told apart within a minute; those after them are counted together."""


@dataclass(frozen=True)
class Refusal:
    """
    A call that was refused, and how.

    Attributes:
        token_sha256: of the secret that it brought, when that was not looked up; empty without one.
        calls: how many such calls the line stands for.
    """

    call: audit.Asked
    http_status: int
    token_sha256: str = ""
    calls: int = 1

    @property
    def kind(self) -> tuple[int, str]:
        """What it has in common with others."""
        return self.http_status, self.call.code


class Tally:
    """
    Of refusals of one kind and one caller within a minute, the first is written at once and the others as one line.

    Not safe between threads: one event loop asks. Each server process counts for itself.
    """

    def __init__(self) -> None:
        self._counted: dict[tuple[tuple[int, str], str], Refusal] = {}

    def is_first(self, refusal: Refusal, who: str) -> bool:
        """Whether *refusal* is to be written now; else it is counted."""
        key = (refusal.kind, who)
        if key not in self._counted and len(self._counted) >= MOST_CALLERS:
            key = (refusal.kind, "")
            refusal = replace(refusal, call=replace(refusal.call, path=""), token_sha256="")
        known = self._counted.get(key)
        self._counted[key] = replace(refusal, calls=0) if known is None else replace(known, calls=known.calls + 1)
        return known is None

    def end(self) -> list[Refusal]:
        """What was counted since the last end, which begins a new minute."""
        counted, self._counted = self._counted, {}
        return [refusal for refusal in counted.values() if refusal.calls]
