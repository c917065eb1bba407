"""
One job through the real daemon, looked at from outside: health, figures, log lines and the trace from its submitter
to the calls of its model, as a real OTLP receiver gets it.
"""

from __future__ import annotations

import gzip
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from host import Agent, Host, Submitter, inference, reviews
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server import start_control_plane
from zoo import Zoo

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
SUBMITTED: Final = "b7ad6b7169203331"
ROWS: Final = 4
WAIT_S: Final = 60


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver; `spans` by name, `raw` all that came with its headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        self.came = threading.Condition()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """Without the path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait_for(self, number: int) -> list[Any]:
        """The spans, once there are so many."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.spans) >= number, WAIT_S), self.spans
            return list(self.spans)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """One batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        told = ExportTraceServiceRequest.FromString(body)
        with self.server.came:
            self.server.raw += str(self.headers).encode() + body
            for resource in told.resource_spans:
                found = resource.resource.attributes
                self.server.resources.append({pair.key: pair.value.string_value for pair in found})
                self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.server.came.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the standard library's
        """Nothing."""


@dataclass
class Seen:
    """What there was to see of one job."""

    job_id: str
    agent: Agent
    spans: list[Any]
    receiver: Receiver
    metrics: str
    ready: requests.Response
    live: requests.Response
    health: dict[str, Any]
    zoo: Zoo
    token: str
    job: dict[str, Any]
    parameters: dict[str, bytes]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """One daemon, one job, everything switched on."""
    folder: Path = tmp_path_factory.mktemp("seen")
    receiver = Receiver()
    with Zoo() as zoo, start_control_plane(folder) as plane:
        host = Host(folder / "host", plane.url, plane.agent_token, zoo.url)
        submitter = Submitter(plane.url, plane.submit_token)
        try:
            agent = host.start(
                OVERMIND_AGENT_TELEMETRY__LISTEN="127.0.0.1:0",
                OVERMIND_AGENT_TELEMETRY__OTLP_ENDPOINT=receiver.url,
            )
            url = f"http://127.0.0.1:{agent.wait_for('telemetry.listening')['port']}"
            agent.wait_for("agent.started")
            body = {
                "job_type": "inference",
                "status": "pending",
                "result": {"parameters": inference(reviews(ROWS))},
            }
            traceparent = f"00-{TRACE_ID}-{SUBMITTED}-01"
            made = submitter.call("POST", "/api/jobs/", json=body, headers={"traceparent": traceparent})
            agent.wait_for("job.completed")
            agent.wait_for("outbox.delivered", status="Completed")
            spans = receiver.wait_for(4 + ROWS)
            seen = Seen(
                job_id=made["id"],
                agent=agent,
                spans=spans,
                receiver=receiver,
                metrics=requests.get(f"{url}/metrics", timeout=WAIT_S).text,
                ready=requests.get(f"{url}/readyz", timeout=WAIT_S),
                live=requests.get(f"{url}/livez", timeout=WAIT_S),
                health=requests.get(f"{url}/readyz", timeout=WAIT_S).json(),
                zoo=zoo,
                token=plane.agent_token,
                job=submitter.job(made["id"]),
                parameters=submitter.files(made["id"]),
            )
            agent.signal(signal.SIGTERM)
            assert 0 == agent.exit_code(), agent.raw
            yield seen
        finally:
            submitter.close()
            host.stop_all()
            receiver.shutdown()
            receiver.server_close()


def test_a_daemon_at_work_is_live_and_ready(seen: Seen) -> None:
    assert (200, 200) == (seen.live.status_code, seen.ready.status_code)
    assert (True, True, []) == (seen.health["live"], seen.health["ready"], seen.health["reasons"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ('jobs_claimed_total{job_type="inference"}', 1),
        ('jobs_finished_total{job_type="inference",outcome="completed"}', 1),
        ('claim_to_start_seconds_count{job_type="inference"}', 1),
        ('job_phase_seconds_count{phase="running"}', 1),
        ('model_calls_total{kind="ok",model="local"}', ROWS),
        ('control_plane_calls_total{outcome="ok",verb="next_claim"}', 1),
        ("report_delay_seconds_count", 4),
        ("ready", 1),
        ("slots", 1),
    ],
)
def test_the_job_is_in_the_figures(seen: Seen, name: str, value: float) -> None:
    lines = dict(line.rsplit(" ", 1) for line in seen.metrics.splitlines() if not line.startswith("#"))

    assert value == float(lines[f"overmind_agent_{name}"])


def test_the_job_and_its_phases_are_spans_below_its_submitters(seen: Seen) -> None:
    by_name = {span.name: span for span in seen.spans}

    job = by_name["job"]
    assert {TRACE_ID} == {span.trace_id.hex() for span in seen.spans}
    assert SUBMITTED == job.parent_span_id.hex()
    assert {"job", "validating", "running", "uploading", "model call"} == set(by_name)
    others = [span for span in seen.spans if span is not job]
    assert {job.span_id} == {span.parent_span_id for span in others}
    assert all(job.start_time_unix_nano <= span.start_time_unix_nano for span in others)
    assert all(span.end_time_unix_nano <= job.end_time_unix_nano for span in others)


def test_each_call_of_a_model_carried_the_span_that_was_sent(seen: Seen) -> None:
    sent = {f"00-{TRACE_ID}-{span.span_id.hex()}-01" for span in seen.spans if span.name == "model call"}

    assert ROWS == len(sent)
    assert sent == seen.zoo.traceparents


def test_who_sent_the_spans_is_said_and_nothing_else_of_the_process(seen: Seen) -> None:
    wanted = {"service.name": "overmind-agent", "service.version": "0.1.0", "service.instance.id": "test host"}

    assert [wanted] * len(seen.receiver.resources) == seen.receiver.resources


def test_every_line_of_the_log_has_a_trace_and_those_of_the_job_have_its(seen: Seen) -> None:
    traces = {line.get("trace_id") for line in seen.agent.lines if line.get("job_id") != seen.job_id}
    of_the_job = {line.get("trace_id") for line in seen.agent.lines if line.get("job_id") == seen.job_id}

    assert {TRACE_ID} == of_the_job
    assert 1 == len(traces)
    assert traces.isdisjoint({None, TRACE_ID})


def test_the_record_keeps_the_trace(seen: Seen) -> None:
    assert f"00-{TRACE_ID}-{SUBMITTED}-01" == seen.job["traceparent"]


def test_the_agents_key_is_in_none_of_it(seen: Seen) -> None:
    everything = seen.receiver.raw + seen.metrics.encode() + "".join(seen.agent.out).encode()

    assert seen.token.encode() not in everything
    assert b"SECRET_OF_THE_HOST" not in everything
