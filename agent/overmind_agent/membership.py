"""This agent among those of its control plane: made known, kept up to date, taken leave of."""

from __future__ import annotations

import math
import threading
from typing import Final

from overmind_agent.backoff import insist
from overmind_agent.errors import ControlPlaneError, OvermindAgentError
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.ports import ControlPlane
from overmind_agent.standing import Standing

# Between two tries to tell a server that refuses us, as with a wrong token, what this host has for jobs now.
OFFER_GAP_S: Final = 60.0


class Membership:
    """Its id is in the journal, so it stays the same agent over all starts. Safe to use from any thread."""

    def __init__(self, standing: Standing, journal: SqliteJournal) -> None:
        self._standing = standing
        self._journal = journal
        self._log = standing.log
        self._telling = threading.Lock()
        self.is_registered = False

    def return_to(self, plane: ControlPlane, reach_s: float) -> None:
        """
        As `register`, at the start of the daemon: what an earlier start left is kept alive first, and from then on.

        That start may have been killed a moment before its leases run out, and the calls of a registration take
        their time on a bad network.
        """
        us = self._standing
        us.held_jobs.keep(self._journal.leased(), us.clock)
        if lines := us.held_jobs.lines():
            try:
                plane.heartbeat(lines, draining=False, wait_s=0)
            except OvermindAgentError as error:  # registering is tried again and again, and says what is wrong
                self._log.info("leases.not_renewed", jobs=len(lines), error=str(error))
        self.register(plane, reach_s)

    def register(self, plane: ControlPlane, reach_s: float) -> None:
        """
        Make the agent known, and what this host has for jobs. Returns without when the daemon drains meanwhile.

        Args:
            reach_s: for how long to try while the control plane is out of reach.

        Raises:
            ControlPlaneError: it is still out of reach then, or does not accept the token.
        """
        clock, draining = self._standing.until_drain, self._standing.draining
        ends_at_s = clock.now_s() + reach_s
        try:
            agent_id = insist(
                lambda: plane.register(self._journal.agent_id()),
                sleep=lambda seconds: clock.sleep(min(seconds, max(0.0, ends_at_s - clock.now_s()))),
                stop=lambda _: draining.is_set() or clock.now_s() >= ends_at_s,
                on_retry=self._on_retry,
            )
        except ControlPlaneError:
            if draining.is_set():
                return
            raise
        self._journal.remember_agent(agent_id)
        event = "agent.registered_again" if self.is_registered else "agent.started"
        self.is_registered = True
        now = self._standing.in_force
        self._log.info(
            event, agent_id=agent_id, job_types=list(now.job_types), sandbox=now.children.sandbox.level.value
        )

    def tell_offer(self, plane: ControlPlane) -> None:
        """As soon as the server listens; until then it offers what it knows of, and the worker declines."""
        us = self._standing
        with self._telling:
            while not us.draining.is_set():
                try:
                    self.register(plane, math.inf)
                except OvermindAgentError as error:
                    self._log.warning("control_plane.not_registered", error=str(error))
                    us.until_drain.sleep(OFFER_GAP_S)
                else:
                    return

    def leave(self, plane: ControlPlane) -> None:
        """After the last heartbeat; who cannot be told finds out when the leases run out."""
        try:
            plane.leave()
        except OvermindAgentError as error:
            self._log.info("control_plane.not_told", error=str(error))

    def _on_retry(self, error: BaseException, wait_s: float) -> None:
        self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(wait_s, 1))
