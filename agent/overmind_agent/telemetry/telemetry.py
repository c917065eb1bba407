"""What can be seen of one daemon, put together: the one thing that the service knows of all this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from overmind_agent.contact import Contact
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.loops import Pulses
from overmind_agent.ports import Clock
from overmind_agent.telemetry.health import Health
from overmind_agent.telemetry.health_file import HealthFile
from overmind_agent.telemetry.watched_plane import Call
from overmind_config.settings import Settings

# So many heartbeats without an answer, and the control plane counts as away.
AWAY_BEATS: Final = 3
# What a poll may take beyond the time for which it is held open, and the wait before the next.
POLL_SLACK_S: Final = 10.0


class Telemetry:
    """
    Health now, figures and traces where they are wanted.

    Attributes:
        health: to be told what `on_call` and `turn` do not tell it.
    """

    def __init__(
        self, settings: Settings, *, pulses: Pulses, held_jobs: HeldJobs, contact: Contact, clock: Clock
    ) -> None:
        plane = settings.control_plane
        self.health = Health(
            pulses=pulses,
            contact=contact,
            clock=clock,
            jobs=lambda: len(held_jobs.all()),
            away_after_s=max(AWAY_BEATS * plane.heartbeat_s, plane.poll_wait_s + POLL_SLACK_S),
        )
        self._file: HealthFile | None = None

    @contextmanager
    def open(self, state: Path) -> Iterator[None]:
        """
        Answer until the block ends.

        Raises:
            OSError: the state folder does not take the health file.
        """
        self._file = HealthFile(state)
        try:
            self.turn()
            yield
        finally:
            self._file.close()

    def on_call(self, call: Call) -> None:
        """A call to the control plane has ended. From any thread."""

    def turn(self) -> None:
        """To be called by the main thread whenever it turns."""
        self.health.turn()
        self._tell()

    def end(self) -> None:
        """The main thread will not turn again."""
        self.health.end()
        self._tell()

    def _tell(self) -> None:
        if self._file is not None:
            self._file.write(self.health.report())
