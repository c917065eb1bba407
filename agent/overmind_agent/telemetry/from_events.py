"""
Counts what the daemon's log says. One listener stands in for calls all over the daemon: an event that somebody can
read is an event that can be counted, and a room that logs need not know that there are figures.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from overmind_agent.telemetry.meters import Meters

Event = Mapping[str, Any]

# So many claims are remembered for the time until they start.
MOST_CLAIMS: Final = 1000
PHASES: Final = ("validating", "running", "uploading")
ENDS: Final = {f"job.{outcome}": outcome for outcome in ("completed", "failed", "canceled", "released", "lost")}

SPECIAL: Final = frozenset({"job.started", "job.file_uploaded", "job.strays_killed", "outbox.delivered"})
"""Events with a method of their own; those of ENDS share one."""

PLAIN: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "job.claimed": ("jobs_claimed", ("job_type",)),
    "job.resumed": ("jobs_resumed", ("after",)),
    "job.crashed": ("job_crashes", ()),
    "job.file_left": ("result_files_left", ()),
    "job.refused": ("jobs_not_run", ("event",)),
    "job.not_granted": ("jobs_not_run", ("event",)),
    "job.given_up": ("jobs_not_run", ("event",)),
    "child.started": ("children_started", ("way",)),
    "nursery.refused": ("nursery_faults", ("event",)),
    "nursery.failed": ("nursery_faults", ("event",)),
    "nursery.spoiled": ("nursery_faults", ("event",)),
    "control_plane.retry_scheduled": ("control_plane_retries", ()),
    "control_plane.token_refused": ("token_refusals", ()),
    "outbox.refused": ("reports_refused", ()),
    "loop.failed": ("loop_failures", ("loop",)),
    "duty.failed": ("duty_failures", ("duty",)),
    "journal.refused": ("journal_refusals", ()),
    "log.retry_scheduled": ("log_shipping_faults", ("event",)),
    "log.refused": ("log_shipping_faults", ("event",)),
    "config.reloaded": ("reloads", ("event",)),
    "config.refused": ("reloads", ("event",)),
    "config.not_reloaded": ("reloads", ("event",)),
    "clock.stepped": ("clock_faults", ("event",)),
    "clock.skewed": ("clock_faults", ("event",)),
}
"""Events that are counted as they come: the metric, and the keys of the event that are its labels."""


class EventCounter:
    """
    Hears every event, whatever level is shown. Safe to use from any thread.

    Args:
        now_s: for the time between two events.
    """

    def __init__(self, meters: Meters, now_s: Callable[[], float] = time.monotonic) -> None:
        self._meters = meters
        self._now_s = now_s
        self._claimed_at_s: OrderedDict[str, float] = OrderedDict()
        self._special: Mapping[str, Callable[[Event], None]] = {
            "job.started": self._job_started,
            "job.file_uploaded": self._file_uploaded,
            "job.strays_killed": self._strays_killed,
            "outbox.delivered": self._delivered,
            **dict.fromkeys(ENDS, self._job_ended),
        }

    def hear(self, level: str, event: Event) -> None:
        """Count *event*."""
        name = str(event.get("event"))
        self._meters.count("log_events", {"level": level})
        if name == "job.claimed":
            self._remember(str(event.get("job_id")))
        if name in PLAIN:
            metric, labels = PLAIN[name]
            self._meters.count(metric, {label: event.get(label) for label in labels})
        elif name in self._special:
            self._special[name](event)

    def _remember(self, job_id: str) -> None:
        self._claimed_at_s[job_id] = self._now_s()
        if len(self._claimed_at_s) > MOST_CLAIMS:
            self._claimed_at_s.popitem(last=False)

    def _job_started(self, event: Event) -> None:
        claimed_at_s = self._claimed_at_s.pop(str(event.get("job_id")), None)
        if claimed_at_s is not None:
            waited_s = self._now_s() - claimed_at_s
            self._meters.observe("claim_to_start_seconds", waited_s, {"job_type": event.get("job_type")})

    def _job_ended(self, event: Event) -> None:
        self._claimed_at_s.pop(str(event.get("job_id")), None)
        outcome, job_type = ENDS[event["event"]], event.get("job_type")
        self._meters.count("jobs_finished", {"job_type": job_type, "outcome": outcome})
        if outcome == "failed":
            self._meters.count("job_failures", {"reason": event.get("reason")})
        if "duration_s" in event:
            self._meters.observe("job_seconds", event["duration_s"], {"job_type": job_type})
        phases_s = event.get("phases_s", {})
        for phase in PHASES:
            if phase in phases_s:
                self._meters.observe("job_phase_seconds", phases_s[phase], {"phase": phase})

    def _file_uploaded(self, event: Event) -> None:
        self._meters.count("result_files")
        self._meters.count("result_bytes", amount=event.get("size_bytes", 0))

    def _strays_killed(self, event: Event) -> None:
        self._meters.count("strays_killed", amount=event.get("processes", 1))

    def _delivered(self, event: Event) -> None:
        self._meters.count("reports_delivered")
        posted_at = datetime.fromisoformat(event["posted_at"])
        self._meters.observe("report_delay_seconds", max(0.0, (datetime.now(UTC) - posted_at).total_seconds()))
