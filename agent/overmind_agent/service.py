"""
Puts the daemon together: the only module that names the classes behind the ports.

```
main thread    signals, watchdog, the order of the end          supervisor
worker 1…n     Worker.step → JobRun → the child process         slot
heartbeat      leases and directives
delivery       the outbox
logs           what jobs write
duties         sweeping folders, on APScheduler
```

Each of the middle three has a control plane, and so a connection, of its own. At the end the slots stop first, then
the outbox is emptied, and only then does the heartbeat cease.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent import processes
from overmind_agent.admission import Admission
from overmind_agent.backoff import insist
from overmind_agent.capacity import Capacity
from overmind_agent.clock import SystemClock
from overmind_agent.contact import Contact
from overmind_agent.control.server import ControlServer
from overmind_agent.control.snapshot import Parts, look
from overmind_agent.control.verbs import verbs
from overmind_agent.control.view import AgentView
from overmind_agent.deadly_jobs import ended_in_order, give_up_what_ends_us
from overmind_agent.delivery import Delivery
from overmind_agent.disk import Disk, Reserve
from overmind_agent.duties import Duties, Duty
from overmind_agent.errors import (
    AuthError,
    ControlPlaneError,
    JournalError,
    OvermindAgentError,
)
from overmind_agent.heartbeat import PATIENCE_S, Heartbeat
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.in_force import InForce
from overmind_agent.intake import Intake
from overmind_agent.job_log import JobLog
from overmind_agent.job_run import JobRun
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.journal import SqliteJournal
from overmind_agent.lanes import Lanes
from overmind_agent.last_life import give_up_what_is_too_late, look_back, note_alive, read_boot_id
from overmind_agent.launcher import ProcessLauncher
from overmind_agent.lifecycle import Status
from overmind_agent.log_shipping import LogShipping
from overmind_agent.loops import LoopClock, Pulse, Pulses, keep_going
from overmind_agent.notify import Notifier
from overmind_agent.nursery import Nursery
from overmind_agent.patience import Bounded, Bounds
from overmind_agent.pause import Pause
from overmind_agent.planes import Planes
from overmind_agent.ports import Clock, ControlPlane
from overmind_agent.reload import Reload
from overmind_agent.signals import Signals
from overmind_agent.slot import Forever, Once, Slot
from overmind_agent.state_folder import doubt_about, owning
from overmind_agent.supervisor import Supervisor, check_watchdog
from overmind_agent.telemetry.telemetry import Telemetry
from overmind_agent.wall_clock import WallClock
from overmind_agent.worker import InterruptedWork, Worker
from overmind_agent.workspace import DiskWorkspaces
from overmind_config.logs import Logs
from overmind_config.settings import Settings

# How long `run --once` tries to reach the control plane before it gives up.
ONCE_REACH_S: Final = 15.0
# What the last statuses are given at the end; whatever is left then is sent by the next start.
FLUSH_S: Final = 30.0
SWEEP_EVERY_S: Final = 600.0
DAY_S: Final = 86_400.0
PRUNE_EVERY_S: Final = 3600.0
TEND_EVERY_S: Final = 30.0
# Between two tries to tell a server that refuses us, as with a wrong token, what this host has for jobs now.
OFFER_GAP_S: Final = 60.0


@dataclass(frozen=True)
class Outside:
    """
    What the service is given by the process that it runs in.

    Attributes:
        token: the control plane's token; asked for at every call, so that a new one is used at once.
        environment_of: the variables of those names that children get on top of the fixed ones.
        notify_socket: systemd's, None without it.
        watchdog_s: how long systemd waits for a sign of life; None for ever.
        on_change: told of each status and each progress of a job, from any thread.
        logs: whose redactor masks secrets in whatever leaves this host.
        model_key: the key of the model of that name, as it is now; empty for none.
        read_again: the configuration, read anew; raises SettingsError.
        take: told of settings that are in force from now on: for keys, masks and the log's level.
    """

    token: Callable[[], str]
    environment_of: Callable[[Sequence[str]], Mapping[str, str]]
    notify_socket: str | None
    watchdog_s: float | None
    on_change: Callable[[HeldJob, Status], None]
    logs: Logs
    model_key: Callable[[str], str]
    read_again: Callable[[], Settings]
    take: Callable[[Settings], object]


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
        self._outside = outside
        self._in_force = self._following_from(settings)
        self._log = log
        self._telling = threading.Lock()
        self._is_registered = False
        self._journal_fault: str | None = None
        self._draining = threading.Event()
        self._closing = threading.Event()
        self._clock = SystemClock(self._closing)
        self._until_drain = SystemClock(self._draining)
        self._started_at, self._started_at_s = datetime.now(UTC), self._clock.now_s()
        self._contact = Contact(self._clock)
        self._held_jobs = HeldJobs()
        self._pulses = Pulses()
        self._telemetry = Telemetry(
            lambda: self._settings,
            pulses=self._pulses,
            held_jobs=self._held_jobs,
            contact=self._contact,
            clock=self._clock,
            logs=outside.logs,
            snapshot=self.snapshot,
        )
        self._capacity = Capacity(settings.agent.slots, settings.agent.weight_of, self._clock)
        self._slot_planes: list[ControlPlane] = []
        self._nursery: Nursery | None = None
        self._slot_threads: list[threading.Thread] = []
        self._another_slot: Callable[[], threading.Thread] | None = None

    @property
    def _settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    def _following_from(self, settings: Settings) -> InForce:
        outside = self._outside
        return InForce.of(settings, environment_of=outside.environment_of, key_of=outside.model_key)

    def run(self) -> None:
        """
        Work until a signal says otherwise.

        Raises:
            AuthError: the token was not accepted at the start; later a new one is waited for.
            StateInUse, JournalError: the daemon cannot go on; nothing that it knows is lost.
        """
        with self._started(reach_s=math.inf) as supervisor, self._nursery_open():
            supervisor.watch(self._slots(self._settings.agent.slots, Forever(), supervisor))
            self._say_the_rest()

    def run_until(self, bounds: Bounds) -> list[Outcome]:
        """
        Work within *bounds*; returns how each job ended.

        Raises:
            ControlPlaneError, ProtocolError: the control plane is out of reach, or does not accept us.
            StateInUse, JournalError: as for `run`.
        """
        agent = self._settings.agent
        self._capacity = Capacity(agent.slots, agent.weight_of, self._clock, most_jobs=bounds.max_jobs)
        with self._started(reach_s=ONCE_REACH_S) as supervisor, self._nursery_open():
            patience = Bounded(bounds, self._capacity, self._until_drain)
            supervisor.watch(self._slots(agent.slots, patience, supervisor))
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
            patience = Once(self._until_drain, wait_s=wait_s, reach_s=ONCE_REACH_S)
            supervisor.watch(self._slots(1, patience, supervisor, only=job_id))
            self._say_the_rest()
            outcome = self._outcome(patience.step or NoJob("asked to stop before there was a job"))
            self._sweep()
        return outcome

    def snapshot(self) -> AgentView:
        """The daemon as it is now. From any thread, once the journal is open."""
        return look(
            Parts(
                settings=lambda: self._settings,
                capacity=lambda: self._capacity,
                held_jobs=self._held_jobs,
                pulses=self._pulses,
                journal=self._journal,
                contact=self._contact,
                clock=self._clock,
                started_at=self._started_at,
                started_at_s=self._started_at_s,
                job_types=lambda: self._in_force.job_types,
                is_registered=lambda: self._is_registered,
                is_draining=self._draining.is_set,
                paused_at=lambda: self._intake.paused_at,
                disk_refusal=self._disk.lack,
                nursery_pid=lambda: self._nursery.pid if self._nursery else None,
            )
        )

    def _say_the_rest(self) -> None:
        self._telemetry.end()
        self._journal.wait_until_empty(FLUSH_S)

    def _outcome(self, step: Ended | NoJob) -> Outcome:
        fate = self._journal.last_fate(step.job_id, step.attempt) if isinstance(step, Ended) else "delivered"
        return Outcome(step, fate)

    # ------------------------------------------------------------------------------------ start and end

    @contextmanager
    def _started(self, *, reach_s: float) -> Iterator[Supervisor]:
        with ExitStack() as at_end:
            check_watchdog(self._outside.watchdog_s)
            signals = Signals()
            processes.guard_this_process()
            state = self._settings.agent.state_dir
            at_end.enter_context(owning(state))
            if doubt := doubt_about(state):
                self._log.warning("state.not_lasting", path=str(state), file_system=doubt.kind, hint=doubt.hint)
            if strangers := processes.end_strangers(f"{state}#"):
                self._log.warning("agent.strangers_killed", processes=strangers)
            agent = self._settings.agent
            try:
                reserve = Reserve(state / "reserve")
                self._journal = SqliteJournal(
                    state / "journal.sqlite", on_set_aside=self._on_set_aside, make_room=reserve.give_up
                )
                at_end.callback(self._journal.close)
                self._workspaces = DiskWorkspaces(state / "jobs")
                self._disk = Disk(
                    state,
                    min_free_bytes=agent.min_free_bytes,
                    reserve=reserve,
                    clean=lambda: self._workspaces.sweep(self._journal.is_in_use),
                    log=self._log,
                )
                self._disk.tend()
                at_end.enter_context(self._telemetry.open())
            except OSError as error:
                raise JournalError(f"the state folder {state} cannot be used: {error}") from error
            self._intake = Intake(self._journal, self._log)
            self._admission = Admission({"paused": self._intake.refusal, "disk": self._disk.refusal})
            self._last_life = look_back(self._journal, datetime.now(UTC), read_boot_id())
            give_up_what_is_too_late(self._journal, self._last_life, self._log)
            self._ends = give_up_what_ends_us(self._journal, self._journal, self._last_life.ended_by, self._log)
            at_end.callback(ended_in_order, self._journal)
            duties = Duties(self._clock, self._log)
            wall_clock = WallClock(self._clock, duties.again, self._log)
            self._planes = Planes(
                self._settings,
                offer=self._in_force.offer,
                token=self._outside.token,
                journal=self._journal,
                clock=self._clock,
                on_date=wall_clock.compare,
                on_end=self._contact.ended,
                on_call=self._telemetry.on_call,
                traces=self._telemetry.traces,
            )
            first_plane, offer_plane = (self._planes.make(lambda _s: None) for _ in range(2))
            notifier = Notifier(self._outside.notify_socket)
            reload = Reload(
                read_again=self._outside.read_again,
                in_force=lambda: self._settings,
                apply=lambda settings: self._apply(settings, supervisor, offer_plane),
                log=self._log,
            )
            supervisor = Supervisor(
                signals=signals,
                held_jobs=self._held_jobs,
                drain=self._drain,
                while_draining=self._stop_polling,
                drain_s=agent.drain_s,
                pulses=self._pulses,
                on_reload=reload.in_its_own_thread,
                on_tick=lambda: self._on_tick(wall_clock, duties),
                notifier=notifier,
                clock=self._clock,
                log=self._log,
            )
            threading.excepthook = lambda args: supervisor.fail(args.exc_value or SystemExit(args.exc_type))
            self._tell_what_is_in_the_way()
            at_end.enter_context(closing(self._control(supervisor, reload)))
            supervisor.watch([threading.Thread(target=self._register, args=[first_plane, reach_s])])
            notifier.tell(READY="1", STATUS="0 jobs")
            duties.start(
                Duty("sweep", SWEEP_EVERY_S, self._sweep),
                Duty("prune", PRUNE_EVERY_S, self._journal.prune),
                Duty("disk", TEND_EVERY_S, self._tend_disk),
                Duty("alive", TEND_EVERY_S, self._note_alive),
                Duty("telemetry", TEND_EVERY_S, self._telemetry.write),
            )
            at_end.callback(duties.stop)
            at_end.callback(self._leave, first_plane)
            on_refused = supervisor.fail if math.isfinite(reach_s) else self._on_refused
            for thread in self._messengers(supervisor, on_refused):
                thread.start()
                at_end.callback(thread.join)
            at_end.callback(self._close)
            yield supervisor
            notifier.tell(STOPPING="1")
            self._log.info("agent.stopped")

    def _on_tick(self, wall_clock: WallClock, duties: Duties) -> None:
        wall_clock.look()
        duties.look()
        self._telemetry.turn()

    def _tell_what_is_in_the_way(self) -> None:
        """Of the next job, for whoever asks whether we are ready."""
        ask = self._telemetry.health.ask
        ask("draining", lambda: "its present jobs may end" if self._draining.is_set() else None)
        ask("paused", self._intake.refusal)
        ask("disk_short", self._disk.lack)
        ask("journal_refused", lambda: self._journal_fault)

    def _note_alive(self) -> None:
        try:
            note_alive(self._journal)
        except JournalError as error:
            self._journal_fault = str(error)
            raise
        self._journal_fault = None

    def _control(self, supervisor: Supervisor, reload: Reload) -> ControlServer:
        """The socket for the person who runs this host, open."""
        asked = verbs(
            snapshot=self.snapshot,
            intake=self._intake,
            held_jobs=self._held_jobs,
            outbox=self._journal,
            drain=supervisor.drain,
            reload=reload,
            open_log=self._open_log,
        )
        server = ControlServer(self._settings.agent.state_dir, asked, self._log)
        server.open()
        return server

    def _open_log(self, job_id: str) -> JobLog:
        return JobLog(self._workspaces.log(job_id), self._outside.logs.redactor)

    def _drain(self, _why: str) -> None:
        self._draining.set()
        self._planes.stop_waiting()  # the next heartbeat says so, and no poll holds up the end

    def _stop_polling(self) -> None:
        for plane in self._slot_planes:
            plane.stop_waiting()

    def _close(self) -> None:
        self._closing.set()
        self._planes.stop_waiting()
        self._held_jobs.wake()
        self._journal.wake()
        self._logs.wake()

    def _register(self, plane: ControlPlane, reach_s: float) -> None:
        clock = self._until_drain
        ends_at_s = clock.now_s() + reach_s
        try:
            agent_id = insist(
                lambda: plane.register(self._journal.agent_id()),
                sleep=clock.sleep,
                stop=lambda _: self._draining.is_set() or clock.now_s() >= ends_at_s,
                on_retry=self._on_retry,
            )
        except ControlPlaneError:
            if self._draining.is_set():
                return
            raise
        self._journal.remember_agent(agent_id)
        event = "agent.registered_again" if self._is_registered else "agent.started"
        self._is_registered = True
        now = self._in_force
        self._log.info(
            event, agent_id=agent_id, job_types=list(now.job_types), sandbox=now.children.sandbox.level.value
        )

    def _leave(self, plane: ControlPlane) -> None:
        """After the last heartbeat; who cannot be told finds out when the leases run out."""
        try:
            plane.leave()
        except OvermindAgentError as error:
            self._log.info("control_plane.not_told", error=str(error))

    def _on_retry(self, error: BaseException, wait_s: float) -> None:
        self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(wait_s, 1))

    def _on_set_aside(self, aside: Path) -> None:
        self._log.error("journal.set_aside", path=str(aside))

    def _apply(self, settings: Settings, supervisor: Supervisor, plane: ControlPlane) -> None:
        """
        *settings* are in force from now on: for whatever begins. Jobs that run go on under those they began with.

        Args:
            plane: for this alone: the server is told with it what this host has for jobs.
        """
        said = self._in_force.offer
        self._outside.take(settings)
        self._in_force = self._following_from(settings)
        agent = settings.agent
        self._capacity.resize(agent.slots, agent.weight_of)
        self._disk.require(agent.min_free_bytes)
        supervisor.allow(agent.drain_s)
        while (
            self._another_slot is not None and not self._draining.is_set() and len(self._slot_threads) < agent.slots
        ):
            thread = self._another_slot()
            thread.start()
            self._slot_threads.append(thread)
        if self._in_force.offer != said:
            self._planes.now_offers(self._in_force.offer)
            threading.Thread(target=self._tell_offer, args=[plane], name="offer", daemon=True).start()

    def _tell_offer(self, plane: ControlPlane) -> None:
        """As soon as the server listens; until then it offers what it knows of, and the worker declines."""
        with self._telling:
            while not self._draining.is_set():
                try:
                    self._register(plane, math.inf)
                except OvermindAgentError as error:
                    self._log.warning("control_plane.not_registered", error=str(error))
                    self._until_drain.sleep(OFFER_GAP_S)
                else:
                    return

    def _tend_disk(self) -> None:
        self._disk.tend()
        self._admission.refusal()  # while all slots are busy nobody else asks

    def _sweep(self) -> None:
        self._workspaces.sweep(self._journal.is_needed)
        agent = self._settings.agent
        removed = self._planes.results.prune(
            self._journal.is_in_use,
            keep_s=agent.results_keep_days * DAY_S,
            most_bytes=agent.results_max_bytes,
            now_s=time.time(),
        )
        if removed:
            self._log.info("results.removed", jobs=removed)

    # ------------------------------------------------------------------------------------ what fills the ports

    def _on_refused(self, error: AuthError) -> None:
        """A daemon goes on without: a new token may be on its way, and its jobs may still be finished."""
        self._log.error("control_plane.token_refused", error=str(error), hint="put a valid one into its file")

    def _messengers(
        self, supervisor: Supervisor, on_refused: Callable[[AuthError], object]
    ) -> tuple[threading.Thread, ...]:
        shared: dict[str, Any] = {"held_jobs": self._held_jobs, "on_refused": on_refused, "log": self._log}
        beating, delivering, shipping = map(self._pulses.add, ("heartbeat", "delivery", "logs"))
        beating_plane = self._planes.make(beating.turn, pause=Pause(self._clock, most_s=PATIENCE_S))
        heartbeat = Heartbeat(
            control_plane=beating_plane,
            register=lambda: self._register(beating_plane, 0),
            clock=LoopClock(self._clock, beating),
            interval_s=self._settings.control_plane.heartbeat_s,
            is_draining=self._draining.is_set,
            on_drain=supervisor.drain,
            admission=self._admission,
            **shared,
        )
        self._logs = LogShipping(
            control_plane=self._planes.make(shipping.turn),
            open_log=self._open_log,
            ledger=self._journal,
            clock=LoopClock(self._clock, shipping),
            log=self._log,
        )
        delivery = Delivery(
            control_plane=self._planes.make(delivering.turn),
            clock=LoopClock(self._clock, delivering),
            outbox=self._journal,
            **shared,
        )
        return (
            self._loop(beating, lambda: heartbeat.run(self._closing), self._clock),
            self._loop(delivering, lambda: delivery.run(self._closing), self._clock),
            self._loop(shipping, lambda: self._logs.run(self._closing), self._clock),
        )

    def _loop(self, pulse: Pulse, run: Callable[[], object], clock: Clock) -> threading.Thread:
        """A thread that an error does not end; it is over when *clock*'s sleep is cut short."""
        return threading.Thread(
            target=lambda: keep_going(run, pulse=pulse, clock=clock, log=self._log), name=pulse.name
        )

    def _slots(
        self, number: int, patience: Forever | Once | Bounded, supervisor: Supervisor, *, only: str | None = None
    ) -> list[threading.Thread]:
        held = [claim for claim in self._journal.held() if only in (None, claim.job.id)]
        intended = [(job, key) for job, key in self._journal.intended() if only in (None, job.id)]
        interrupted = InterruptedWork([*held, *intended], self._last_life.ended_by, self._ends)
        poll_turn = threading.Lock()

        def another() -> threading.Thread:
            pulse = self._pulses.add(f"worker-{len(self._slot_threads) + 1}")
            slot = self._slot(pulse, patience, supervisor, interrupted, poll_turn, only)
            return self._loop(pulse, slot.run, self._until_drain)

        for _ in range(number):
            self._slot_threads.append(another())
        self._another_slot = another if only is None and not isinstance(patience, Once) else None
        return self._slot_threads

    def _slot(
        self,
        pulse: Pulse,
        patience: Forever | Once | Bounded,
        supervisor: Supervisor,
        interrupted: InterruptedWork,
        poll_turn: threading.Lock,
        only: str | None,
    ) -> Slot:
        plane = self._planes.make(pulse.turn)
        clock = LoopClock(self._clock, pulse)
        until_drain = LoopClock(self._until_drain, pulse)
        self._slot_planes.append(plane)
        shared: dict[str, Any] = {
            "control_plane": plane,
            "journal": self._journal,
            "log": self._log,
        }
        lanes = Lanes(lambda: self._planes.make(lambda _s: None), clock)

        def job_run(held: HeldJob) -> Ended:
            now = self._in_force  # all of one job is under one configuration
            room = JobRun(
                launcher=ProcessLauncher(
                    now.children, clock, self._log, self._nursery, on_calls=self._telemetry.on_calls
                ),
                logs=self._logs,
                lanes=lanes,
                clock=clock,
                workspaces=self._workspaces,
                validate=now.validate,
                sizes=now.sizes,
                limits=now.limits,
                on_change=self._outside.on_change,
                redactor=self._outside.logs.redactor,
                **shared,
            )
            return room(held)

        worker = Worker(
            held_jobs=self._held_jobs,
            interrupted=interrupted,
            capacity=self._capacity,
            only=only,
            job_run=job_run,
            job_types=lambda: self._in_force.job_types,
            refusal=self._admission.refusal,
            poll_turn=poll_turn,
            is_draining=self._draining.is_set,
            clock=until_drain,
            **shared,
        )
        return Slot(
            worker,
            patience,
            poll_wait_s=self._settings.control_plane.poll_wait_s,
            is_draining=self._draining.is_set,
            register=lambda: self._register(plane, 0),
            on_drain=supervisor.drain,
            on_fatal=supervisor.fail,
            clock=until_drain,
            log=self._log,
        )

    @contextmanager
    def _nursery_open(self) -> Iterator[None]:
        """Children for a daemon are forked; a single job has no use for it."""
        now = self._in_force
        self._nursery = Nursery(
            now.children.common_environment(),
            owner=now.children.owner,
            job_types=[name for name in now.job_types if name not in now.functions],
            clock=self._clock,
            log=self._log,
        )
        self._nursery.start()
        try:
            yield
        finally:
            self._nursery.close()
