"""
Whether the daemon lives, and whether it takes work; and why not, in words that programs can read.

*Live* is about our own loops alone: a server that is away makes no daemon unhealthy, and restarting it would only
kill its jobs. *Ready* is whether a job that is submitted now would be taken by this agent. Both are worked out when
they are asked for, from facts that other threads leave here; a fact that nobody renews grows old by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from overmind_agent import __version__
from overmind_agent.contact import Contact
from overmind_agent.loops import Pulses
from overmind_agent.ports import Clock

# The main thread turns every two seconds; after three turns that did not come it hangs.
MAIN_LATE_S: Final = 8.0
# At the end it waits for the last statuses and for its threads.
ENDING_S: Final = 90.0

REASONS: Final = {
    "main_thread_late": "the main thread does not turn",
    "loop_late": "a loop gives no sign of life",
    "loop_ended": "a loop is gone",
    "starting": "the control plane has not answered yet",
    "draining": "it takes no new job",
    "paused": "it takes no job until it is resumed",
    "control_plane_away": "the control plane does not answer",
    "token_refused": "the control plane does not accept the token",
    "disk_short": "the disk has too little room for another job",
    "journal_refused": "the journal cannot be written",
}
"""Every code that a daemon gives, and what it means."""

ALIVE: Final = frozenset({"main_thread_late", "loop_late", "loop_ended"})
"""Those that make it not live; all others make it not ready."""


@dataclass(frozen=True)
class Reason:
    """Why not: *code* is a key of REASONS, *message* says what of it."""

    code: str
    message: str


@dataclass(frozen=True)
class Report:
    """
    The health of a daemon.

    Attributes:
        good_for_s: after so many seconds without a newer report the daemon is not live, whatever this one says.
    """

    live: bool
    ready: bool
    reasons: tuple[Reason, ...]
    jobs: int
    pid: int
    version: str
    good_for_s: float = MAIN_LATE_S

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "reasons": [asdict(reason) for reason in self.reasons]}


class Health:
    """
    What is known of the daemon. Safe to use from any thread.

    Args:
        jobs: how many are held.
        away_after_s: without an answer for so long, after a call that failed, the control plane is away.
        clock: of *contact*.
        now_s: for the main thread; stands still while the host is suspended, so that it is not late after that.
    """

    def __init__(
        self,
        *,
        pulses: Pulses,
        jobs: Callable[[], int],
        contact: Contact,
        away_after_s: float,
        clock: Clock,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pulses = pulses
        self._jobs = jobs
        self._contact = contact
        self._away_after_s = away_after_s
        self._clock = clock
        self._now_s = now_s
        self._turned_at_s = now_s()
        self._good_for_s = MAIN_LATE_S
        self._standing: dict[str, Callable[[], str | None]] = {}

    def turn(self) -> None:
        """The main thread turns."""
        self._turned_at_s = self._now_s()

    def end(self) -> None:
        """The main thread waits for the end of everything else, and turns no more."""
        self.turn()
        self._good_for_s = ENDING_S

    def ask(self, code: str, why: Callable[[], str | None]) -> None:
        """Not ready for *code* as long as *why* says something; it is asked whenever somebody asks us."""
        self._standing[code] = why

    def report(self) -> Report:
        """How it is now."""
        reasons = tuple(self._reasons())
        return Report(
            live=not any(reason.code in ALIVE for reason in reasons),
            ready=not reasons,
            reasons=reasons,
            jobs=self._jobs(),
            pid=os.getpid(),
            version=__version__,
            good_for_s=self._good_for_s,
        )

    def _reasons(self) -> list[Reason]:
        found = [*self._about_the_threads(), *self._about_the_control_plane()]
        for code, why in self._standing.items():
            if (message := why()) is not None:
                found.append(Reason(code, message))
        return found

    def _about_the_threads(self) -> Iterator[Reason]:
        late_s = self._now_s() - self._turned_at_s
        if late_s > self._good_for_s:
            yield Reason("main_thread_late", f"no sign of life for {late_s:.0f} s")
        for pulse in self._pulses.all():
            if pulse.is_late:
                yield Reason("loop_late", f"{pulse.name}: no sign of life for {pulse.quiet_s:.0f} s")
            if pulse.is_broken:
                yield Reason("loop_ended", pulse.name)

    def _about_the_control_plane(self) -> Iterator[Reason]:
        state = self._contact.state
        if state.is_refused:
            yield Reason("token_refused", "put a valid one into its file")
        elif state.answered_at_s is None:
            yield Reason("starting", state.trouble or REASONS["starting"])
        elif state.trouble is not None:
            silent_s = self._clock.now_s() - state.answered_at_s
            if silent_s > self._away_after_s:
                yield Reason("control_plane_away", f"its last answer came {silent_s:.0f} s ago: {state.trouble}")
