"""What is known of the start before this one: how it ended, and how long ago it was last alive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from overmind_agent.lifecycle import Status
from overmind_agent.ports import Journal

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# After so long nobody waits for a job any more; a result that was finished is delivered all the same.
TOO_LATE: Final = timedelta(hours=48)


class Memory(Protocol):
    """A few words that outlive the process."""

    def recall(self, name: str) -> str | None:
        """What was last remembered under *name*."""

    def remember(self, name: str, value: str, *, synced: bool = False) -> None:
        """Keep *value*. A power cut may undo it, unless it is *synced*."""


@dataclass(frozen=True)
class LastLife:
    """
    Attributes:
        ended_by: `host_reboot`, or `agent_end` for a crash, a kill or a stop; `unknown` when nothing tells.
        away: since its last sign of life; None when it gave none.
    """

    ended_by: str
    away: timedelta | None

    @property
    def is_too_late(self) -> bool:
        """Whether the work that it left is not to be gone on with."""
        return self.away is not None and self.away > TOO_LATE


def look_back(memory: Memory, now: datetime, boot_id: str | None) -> LastLife:
    """What *memory* says; this start takes its place there."""
    boot_before, alive_at = memory.recall("boot_id"), memory.recall("alive_at")
    ended_by = "unknown"
    if boot_id and boot_before:
        ended_by = "agent_end" if boot_id == boot_before else "host_reboot"
    away = now - datetime.fromisoformat(alive_at) if alive_at else None
    if boot_id:
        memory.remember("boot_id", boot_id)
    return LastLife(ended_by, away)


def note_alive(memory: Memory) -> None:
    """Now and then, for the next start."""
    memory.remember("alive_at", datetime.now(UTC).isoformat())


def read_boot_id(path: Path = BOOT_ID) -> str | None:
    """The kernel's name for this boot of the host; None where it cannot be read."""
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def give_up_what_is_too_late(journal: Journal, life: LastLife, log: FilteringBoundLogger) -> None:
    """Fail the jobs that *life* left too long ago, but for those whose result was finished."""
    if life.away is None or not life.is_too_late:
        return
    hours = life.away.total_seconds() / 3600
    for claim in journal.held():
        if Status.UPLOADING not in journal.statuses(claim):
            message = f"agent_restarted: the agent was away for {hours:.0f} h, more than {TOO_LATE.days * 24}"
            journal.post(claim, Status.FAILED, message=message, detail={"reason": "agent_restarted"})
            log.error("job.given_up", job_id=claim.job.id, attempt=claim.attempt, away_h=round(hours, 1))
