"""Bodies that drip, or stop: their calls end, and those that come slowly but come are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from starlette.types import Message

from overmind_controlplane.refusals import TooSlow
from overmind_controlplane.serving.patience import LEAST_BYTES_PER_S, in_time

BODY_S = 0.1
Receive = Callable[[], Awaitable[Message]]


def sender(pieces: Iterable[bytes], *, ends: bool, pause_s: float = 0.0) -> Receive:
    """A client that sends *pieces*, each after a pause, and then the end of the body or nothing more."""
    waiting = list(pieces)

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        if waiting:
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(waiting) or not ends}
        await asyncio.Event().wait()
        raise AssertionError

    return receive


async def read(receive: Receive) -> bytes:
    """The whole body."""
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message["body"]
        is_more = message["more_body"]
    return body


def test_a_body_that_stops_is_408_and_ends_the_connection() -> None:
    with pytest.raises(TooSlow, match="after 3 bytes") as caught:
        asyncio.run(read(in_time(sender([b"abc"], ends=False), BODY_S)))

    assert (408, "close") == (caught.value.http_status, caught.value.headers["Connection"])


def test_a_body_that_drips_is_not_waited_for_for_ever() -> None:
    drips = sender([b"x"] * 1000, ends=True, pause_s=BODY_S / 4)

    with pytest.raises(TooSlow):
        asyncio.run(read(in_time(drips, BODY_S)))


def test_a_long_body_may_take_longer() -> None:
    piece = b"x" * LEAST_BYTES_PER_S
    slow = sender([piece] * 5, ends=True, pause_s=BODY_S / 2)

    assert piece * 5 == asyncio.run(read(in_time(slow, BODY_S)))


def test_who_has_sent_all_may_be_kept_waiting() -> None:
    """A held poll listens for the end of the connection for as long as it is held."""

    async def listen() -> bool:
        receive = in_time(sender([b""], ends=True), BODY_S)
        await read(receive)
        try:
            async with asyncio.timeout(3 * BODY_S):
                await receive()
        except TimeoutError:
            return True
        return False

    assert asyncio.run(listen())
