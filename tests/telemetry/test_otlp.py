"""The exporter and a receiver that will not have it: spans are lost, and nothing else."""

from __future__ import annotations

import socket
import threading

from overmind_agent.telemetry.otlp import CLOSE_S, OtlpSpans
from overmind_agent.telemetry.spans import Span
from overmind_executors.trace_context import made_of

REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def _refuse(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(REFUSAL)


def test_a_receiver_that_refuses_costs_its_spans_alone() -> None:
    batches: list[tuple[int, bool]] = []
    told = threading.Event()

    def note(spans: int, is_sent: bool) -> None:
        batches.append((spans, is_sent))
        told.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = threading.Thread(target=_refuse, args=[listening])
        refusing.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        spans = OtlpSpans(url, {"service.name": "x"}, redact=lambda text: text, on_batch=note)
        job = made_of("job")
        for number in range(3):
            spans.keep(
                Span("model call", job.child(number), job.span_id, 1, 2, {"tokens": number}, error="timeout")
            )
        spans.close()
        refusing.join()

    assert told.wait(CLOSE_S)
    assert [(3, False)] == batches
