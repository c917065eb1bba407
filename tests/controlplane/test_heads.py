"""Heads of calls that drip, stop, or name two hosts: their connections end, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import Any

import requests
import uvicorn
from uvicorn.server import ServerState

from overmind_controlplane.serving.heads import HeadInTime
from server import ControlPlaneProcess

WAIT_S = 10.0
HALF = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Hasty(HeadInTime):
    """Waits no longer than a test does."""

    head_s = 0.1


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    """An application that says a word."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def said(*pieces: bytes, pause_s: float = 0.0) -> bytes:
    """All that a client hears that sends *pieces*, each after a pause, until the connection ends."""

    async def talk() -> bytes:
        loop, config, state = asyncio.get_running_loop(), uvicorn.Config(hello, log_config=None), ServerState()
        server = await loop.create_server(lambda: Hasty(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            listening = asyncio.create_task(reader.read())
            for piece in pieces:
                writer.write(piece)
                await asyncio.wait([listening], timeout=pause_s)
            async with asyncio.timeout(WAIT_S):
                heard = await listening
            writer.close()
            return heard

    return asyncio.run(talk())


def test_a_head_that_stops_is_408_and_ends_the_connection() -> None:
    heard = said(HALF)

    assert heard.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert heard.endswith(b"\r\n\r\nthe head of the call never ends")


def test_a_head_that_drips_is_not_waited_for_for_ever() -> None:
    heard = said(HALF, *[b"X: y\r\n"] * 20, pause_s=0.03)

    assert heard.startswith(b"HTTP/1.1 408 ")


def test_the_head_of_a_second_call_is_waited_for_no_longer() -> None:
    heard = said(HALF + b"\r\n" + HALF)

    assert [b"HTTP/1.1 200 OK", b"HTTP/1.1 408 Request Timeout"] == [
        line for line in heard.replace(b"hi", b"").split(b"\r\n") if line.startswith(b"HTTP/")
    ]


def test_who_says_nothing_at_all_hears_nothing() -> None:
    assert b"" == said()


def test_an_idle_connection_is_not_one_that_drips() -> None:
    """Between two calls it may rest for as long as uvicorn's own limit says."""
    heard = said(HALF + b"\r\n", HALF + b"Connection: close\r\n\r\n", pause_s=0.3)

    assert 2 == heard.count(b"HTTP/1.1 200 OK")


def test_five_hundred_that_never_finish_keep_nobody_waiting(plane: ControlPlaneProcess) -> None:
    port = int(plane.url.rpartition(":")[2])
    with ExitStack() as opened, requests.Session() as honest:
        for _ in range(500):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S))
            connection.sendall(HALF)
        began = time.monotonic()
        answers = [honest.get(f"{plane.url}/health", timeout=WAIT_S).status_code for _ in range(20)]
        took_s = time.monotonic() - began

    assert [200] * 20 == answers
    assert took_s < WAIT_S / 2
