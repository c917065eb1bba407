"""What the figures say of the daemon as it is now: its view, its health, and its disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from overmind_agent import __version__
from overmind_agent.control.view import AgentView
from overmind_agent.errors import JournalError
from overmind_agent.host.disk import least_free_bytes
from overmind_agent.loops import Pulses
from overmind_agent.telemetry.health import Health
from overmind_config.logs import Logs

if TYPE_CHECKING:  # an extra, which a daemon that nobody reads does without
    from overmind_agent.telemetry.meters import Sample


class Looking:
    """
    Asked whenever somebody reads the figures. Safe to use from any thread.

    Args:
        snapshot: the daemon's view; it reads the journal, which may fail: then the rest is shown.
        min_free_bytes: as the settings say it.
    """

    def __init__(
        self,
        snapshot: Callable[[], AgentView],
        *,
        health: Health,
        pulses: Pulses,
        logs: Logs,
        state: Path,
        min_free_bytes: Callable[[], int | None],
    ) -> None:
        self._snapshot = snapshot
        self._health = health
        self._pulses = pulses
        self._logs = logs
        self._state = state
        self._min_free_bytes = min_free_bytes

    def __call__(self) -> Iterator[Sample]:
        """All samples."""
        yield "build_info", 1, (__version__,)
        yield from self._of_health()
        for pulse in self._pulses.all():
            if pulse.is_running:
                yield "loop_quiet_seconds", pulse.quiet_s, (pulse.name,)
        yield "log_lines_lost", self._logs.lost_lines, ()
        yield "secrets_masked", self._logs.redactor.masked_count, ()
        with suppress(OSError):
            yield from self._of_the_disk()
        with suppress(JournalError):
            yield from _of_the_view(self._snapshot())

    def _of_health(self) -> Iterator[Sample]:
        report = self._health.report()
        yield "live", report.live, ()
        yield "ready", report.ready, ()
        for code in sorted({reason.code for reason in report.reasons}):
            yield "not_ready_reason", 1, (code,)

    def _of_the_disk(self) -> Iterator[Sample]:
        found = os.statvfs(self._state)
        size_bytes = found.f_blocks * found.f_frsize
        yield "disk_free_bytes", found.f_bavail * found.f_frsize, ()
        yield "disk_least_free_bytes", least_free_bytes(size_bytes, self._min_free_bytes()), ()


def _of_the_view(view: AgentView) -> Iterator[Sample]:
    yield "uptime_seconds", view.uptime_s, ()
    yield "slots", view.slots, ()
    yield "slots_in_use", view.slots - view.free_slots, ()
    yield "draining", view.is_draining, ()
    yield "paused", view.paused_at is not None, ()
    yield "outbox_depth", view.outbox.waiting, ()
    yield "outbox_parked", view.outbox.parked, ()
    yield "outbox_oldest_seconds", view.outbox.oldest_s or 0.0, ()
    if view.contact.answered_s is not None:
        yield "control_plane_silent_seconds", view.contact.answered_s, ()
    if view.contact.token_expires_at is not None:
        yield "token_expires_timestamp_seconds", view.contact.token_expires_at.timestamp(), ()
    leases_s = [job.lease_left_s for job in view.jobs if job.lease_left_s is not None]
    if leases_s:
        yield "lease_remaining_seconds", min(leases_s), ()
    held = Counter(job.job_type for job in view.jobs)
    for job_type in sorted(set(view.job_types) | set(held)):
        yield "jobs_held", held[job_type], (job_type,)
