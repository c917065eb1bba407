"""
Whether new jobs are taken. A person may say no, and it holds until a person says yes.

The pause is in the journal: a crash, a watchdog or a reboot must not put a host to work again that somebody has
taken out of it. Who forgot it is reminded at each start.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

PAUSED: Final = "paused_at"
HINT: Final = "no new job is taken, present ones go on; overmind-agent resume ends it"


class Memory(Protocol):
    """What is known over restarts; the journal is one."""

    def recall(self, name: str) -> str | None:
        """What was last remembered under *name*."""

    def remember(self, name: str, value: str, *, synced: bool = False) -> None:
        """Keep *value*; through a power cut when *synced*."""


class Intake:
    """
    Safe to use from any thread.

    Args:
        otherwise: why no job can be taken for another reason, None when one can.
    """

    def __init__(self, memory: Memory, otherwise: Callable[[], str | None], log: FilteringBoundLogger) -> None:
        self._memory = memory
        self._otherwise = otherwise
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
        """Why no job can be taken now; None when one can."""
        return "not accepting: paused on this host" if self._paused_at is not None else self._otherwise()

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
