"""The exporter where nobody listens: spans are lost, and nothing else. What it sends is seen in tests/acceptance."""

from __future__ import annotations

import socket
import threading

from overmind_agent.telemetry.otlp import CLOSE_S, OtlpSpans
from overmind_agent.telemetry.spans import Span
from overmind_executors.trace_context import made_of


def _nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_receiver_that_is_away_costs_its_spans_alone() -> None:
    batches: list[tuple[int, bool]] = []
    told = threading.Event()

    def note(spans: int, is_sent: bool) -> None:
        batches.append((spans, is_sent))
        told.set()

    spans = OtlpSpans(_nobody(), {"service.name": "x"}, redact=lambda text: text, on_batch=note)
    job = made_of("job")
    for number in range(3):
        spans.keep(Span("model call", job.child(number), job.span_id, 1, 2, {"tokens": number}, error="timeout"))
    spans.close()

    assert told.wait(CLOSE_S + 20)
    assert [(3, False)] == batches
