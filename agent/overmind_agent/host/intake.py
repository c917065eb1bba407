"""
Whether new jobs are taken, as a person says: no holds until a person says yes.

The pause is in the journal: a crash, a watchdog or a reboot must not put a host to work again that somebody has
taken out of it. Who forgot it is reminded at each start.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

PAUSED: Final = "paused_at"
REFUSED: Final = "somebody said so on this host; overmind-agent resume ends it"
HINT: Final = "no new job is taken, present ones go on; overmind-agent resume ends it"


class Memory(Protocol):
    """What is known over restarts; the journal is one."""

    def recall(self, name: str) -> str | None:
        """What was last remembered under *name*."""

    def remember(self, name: str, value: str, *, synced: bool = False) -> None:
        """Keep *value*; through a power cut when *synced*."""


class Intake:
    """One of the gates of `admission`. Safe to use from any thread."""

    def __init__(self, memory: Memory, log: FilteringBoundLogger) -> None:
        self._memory = memory
        self._log = log
        noted = memory.recall(PAUSED)
        self._paused_at = datetime.fromisoformat(noted) if noted else None
        if self._paused_at is not None:
            log.warning("agent.paused", since=noted, hint=HINT)

    @property
    def paused_at(self) -> datetime | None:
        """Since when no new job is taken because a person said so; None when one is."""
        return self._paused_at

    def refusal(self) -> str | None:
        """Why no job is taken now; None when nobody said so."""
        return REFUSED if self._paused_at is not None else None

    def pause(self) -> datetime:
        """Take no new job from now on; returns since when that is so, which may be longer."""
        if self._paused_at is None:
            now = datetime.now(UTC)
            self._memory.remember(PAUSED, now.isoformat(), synced=True)
            self._paused_at = now
            self._log.warning("agent.paused", since=now.isoformat(), hint=HINT)
        return self._paused_at

    def resume(self) -> bool:
        """Take new jobs again; False when that was so before."""
        if self._paused_at is None:
            return False
        self._memory.remember(PAUSED, "", synced=True)
        self._paused_at = None
        self._log.info("agent.resumed")
        return True
