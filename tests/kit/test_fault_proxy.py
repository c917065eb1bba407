"""The proxy that spoils: each fault does to a client and to a server what its name says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from overmind_agent.testing.fault_proxy import FaultProxy, Scripted, Seeded
from overmind_agent.testing.faults import FAULTS, Request

BODY = json.dumps({"text": "a body of some length"}).encode()

# What reaches the server of one request, and what the client hears: a status, or None for nothing whole.
EFFECTS: dict[str, tuple[int, int | None]] = {
    "reset_before": (0, None),
    "reset_after": (1, None),
    "truncated": (1, None),
    "delayed": (1, 200),
    "black_hole": (0, None),
    "unavailable": (0, 503),
    "bad_gateway": (0, 502),
    "too_many": (0, 429),
    "unauthorized": (0, 401),
    "captive_portal": (0, 200),
    "redirected": (0, 307),
    "duplicated": (2, 200),
    "thrice": (3, 200),
    "half_request": (0, None),
    "dripped": (1, 200),
    "delivered_late": (1, None),
    "wrong_length": (1, None),
    "huge": (1, None),
    "early_hints": (1, 103),  # http.client takes what is only in between for the answer
    "half_a_head": (1, None),
    "internal_error": (1, 500),
    "gateway_timeout": (1, 504),
    "empty": (1, 200),
    "no_json": (1, 200),
    "bad_gzip": (1, 200),
}


class Upstream(ThreadingHTTPServer):
    """Counts what arrived whole."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.arrived: list[bytes] = []
        self.changed = threading.Condition()

    def wait_for(self, number: int) -> int:
        """How many requests arrived, once *number* have."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.arrived) >= number, 5)
            return len(self.arrived)


class Handler(BaseHTTPRequestHandler):
    server: Upstream
    timeout = 5

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return
        with self.server.changed:
            self.server.arrived.append(body)
            self.server.changed.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _put(proxy: FaultProxy) -> int | None:
    """The status of a whole answer of a sensible size."""
    with closing(HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=5)) as connection:
        try:
            connection.request("PUT", "/thing", body=BODY)
            answer = connection.getresponse()
            if int(answer.headers.get("Content-Length", 0)) > 1 << 20:
                return None
            answer.read()
        except (OSError, HTTPException):
            return None
        return answer.status


def test_every_fault_has_its_effect_written_down() -> None:
    assert set(FAULTS) == set(EFFECTS)


@pytest.mark.parametrize("fault", EFFECTS)
def test_a_fault_does_what_its_name_says(upstream: Upstream, fault: str) -> None:
    arrives, heard = EFFECTS[fault]
    plan = Scripted()
    plan.next("PUT /thing", fault)
    with FaultProxy(f"http://127.0.0.1:{upstream.server_port}", plan, slow_s=0.05) as proxy:
        status = _put(proxy)
        arrived = upstream.wait_for(arrives)

    assert (arrives, heard) == (arrived, status)
    assert {fault: 1} == proxy.faults


def test_a_request_without_a_fault_passes_as_it_is(upstream: Upstream) -> None:
    with FaultProxy(f"http://127.0.0.1:{upstream.server_port}") as proxy:
        assert [200, 200] == [_put(proxy), _put(proxy)]

    assert [BODY, BODY] == upstream.arrived


def test_unauthorized_comes_three_times(upstream: Upstream) -> None:
    plan = Scripted()
    plan.next("PUT", "unauthorized")
    with FaultProxy(f"http://127.0.0.1:{upstream.server_port}", plan) as proxy:
        assert [401, 401, 401, 200] == [_put(proxy) for _ in range(4)]


def test_the_same_seed_decides_the_same() -> None:
    requests = [Request(n, "PUT", "/thing", (), b"") for n in range(1, 1001)]

    decided = [[Seeded(seed, rate=0.25)(request) for request in requests] for seed in (1, 1, 2)]

    assert decided[0] == decided[1]
    assert decided[0] != decided[2]
    assert set(FAULTS) == {fault for fault in decided[0] if fault}
    assert 200 < sum(fault is not None for fault in decided[0]) < 300
