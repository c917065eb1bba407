"""One slot of the daemon: a thread that takes step after step, and knows when to wait and when to end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import Backoff, is_worth_retrying
from overmind_agent.errors import AuthError, JournalError, OvermindAgentError, RejectedError
from overmind_agent.jobs import REPLACED, Ended, NoJob
from overmind_agent.patience import Bounded
from overmind_agent.ports import Clock
from overmind_agent.worker import Worker

# Between two polls when the control plane answers at once that it has nothing; from half of it to one and a half.
POLL_GAP_S: Final = 5.0
# Between two tries with a token that is not accepted: a new one may be on its way to this host.
REFUSED_GAP_S: Final = 60.0
# Between two tries when the disk does not take what must be written first. Somebody may be making room.
DISK_GAP_S: Final = 5.0


class Forever:
    """
    The daemon: whatever a step brings, there is another one.

    Args:
        draw: a number in [0, 1).
    """

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw

    def poll_s(self, most_s: float) -> float:
        """How long a poll may be held open: a thousand agents that began together are soon out of step."""
        return most_s * (1 + self._draw()) / 2

    def is_over(self, _step: Ended | NoJob) -> bool:
        """Whether that step was the last one."""
        return False

    def gives_up(self, _error: OvermindAgentError) -> bool:
        """Whether that error is not waited out any longer."""
        return False


class Once:
    """
    `run --once`: one job, or none after *wait_s* seconds; and no more than *reach_s* seconds of errors.

    Attributes:
        step: what the last step brought, None before that.
    """

    def __init__(self, clock: Clock, *, wait_s: float, reach_s: float) -> None:
        self._clock = clock
        self._ends_at_s = clock.now_s() + wait_s
        self._reach_by_s = clock.now_s() + max(wait_s, reach_s)
        self.step: Ended | NoJob | None = None

    def poll_s(self, most_s: float) -> float:
        """How long a poll may be held open."""
        return max(0.0, min(most_s, self._ends_at_s - self._clock.now_s()))

    def is_over(self, step: Ended | NoJob) -> bool:
        """Whether *step* was the last one."""
        self.step = step
        return isinstance(step, Ended) or self._clock.now_s() >= self._ends_at_s

    def gives_up(self, error: OvermindAgentError) -> bool:
        """Whether *error* is not waited out any longer."""
        return isinstance(error, AuthError) or self._clock.now_s() >= self._reach_by_s


class Slot:
    """
    Takes steps until told otherwise.

    Args:
        patience: when it is over.
        clock: its sleep ends when the daemon drains.
        register: makes the agent known again when the control plane has forgotten it.
        on_drain: told why no more jobs are to be asked for.
        on_fatal: told of the error after which the daemon cannot go on.
        draw: a number in [0, 1).
    """

    def __init__(
        self,
        worker: Worker,
        patience: Forever | Once | Bounded,
        *,
        poll_wait_s: float,
        is_draining: Callable[[], bool],
        register: Callable[[], object],
        on_drain: Callable[[str], object],
        on_fatal: Callable[[BaseException], object],
        clock: Clock,
        log: FilteringBoundLogger,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._worker = worker
        self._patience = patience
        self._poll_wait_s = poll_wait_s
        self._is_draining = is_draining
        self._register = register
        self._on_drain = on_drain
        self._on_fatal = on_fatal
        self._clock = clock
        self._log = log
        self._draw = draw
        self._backoff = Backoff()

    def run(self) -> None:
        """Step after step, until it is over, the daemon drains, or it cannot go on."""
        while not self._is_draining():
            began_s = self._clock.now_s()
            try:
                step = self._worker.step(wait_s=self._patience.poll_s(self._poll_wait_s))
            except OvermindAgentError as error:
                if not self._goes_on_after(error):
                    return
                continue
            self._backoff.reset()
            if self._patience.is_over(step):
                return
            if isinstance(step, NoJob):
                if step.is_replaced:
                    self._on_drain(REPLACED)
                self._log.debug("worker.no_job", message=step.message)
                gap_s = POLL_GAP_S * (0.5 + self._draw())
                self._clock.sleep(gap_s - (self._clock.now_s() - began_s))

    def _goes_on_after(self, error: OvermindAgentError) -> bool:
        """Wait out what may pass; False when there is nothing to wait for."""
        if self._is_draining():
            return False
        if self._patience.gives_up(error):
            self._on_fatal(error)
            return False
        self._clock.sleep(self._wait_after(error))
        if isinstance(error, RejectedError) and error.http_status == 404:
            return self._registers_anew()
        return True

    def _wait_after(self, error: OvermindAgentError) -> float:
        if isinstance(error, JournalError):
            self._log.error("journal.refused", error=str(error), wait_s=DISK_GAP_S, hint="make room on the disk")
            return DISK_GAP_S
        wait_s = REFUSED_GAP_S if isinstance(error, AuthError) else self._backoff.after(error)
        if isinstance(error, AuthError):
            self._log.error("control_plane.token_refused", error=str(error), hint="put a valid one into its file")
        elif not is_worth_retrying(error):
            self._log.error("control_plane.rejected", error=str(error))
        self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(wait_s, 1))
        return wait_s

    def _registers_anew(self) -> bool:
        """The control plane has forgotten us. When it does not listen now, the next poll says so again."""
        try:
            self._register()
        except AuthError as error:
            self._on_fatal(error)
            return False
        except OvermindAgentError as error:
            self._log.warning("control_plane.not_registered", error=str(error))
        return True
