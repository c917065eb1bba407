"""
Puts the daemon together, and leads it from its start to its end.

```
standing       what is given, and what all threads share
state          what lies in the state folder
membership     this agent among those of its control plane
crew           worker 1…n, heartbeat, delivery, logs
main thread    signals, watchdog, the order of the end          supervisor
duties         sweeping folders, on APScheduler
```

At the end the slots stop first, then the outbox is emptied, and only then does the heartbeat cease.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.children import processes
from overmind_agent.children.nursery import Nursery
from overmind_agent.configuration.reload import Reload
from overmind_agent.control.server import ControlServer
from overmind_agent.control.snapshot import Parts, look
from overmind_agent.control.verbs import verbs
from overmind_agent.control.view import AgentView
from overmind_agent.crew import Crew
from overmind_agent.duties import Duties, Duty
from overmind_agent.errors import AuthError
from overmind_agent.host.capacity import Capacity
from overmind_agent.host.token_expiry import TokenExpiry
from overmind_agent.host.wall_clock import WallClock
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.loops import stacks
from overmind_agent.membership import Membership
from overmind_agent.notify import Notifier
from overmind_agent.over_http.planes import Planes
from overmind_agent.patience import Bounded, Bounds
from overmind_agent.ports import ControlPlane
from overmind_agent.signals import Signals
from overmind_agent.slot import Forever, Once
from overmind_agent.standing import Outside, Standing
from overmind_agent.state import State, open_state, using
from overmind_agent.supervisor import Supervisor, check_watchdog
from overmind_agent.telemetry.telemetry import Telemetry
from overmind_config.settings import Settings

# How long `run --once` tries to reach the control plane before it gives up.
ONCE_REACH_S: Final = 15.0
# What the last statuses are given at the end; whatever is left then is sent by the next start.
FLUSH_S: Final = 30.0
SWEEP_EVERY_S: Final = 600.0
DAY_S: Final = 86_400.0
PRUNE_EVERY_S: Final = 3600.0
TEND_EVERY_S: Final = 30.0


@dataclass(frozen=True)
class Outcome:
    """
    How `run --once` ended: its one job or none.

    Attributes:
        fate: of the job's last word: `delivered`, `waiting` for a control plane that is out of reach, or `refused`:
            the job was canceled or given to somebody else in the last moment.
    """

    step: Ended | NoJob
    fate: str


class Service:
    """One daemon over one state folder, for one `run`, `run_until` or `once`."""

    def __init__(self, settings: Settings, outside: Outside, log: FilteringBoundLogger) -> None:
        self._log = log
        self._standing = us = Standing(settings, outside, log)
        self._telemetry = Telemetry(
            lambda: us.settings,
            pulses=us.pulses,
            held_jobs=us.held_jobs,
            contact=us.contact,
            clock=us.clock,
            logs=outside.logs,
            snapshot=self.snapshot,
        )
        self._nursery: Nursery | None = None
        self._state: State
        self._planes: Planes
        self._membership: Membership
        self._crew: Crew

    def run(self) -> None:
        """
        Work until a signal says otherwise.

        Raises:
            AuthError: the token was not accepted at the start; later a new one is waited for.
            StateInUse, JournalError: the daemon cannot go on; nothing that it knows is lost.
        """
        with self._started(reach_s=math.inf) as supervisor, self._nursery_open() as nursery:
            supervisor.watch(self._crew.slots(self._standing.settings.agent.slots, Forever(), nursery=nursery))
            self._say_the_rest()

    def run_until(self, bounds: Bounds) -> list[Outcome]:
        """
        Work within *bounds*; returns how each job ended.

        Raises:
            ControlPlaneError, ProtocolError: the control plane is out of reach, or does not accept us.
            StateInUse, JournalError: as for `run`.
        """
        us = self._standing
        agent = us.settings.agent
        us.capacity = Capacity(agent.slots, agent.weight_of, us.clock, most_jobs=bounds.max_jobs)
        with self._started(reach_s=ONCE_REACH_S) as supervisor, self._nursery_open() as nursery:
            patience = Bounded(bounds, us.capacity, us.until_drain)
            supervisor.watch(self._crew.slots(agent.slots, patience, nursery=nursery))
            self._say_the_rest()
            return [self._outcome(step) for step in patience.ended]

    def once(self, *, wait_s: float, job_id: str | None = None) -> Outcome:
        """
        One job, or none within *wait_s* seconds.

        Args:
            job_id: no other job than this one.

        Raises:
            ControlPlaneError, ProtocolError: the control plane is out of reach, or does not accept us.
            StateInUse, JournalError: as for `run`.
        """
        with self._started(reach_s=ONCE_REACH_S) as supervisor:
            patience = Once(self._standing.until_drain, wait_s=wait_s, reach_s=ONCE_REACH_S)
            supervisor.watch(self._crew.slots(1, patience, only=job_id))
            self._say_the_rest()
            outcome = self._outcome(patience.step or NoJob("asked to stop before there was a job"))
            self._sweep()
        return outcome

    def snapshot(self) -> AgentView:
        """The daemon as it is now. From any thread, once the journal is open."""
        us = self._standing
        return look(
            Parts(
                settings=lambda: us.settings,
                capacity=lambda: us.capacity,
                held_jobs=us.held_jobs,
                pulses=us.pulses,
                journal=self._state.journal,
                contact=us.contact,
                clock=us.clock,
                started_at=us.started_at,
                started_at_s=us.started_at_s,
                job_types=lambda: us.in_force.job_types,
                is_registered=lambda: self._membership.is_registered,
                is_draining=us.draining.is_set,
                paused_at=lambda: self._state.intake.paused_at,
                disk_refusal=self._state.disk.lack,
                nursery_pid=lambda: self._nursery.pid if self._nursery else None,
            )
        )

    def _say_the_rest(self) -> None:
        self._telemetry.end()
        self._state.journal.wait_until_empty(FLUSH_S)

    def _outcome(self, step: Ended | NoJob) -> Outcome:
        journal = self._state.journal
        return Outcome(
            step, journal.last_fate(step.job_id, step.attempt) if isinstance(step, Ended) else "delivered"
        )

    # ------------------------------------------------------------------------------------ start and end

    @contextmanager
    def _started(self, *, reach_s: float) -> Iterator[Supervisor]:
        us = self._standing
        with ExitStack() as at_end:
            check_watchdog(us.outside.watchdog_s)
            signals = Signals()
            processes.guard_this_process()
            self._state = at_end.enter_context(open_state(us))
            with using(us.settings.agent.state_dir):
                at_end.enter_context(self._telemetry.open())
            self._membership = Membership(us, self._state.journal)
            duties = Duties(us.clock, self._log)
            wall_clock = WallClock(us.clock, duties.again, self._log)
            self._planes = self._make_planes(wall_clock)
            first_plane, offer_plane = (self._planes.make() for _ in range(2))
            notifier = Notifier(us.outside.notify_socket)
            reload = Reload(
                read_again=us.outside.read_again,
                in_force=lambda: us.settings,
                apply=lambda settings: self._apply(settings, supervisor, offer_plane),
                log=self._log,
            )
            supervisor = self._supervisor(signals, notifier, reload, lambda: self._on_tick(wall_clock, duties))
            threading.excepthook = lambda args: supervisor.fail(args.exc_value or SystemExit(args.exc_type))
            self._crew = Crew(us, self._state, self._planes, self._membership, self._telemetry, supervisor)
            self._tell_what_is_in_the_way()
            at_end.enter_context(closing(self._control(supervisor, reload)))
            supervisor.watch([threading.Thread(target=self._membership.return_to, args=[first_plane, reach_s])])
            notifier.tell(READY="1", STATUS="jobs: 0")
            duties.start(*self._duties())
            at_end.callback(duties.stop)
            at_end.callback(self._membership.leave, first_plane)
            for thread in self._crew.messengers(supervisor.fail if math.isfinite(reach_s) else self._on_refused):
                thread.start()
                at_end.callback(thread.join)
            at_end.callback(self._close)
            yield supervisor
            notifier.tell(STOPPING="1")
            self._log.info("agent.stopped")

    def _supervisor(
        self, signals: Signals, notifier: Notifier, reload: Reload, on_tick: Callable[[], None]
    ) -> Supervisor:
        us = self._standing
        return Supervisor(
            signals=signals,
            held_jobs=us.held_jobs,
            drain=self._drain,
            while_draining=lambda: self._crew.stop_polling(),
            drain_s=us.settings.agent.drain_s,
            pulses=us.pulses,
            on_reload=reload.in_its_own_thread,
            on_tick=on_tick,
            notifier=notifier,
            clock=us.clock,
            log=self._log,
        )

    def _duties(self) -> tuple[Duty, ...]:
        return (
            Duty("sweep", SWEEP_EVERY_S, self._sweep),
            Duty("prune", PRUNE_EVERY_S, self._state.journal.prune),
            Duty("disk", TEND_EVERY_S, self._state.tend_disk),
            Duty("alive", TEND_EVERY_S, self._state.note_alive),
            Duty("telemetry", TEND_EVERY_S, self._telemetry.write),
        )

    def _make_planes(self, wall_clock: WallClock) -> Planes:
        us = self._standing
        return Planes(
            us.settings,
            offer=us.in_force.offer,
            token=us.outside.token,
            journal=self._state.journal,
            clock=us.clock,
            on_date=wall_clock.compare,
            on_expiry=TokenExpiry(us.contact.token_expires, self._log).told,
            on_end=us.contact.ended,
            on_call=self._telemetry.on_call,
            traces=self._telemetry.traces,
        )

    @contextmanager
    def _nursery_open(self) -> Iterator[Nursery]:
        """Children for a daemon are forked; a single job has no use for it."""
        now = self._standing.in_force
        self._nursery = nursery = Nursery(
            now.children.common_environment(),
            owner=now.children.owner,
            job_types=[name for name in now.job_types if name not in now.functions],
            clock=self._standing.clock,
            log=self._log,
        )
        nursery.start()
        try:
            yield nursery
        finally:
            nursery.close()

    def _control(self, supervisor: Supervisor, reload: Reload) -> ControlServer:
        """The socket for the person who runs this host, open."""
        journal = self._state.journal
        asked = verbs(
            snapshot=self.snapshot,
            intake=self._state.intake,
            held_jobs=self._standing.held_jobs,
            waiting=lambda: [*(c.job.id for c in journal.held()), *(job.id for job, _key in journal.intended())],
            outbox=journal,
            drain=supervisor.drain,
            reload=reload,
            open_log=self._state.log_of,
            diagnosis=lambda: {"stacks": stacks(), "recent": self._standing.outside.logs.recent()},
        )
        server = ControlServer(self._standing.settings.agent.state_dir, asked, self._log)
        server.open()
        return server

    def _tell_what_is_in_the_way(self) -> None:
        """Of the next job, for whoever asks whether we are ready."""
        ask = self._telemetry.health.ask
        ask("draining", lambda: "its present jobs may end" if self._standing.draining.is_set() else None)
        ask("paused", self._state.intake.refusal)
        ask("disk_short", self._state.disk.lack)
        ask("journal_refused", lambda: self._state.journal_fault)

    def _on_tick(self, wall_clock: WallClock, duties: Duties) -> None:
        wall_clock.look()
        duties.look()
        self._telemetry.turn()
        self._standing.outside.logs.tell_repeats()

    def _on_refused(self, error: AuthError) -> None:
        """A daemon goes on without: a new token may be on its way, and its jobs may still be finished."""
        self._log.error("control_plane.token_refused", error=str(error), hint="put a valid one into its file")

    def _apply(self, settings: Settings, supervisor: Supervisor, plane: ControlPlane) -> None:
        """
        *settings* are in force from now on: for whatever begins. Jobs that run go on under those they began with.

        Args:
            plane: for this alone: the server is told with it what this host has for jobs.
        """
        us = self._standing
        said = us.in_force.offer
        us.put_in_force(settings)
        self._state.disk.require(settings.agent.min_free_bytes)
        supervisor.allow(settings.agent.drain_s)
        self._crew.grow(settings.agent.slots)
        if us.in_force.offer != said:
            self._planes.now_offers(us.in_force.offer)
            threading.Thread(target=self._membership.tell_offer, args=[plane], name="offer", daemon=True).start()

    def _drain(self, _why: str) -> None:
        self._standing.draining.set()
        self._planes.stop_waiting()  # the next heartbeat says so, and no poll holds up the end

    def _close(self) -> None:
        self._standing.closing.set()
        self._planes.stop_waiting()
        self._crew.wake()

    def _sweep(self) -> None:
        journal, agent = self._state.journal, self._standing.settings.agent
        self._state.sweep()
        removed = self._planes.results.prune(
            journal.is_in_use,
            keep_s=agent.results_keep_days * DAY_S,
            most_bytes=agent.results_max_bytes,
            now_s=time.time(),
        )
        if removed:
            self._log.info("results.removed", jobs=removed)
