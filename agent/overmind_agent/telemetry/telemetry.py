"""What can be seen of one daemon, put together: the one thing that the service knows of all this."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from overmind_agent import __version__
from overmind_agent.contact import Contact
from overmind_agent.control.view import AgentView
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.jobs import Claim
from overmind_agent.loops import Pulses
from overmind_agent.ports import Clock
from overmind_agent.telemetry.health import Health
from overmind_agent.telemetry.health_file import HealthFile
from overmind_agent.telemetry.listener import Answer, Headers, Listener, in_json
from overmind_agent.telemetry.looking import Looking
from overmind_agent.telemetry.spans import JobSpans
from overmind_agent.telemetry.traces import Traces
from overmind_agent.telemetry.watched_plane import Call
from overmind_config.kinds import LOOPBACK_HOSTS
from overmind_config.logs import Logs
from overmind_config.settings import Settings

if TYPE_CHECKING:
    from overmind_agent.telemetry.from_children import CallCounter
    from overmind_agent.telemetry.meters import Meters
    from overmind_agent.telemetry.otlp import OtlpSpans

# So many heartbeats without an answer, and the control plane counts as away.
AWAY_BEATS: Final = 3
# What a poll may take beyond the time for which it is held open, and the wait before the next.
POLL_SLACK_S: Final = 10.0
INSTALL: Final = "pip install 'overmind-agent[metrics]'"
INSTALL_OTLP: Final = "pip install 'overmind-agent[otlp]'"

log = structlog.get_logger()


class Telemetry:
    """
    Health always, figures where somebody reads them.

    Args:
        settings: as they are now; where something is answered or sent, is decided by those of the start.
        snapshot: the daemon's view, once its journal is open.

    Attributes:
        health: to be told what `turn` does not tell it.
        traces: of the jobs that the control plane was asked about.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        pulses: Pulses,
        held_jobs: HeldJobs,
        contact: Contact,
        clock: Clock,
        logs: Logs,
        snapshot: Callable[[], AgentView],
    ) -> None:
        self._settings_now = settings
        self._settings = settings()
        plane = self._settings.control_plane
        self._logs = logs
        self.health = Health(
            pulses=pulses,
            contact=contact,
            clock=clock,
            jobs=lambda: len(held_jobs.all()),
            away_after_s=max(AWAY_BEATS * plane.heartbeat_s, plane.poll_wait_s + POLL_SLACK_S),
        )
        self._looking = Looking(
            snapshot,
            health=self.health,
            pulses=pulses,
            logs=logs,
            state=self._settings.agent.state_dir,
            min_free_bytes=lambda: settings().agent.min_free_bytes,
        )
        self.traces = Traces()
        logs.listen(self.traces.hear)
        self._file: HealthFile | None = None
        self._meters: Meters | None = None
        self._calls: CallCounter | None = None
        self._spans: JobSpans | None = None
        self._is_losing_spans = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """
        Answer until the block ends.

        Raises:
            OSError: the state folder does not take the health file.
        """
        wanted = self._settings.telemetry
        with ExitStack() as at_end:
            self._file = HealthFile(self._settings.agent.state_dir)
            at_end.callback(self._file.close)
            self.turn()
            if wanted.listen or wanted.textfile:
                self._meters = self._counting()
            if wanted.otlp_endpoint and (spans := self._tracing()):
                at_end.callback(spans.close)
            if wanted.listen and (listener := self._listening()):
                at_end.callback(listener.close)
            yield

    def on_call(self, call: Call) -> None:
        """A call to the control plane has ended. From any thread."""
        if self._meters is not None:
            self._meters.count("control_plane_calls", {"verb": call.verb, "outcome": call.outcome})
            self._meters.observe("control_plane_call_seconds", call.seconds, {"verb": call.verb})

    def on_calls(self, claim: Claim, told: Mapping[str, Any]) -> None:
        """A job tells of its calls of chat models; untrusted. From any thread."""
        if told["event"] == "calls" and self._calls is not None:
            self._calls.hear(claim.job.id, told)
        elif told["event"] == "call" and self._spans is not None:
            self._spans.called(claim.job.id, claim.attempt, told)

    def turn(self) -> None:
        """To be called by the main thread whenever it turns."""
        self.health.turn()
        self._tell()

    def end(self) -> None:
        """The main thread will not turn again."""
        self.health.end()
        self._tell()

    def write(self) -> None:
        """To be called now and then: puts the figures into their file, where one is wanted. Raises OSError."""
        path = self._settings.telemetry.textfile
        if path is not None and self._meters is not None:
            self._meters.write(path)

    def _models(self) -> Collection[str]:
        return self._settings_now().models

    def _tell(self) -> None:
        if self._file is not None:
            self._file.write(self.health.report())

    def _counting(self) -> Meters | None:
        try:
            from overmind_agent.telemetry.from_children import CallCounter
            from overmind_agent.telemetry.from_events import EventCounter
            from overmind_agent.telemetry.meters import Meters
        except ImportError as error:
            log.warning("telemetry.no_metrics", error=str(error), hint=INSTALL)
            return None
        meters = Meters(self._looking)
        self._calls = CallCounter(meters, self._models)
        self._logs.listen(EventCounter(meters).hear)
        return meters

    def _tracing(self) -> OtlpSpans | None:
        try:
            from overmind_agent.telemetry.otlp import OtlpSpans
        except ImportError as error:
            log.warning("telemetry.no_traces", error=str(error), hint=INSTALL_OTLP)
            return None
        about = {
            "service.name": "overmind-agent",
            "service.version": __version__,
            "service.instance.id": self._settings.agent.name,
        }
        spans = OtlpSpans(
            self._settings.telemetry.otlp_endpoint,
            about,
            redact=self._logs.redactor.text,
            on_batch=self._on_batch,
        )
        self._spans = JobSpans(spans.keep, self.traces, self._models)
        self._logs.listen(self._spans.hear)
        return spans

    def _on_batch(self, spans: int, is_sent: bool) -> None:
        if not is_sent and not self._is_losing_spans:
            log.warning("telemetry.spans_lost", spans=spans, hint="does telemetry.otlp_endpoint answer?")
        self._is_losing_spans = not is_sent
        if self._meters is not None:
            self._meters.count("spans", {"outcome": "sent" if is_sent else "lost"}, amount=spans)

    def _listening(self) -> Listener | None:
        wanted = self._settings.telemetry
        paths: Mapping[str, Callable[[Headers], Answer]] = {
            "/livez": lambda _headers: self._health_answer("live"),
            "/readyz": lambda _headers: self._health_answer("ready"),
            "/metrics": self._metrics_answer,
        }
        hosts = LOOPBACK_HOSTS if wanted.address[0] in LOOPBACK_HOSTS else None
        try:
            listener = Listener(wanted.address, paths, hosts=hosts, on_answer=self._answered)
        except OSError as error:  # somebody else has the port: no reason to leave jobs undone
            log.error("telemetry.not_listening", address=wanted.listen, error=error.strerror)
            return None
        log.info("telemetry.listening", address=wanted.listen, port=listener.port)
        return listener

    def _health_answer(self, what: str) -> Answer:
        document = self.health.report().document()
        return in_json(200 if document[what] else 503, document)

    def _metrics_answer(self, headers: Headers) -> Answer:
        if self._meters is None:
            return in_json(503, {"error": f"metrics are not installed: {INSTALL}"})
        page = self._meters.page(headers.get("accept", ""))
        return Answer(200, page.body, page.content_type)

    def _answered(self, status: int) -> None:
        if self._meters is not None:
            self._meters.count("telemetry_requests", {"code": status})
