"""What a daemon is given by its process, and what all of its threads share from the start to the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from overmind_agent.clock import SystemClock
from overmind_agent.configuration.in_force import InForce
from overmind_agent.contact import Contact
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.capacity import Capacity
from overmind_agent.lifecycle import Status
from overmind_agent.loops import Pulse, Pulses, keep_going
from overmind_agent.ports import Clock
from overmind_config.logs import Logs
from overmind_config.settings import Settings


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


class Standing:
    """
    Attributes:
        in_force: the configuration; a job is under the one with which it began.
        draining: set when no new job is to be taken, and no wait for one is to last.
        closing: set when the last job is through.
        clock, until_drain: the same time; a sleep on the one is cut short at the close, on the other at the drain.
    """

    def __init__(self, settings: Settings, outside: Outside, log: FilteringBoundLogger) -> None:
        self.outside = outside
        self.log = log
        self.in_force = self._following_from(settings)
        self.draining, self.closing = threading.Event(), threading.Event()
        self.clock, self.until_drain = SystemClock(self.closing), SystemClock(self.draining)
        self.started_at, self.started_at_s = datetime.now(UTC), self.clock.now_s()
        self.contact = Contact(self.clock)
        self.held_jobs = HeldJobs()
        self.pulses = Pulses()
        self.capacity = Capacity(settings.agent.slots, settings.agent.weight_of, self.clock)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.in_force.settings

    def put_in_force(self, settings: Settings) -> None:
        """For whatever begins from now on."""
        self.outside.take(settings)
        self.in_force = self._following_from(settings)
        self.capacity.resize(settings.agent.slots, settings.agent.weight_of)

    def _following_from(self, settings: Settings) -> InForce:
        outside = self.outside
        return InForce.of(settings, environment_of=outside.environment_of, key_of=outside.model_key)

    def loop(self, pulse: Pulse, run: Callable[[], object], clock: Clock) -> threading.Thread:
        """A thread that an error does not end; it is over when *clock*'s sleep is cut short."""
        return threading.Thread(
            target=lambda: keep_going(run, pulse=pulse, clock=clock, log=self.log), name=pulse.name
        )
