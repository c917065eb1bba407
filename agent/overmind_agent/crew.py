"""
The threads that do the work, each over a control plane, and so a connection, of its own.

```
worker 1…n     Worker.step → JobRun → the child process         slot
heartbeat      leases and directives
delivery       the outbox
logs           what jobs write
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from overmind_agent.children.hooks import HookedLauncher
from overmind_agent.children.launcher import ProcessLauncher
from overmind_agent.children.nursery import Nursery
from overmind_agent.configuration.in_force import InForce
from overmind_agent.delivery import Delivery
from overmind_agent.errors import AuthError
from overmind_agent.files.lanes import Lanes
from overmind_agent.heartbeat import PATIENCE_S, Heartbeat
from overmind_agent.held_jobs import HeldJob
from overmind_agent.host.deadly_jobs import probing
from overmind_agent.interrupted import InterruptedWork
from overmind_agent.job_run import JobRun
from overmind_agent.jobs import Ended
from overmind_agent.logs.shipping import LogShipping
from overmind_agent.loops import LoopClock, Pulse
from overmind_agent.membership import Membership
from overmind_agent.over_http.pause import Pause
from overmind_agent.over_http.planes import Planes
from overmind_agent.patience import Bounded
from overmind_agent.ports import Clock, ControlPlane, Launcher
from overmind_agent.slot import Forever, Once, Slot
from overmind_agent.standing import Standing
from overmind_agent.state import State
from overmind_agent.supervisor import Supervisor
from overmind_agent.telemetry.telemetry import Telemetry
from overmind_agent.worker import Worker

Patience = Forever | Once | Bounded


class Crew:
    """Made once, by the service; `slots` is called once."""

    def __init__(
        self,
        standing: Standing,
        state: State,
        planes: Planes,
        membership: Membership,
        telemetry: Telemetry,
        supervisor: Supervisor,
    ) -> None:
        self._standing = standing
        self._state = state
        self._planes = planes
        self._membership = membership
        self._telemetry = telemetry
        self._supervisor = supervisor
        self._slot_planes: list[ControlPlane] = []
        self._threads: list[threading.Thread] = []
        self._another: Callable[[], threading.Thread] | None = None
        self._shipping = standing.pulses.add("logs")
        self._logs = LogShipping(
            control_plane=planes.make(self._shipping),
            open_log=state.log_of,
            ledger=state.journal,
            clock=LoopClock(standing.clock, self._shipping),
            log=standing.log,
        )

    # ------------------------------------------------------------------------------------ messengers

    def messengers(self, on_refused: Callable[[AuthError], object]) -> tuple[threading.Thread, ...]:
        """Those who speak with the control plane while jobs run, and until the last word is said."""
        us = self._standing
        shared: dict[str, Any] = {"held_jobs": us.held_jobs, "on_refused": on_refused, "log": us.log}
        beating, delivering = map(us.pulses.add, ("heartbeat", "delivery"))
        beating_plane = self._planes.make(beating, pause=Pause(us.clock, most_s=PATIENCE_S))
        heartbeat = Heartbeat(
            control_plane=beating_plane,
            register=lambda: self._membership.register(beating_plane, 0),
            clock=LoopClock(us.clock, beating),
            interval_s=us.settings.control_plane.heartbeat_s,
            is_draining=us.draining.is_set,
            on_drain=self._supervisor.drain,
            admission=self._state.admission,
            **shared,
        )
        delivery = Delivery(
            control_plane=self._planes.make(delivering),
            clock=LoopClock(us.clock, delivering),
            outbox=self._state.journal,
            **shared,
        )
        return (
            us.loop(beating, lambda: heartbeat.run(us.closing), us.clock),
            us.loop(delivering, lambda: delivery.run(us.closing), us.clock),
            us.loop(self._shipping, lambda: self._logs.run(us.closing), us.clock),
        )

    def wake(self) -> None:
        """Whoever of them waits looks what there is to say."""
        self._standing.held_jobs.wake()
        self._state.journal.wake()
        self._logs.wake()

    # ------------------------------------------------------------------------------------ slots

    def slots(
        self, number: int, patience: Patience, *, only: str | None = None, nursery: Nursery | None = None
    ) -> list[threading.Thread]:
        """
        Threads that take jobs, not started; `grow` adds to the list.

        Args:
            only: no other job than this one.
            nursery: where children are forked; None starts each of them.
        """
        journal = self._state.journal
        held = [claim for claim in journal.held() if only in (None, claim.job.id)]
        intended = [(job, key) for job, key in journal.intended() if only in (None, job.id)]
        interrupted = InterruptedWork(
            [*held, *intended],
            self._state.last_life.ended_by,
            self._state.ends,
            suspects=self._state.suspects,
            on_probe=partial(probing, journal),
        )
        poll_turn = threading.Lock()

        def another() -> threading.Thread:
            pulse = self._standing.pulses.add(f"worker-{len(self._threads) + 1}")
            plane = self._planes.make(pulse)
            self._slot_planes.append(plane)
            job_run = self._job_run(plane, pulse, nursery)
            worker = self._worker(plane, pulse, job_run, interrupted, poll_turn, only)
            return self._standing.loop(
                pulse, self._slot(plane, pulse, worker, patience).run, self._standing.until_drain
            )

        for _ in range(number):
            self._threads.append(another())
        self._another = another if only is None and not isinstance(patience, Once) else None
        return self._threads

    def grow(self, number: int) -> None:
        """Start slots until there are so many, unless the daemon drains; with fewer, capacity keeps some idle."""
        while self._another is not None and not self._standing.draining.is_set() and len(self._threads) < number:
            thread = self._another()
            thread.start()
            self._threads.append(thread)

    def stop_polling(self) -> None:
        """No slot waits for a job any longer."""
        for plane in self._slot_planes:
            plane.stop_waiting()

    def _job_run(self, plane: ControlPlane, pulse: Pulse, nursery: Nursery | None) -> Callable[[HeldJob], Ended]:
        us = self._standing
        clock = LoopClock(us.clock, pulse)
        lanes = Lanes(self._planes.make, clock)

        def run(held: HeldJob) -> Ended:
            now = us.in_force  # all of one job is under one configuration
            room = JobRun(
                control_plane=plane,
                journal=self._state.journal,
                launcher=self._launcher(now, clock, nursery),
                logs=self._logs,
                lanes=lanes,
                clock=clock,
                workspaces=self._state.workspaces,
                validate=now.validate,
                sizes=now.sizes,
                signatures=now.signatures,
                limits=now.limits,
                on_change=us.outside.on_change,
                redactor=us.outside.logs.redactor,
                log=us.log,
            )
            return room(held)

        return run

    def _launcher(self, now: InForce, clock: Clock, nursery: Nursery | None) -> Launcher:
        log, hooks = self._standing.log, now.settings.hooks
        made = ProcessLauncher(now.children, clock, log, nursery, on_calls=self._telemetry.on_calls)
        if not (hooks.before or hooks.after):
            return made
        return HookedLauncher(
            made,
            before=hooks.before,
            after=hooks.after,
            settings=now.children,
            is_hurried=lambda: self._supervisor.gives_back,
            clock=clock,
            log=log,
        )

    def _worker(
        self,
        plane: ControlPlane,
        pulse: Pulse,
        job_run: Callable[[HeldJob], Ended],
        interrupted: InterruptedWork,
        poll_turn: threading.Lock,
        only: str | None,
    ) -> Worker:
        us = self._standing
        return Worker(
            control_plane=plane,
            journal=self._state.journal,
            held_jobs=us.held_jobs,
            interrupted=interrupted,
            capacity=us.capacity,
            only=only,
            job_run=job_run,
            job_types=lambda: us.in_force.job_types,
            is_welcome=lambda project: us.settings.policy.is_welcome(project),
            refusal=self._state.admission.refusal,
            poll_turn=poll_turn,
            is_draining=us.draining.is_set,
            clock=LoopClock(us.until_drain, pulse),
            log=us.log,
        )

    def _slot(self, plane: ControlPlane, pulse: Pulse, worker: Worker, patience: Patience) -> Slot:
        us = self._standing
        return Slot(
            worker,
            patience,
            poll_wait_s=us.settings.control_plane.poll_wait_s,
            is_draining=us.draining.is_set,
            register=lambda: self._membership.register(plane, 0),
            on_drain=self._supervisor.drain,
            on_fatal=self._supervisor.fail,
            clock=LoopClock(us.until_drain, pulse),
            log=us.log,
        )
