"""How long a call's body is waited for: one that drips, or stops, does not hold its place for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.types import Message, Receive

from overmind_controlplane.refusals import TooSlow

BODY_S: Final = 30.0
# After that a body has to have come at least so fast; the daemon itself gives up at sixteen times that.
LEAST_BYTES_PER_S: Final = 1024


def in_time(receive: Receive, body_s: float) -> Receive:
    """
    *receive* for one call. Once the body is whole it waits as long as it takes, for the end of the connection.

    Args:
        body_s: what a body may take however short it is, from when it is first asked for.

    Raises:
        TooSlow: by what is returned, when too little of the body has come.
    """
    began_s, size, is_whole = 0.0, 0, False

    async def next_message() -> Message:
        nonlocal began_s, size, is_whole
        if is_whole:
            return await receive()
        began_s = began_s or time.monotonic()
        left_s = began_s + body_s + size / LEAST_BYTES_PER_S - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                message = await receive()
        except TimeoutError:
            told = f"the body stopped coming after {size} bytes; send it faster"
            raise TooSlow(told, headers={"Connection": "close"}) from None
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        return message

    return next_message
