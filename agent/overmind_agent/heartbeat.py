"""Keeps the leases of all held jobs alive, and hears what the control plane wants of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import Backoff, is_worth_retrying
from overmind_agent.errors import AuthError, OvermindAgentError, RejectedError
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.host.admission import Admission
from overmind_agent.jobs import REPLACED, Directive, Orders, StopReason
from overmind_agent.ports import Clock, ControlPlane

LEAST_GAP_S: Final = 1.0
MOST_HELD_S: Final = 10.0
# What a server that asks for patience is given at most: longer, and it would take back the jobs that are held.
PATIENCE_S: Final = 15.0
NOT_FOUND: Final = 404

_WISHES: Final = {Directive.CANCEL: StopReason.USER_REQUEST, Directive.SUPERSEDED: StopReason.LEASE_LOST}


class Heartbeat:
    """
    A thread and a connection of its own, so that no upload and no busy processor keeps it from beating.

    The exchange is one that the server may hold: a cancel is in its answer, which comes at once. While no job is
    held there is nothing to keep alive, and nothing is sent; but that no job is taken, and that one is again, is
    told at once.

    Args:
        admission: whether jobs are taken.
        interval_s: between two beats when the server does not hold them.
        on_drain: told why no new job may be taken.
        on_refused: told when the token is not accepted.
        register: makes the agent known again when the control plane has forgotten it.
    """

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        held_jobs: HeldJobs,
        admission: Admission,
        interval_s: float,
        is_draining: Callable[[], bool],
        on_drain: Callable[[str], object],
        on_refused: Callable[[AuthError], object],
        register: Callable[[], object],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._control_plane = control_plane
        self._held_jobs = held_jobs
        self._admission = admission
        self._told_gate: str | None = None
        self._interval_s = interval_s
        self._is_draining = is_draining
        self._on_drain = on_drain
        self._on_refused = on_refused
        self._register = register
        self._clock = clock
        self._log = log
        self._backoff = Backoff()
        self._closing = threading.Event()

    def run(self, closing: threading.Event) -> None:
        """Beat until *closing*."""
        self._closing = closing
        while not closing.is_set():
            is_due = self._held_jobs.wait_for_any(LEAST_GAP_S) or self.has_news()
            self._pause(self.beat() if is_due else 0.0)

    def _pause(self, seconds: float) -> None:
        """
        Until the next beat is due, or a job is held that the last one did not name.

        Its grant has ended that beat early, before the worker had read it; no cancel is heard of what is not named.
        """
        least_s = min(LEAST_GAP_S, seconds)
        self._clock.sleep(least_s)
        if seconds > least_s:
            self._clock.wait(self._held_jobs.has_new, seconds - least_s)

    def has_news(self) -> bool:
        """Whether jobs are taken, or why not, is other than the control plane was told."""
        return _gate(self._admission.shut) != self._told_gate

    def beat(self) -> float:
        """One exchange; returns how many seconds to wait before the next."""
        self._held_jobs.has_new.clear()
        held = self._held_jobs.leased()
        shut = self._admission.shut
        wait_s = min(self._interval_s, MOST_HELD_S, *(h.claim.lease.ttl_s / 4 for h in held if h.claim.lease))
        sent_at_s = self._clock.now_s()
        lines = self._held_jobs.lines()
        try:
            orders = self._control_plane.heartbeat(
                lines,
                draining=self._is_draining(),
                wait_s=wait_s if held else 0.0,
                not_accepting=": ".join(shut) if shut else None,
            )
        except AuthError as error:
            self._on_refused(error)
            return self._interval_s
        except OvermindAgentError as error:
            pause_s = min(self._backoff.after(error), max(LEAST_GAP_S, wait_s))
            if isinstance(error, RejectedError) and error.http_status == NOT_FOUND:
                self._log.warning("agent.forgotten", error=str(error))
                self._become_known()
            elif is_worth_retrying(error) and not self._closing.is_set():  # which cuts short the one that is held
                self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(pause_s, 1))
            elif not is_worth_retrying(error):
                self._log.error("control_plane.rejected", verb="heartbeat", error=str(error))
                self._held_jobs.told(lines)  # a step that is refused comes with the outcome, and costs no lease
            return pause_s
        self._backoff.reset()
        self._held_jobs.told(lines)
        self._told_gate = _gate(shut)
        self._obey(orders, sent_at_s)
        if not held:
            return 0.0
        took_s = self._clock.now_s() - sent_at_s
        named = {line.job_id for line in lines}
        # The answer comes early when a job was claimed meanwhile, and no cancel of it is heard before it is named.
        has_news = any(d is not Directive.CONTINUE for d in orders.directives.values()) or any(
            h.claim.job.id not in named for h in self._held_jobs.leased()
        )
        return max(0.0, (min(LEAST_GAP_S, wait_s) if has_news else wait_s) - took_s)

    def _become_known(self) -> None:
        """The control plane has forgotten us, not necessarily our jobs: those go on until it says otherwise."""
        try:
            self._register()
            self._told_gate = None
        except OvermindAgentError as error:  # the next beat says so again
            self._log.warning("control_plane.not_registered", error=str(error))

    def _obey(self, orders: Orders, sent_at_s: float) -> None:
        for job_id, directive in orders.directives.items():
            held = self._held_jobs.find(job_id)
            if held is None:
                continue
            held.renew(orders.leases.get(job_id), sent_at_s=sent_at_s)
            if (wish := _WISHES.get(directive)) is not None:
                held.ask_to_stop(wish)
        if orders.is_replaced:
            self._on_drain(REPLACED)
        elif orders.drain:
            self._on_drain("the control plane asked for it")


def _gate(shut: tuple[str, str] | None) -> str | None:
    """Which gate is shut: why it is may change with every byte of a disk, and is no news."""
    return shut[0] if shut else None
