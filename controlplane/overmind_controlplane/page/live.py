"""
Parts of a page that change while somebody looks: server-sent events, one for each part that is another than before.

The bells ring when a log grows or a job waits, ends or may be handed out. What rings no bell (progress, a step of
the life of a job) is looked for every second while somebody watches: agents' calls carry nothing for the page.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from anyio.to_thread import run_sync

from overmind_controlplane.page.rendering import harmless
from overmind_controlplane.plane import Plane
from overmind_controlplane.refusals import Refused

LOOK_EVERY_S: Final = 1.0
SIGN_EVERY_S: Final = 15.0
"""A quiet stream sends a comment so often: a browser that went away is noticed by it."""

MAX_LOG_PIECE: Final = 64 << 10
LOG_SHOWN_BYTES: Final = 128 << 10
"""How much of the end of a log a page begins with."""

HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Look:
    """What is there now: the parts by their names, as HTML, and whether they will not change any more."""

    parts: Mapping[str, str]
    is_final: bool = False


@dataclass
class LogReader:
    """
    The text of a growing log, from a byte on: halves of characters wait for their other half.

    Attributes:
        offset: the first byte that was not told yet.
    """

    read: Callable[[int, int], bytes]
    offset: int
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def more(self) -> str:
        """What has come since then; nothing when there is none."""
        held = len(self._decoder.getstate()[0])
        data = self.read(self.offset + held, MAX_LOG_PIECE)
        text = self._decoder.decode(data)
        self.offset += held + len(data) - len(self._decoder.getstate()[0])
        return str(harmless(text))


def digest(html: str) -> str:
    """By which a browser knows that it shows this part already."""
    return hashlib.sha256(html.encode()).hexdigest()[:16]


def log_end(plane: Plane, job_id: str) -> tuple[str, int]:
    """The end of a job's log as text, and the byte that follows it."""
    path = plane.logs.path(job_id)
    length = path.stat().st_size if path.exists() else 0
    reader = LogReader(partial(plane.logs.read, job_id), max(0, length - LOG_SHOWN_BYTES))
    text = "".join(iter(reader.more, ""))
    return text, reader.offset


async def events(
    plane: Plane, look: Callable[[], Look], topics: Sequence[str], wait_s: float, log: LogReader | None = None
) -> AsyncIterator[bytes]:
    """
    Changed parts, and new text of *log*, as they come, for *wait_s* seconds or until nothing will change any more.

    Args:
        look: reads the record and checks the visit, in a thread; what it refuses ends the stream.
    """
    last: dict[str, str] = {}
    is_final = False

    def changed() -> list[bytes] | None:
        nonlocal is_final
        seen = look()
        is_final = seen.is_final
        found = [
            _event("part", {"name": name, "html": html, "digest": digest(html)})
            for name, html in seen.parts.items()
            if last.get(name) != html
        ]
        last.update(seen.parts)
        while log is not None and (text := log.more()):
            found.append(_event("log", {"text": text}, log.offset))
        return found or ([] if is_final else None)

    now = asyncio.get_running_loop().time
    deadline = now() + wait_s
    yield b"retry: 2000\n\n"
    while not plane.waiting.is_closed:
        try:
            held_s = min(SIGN_EVERY_S, max(0.0, deadline - now()))
            told = await plane.waiting.until(
                partial(run_sync, changed), *topics, wait_s=held_s, at_least_every_s=LOOK_EVERY_S
            )
        except Refused:
            break
        yield b"".join(told) if told else b": still here\n\n"
        if is_final or now() >= deadline:
            break
    if is_final:
        yield _event("end", {})


def _event(name: str, value: Any, number: int | None = None) -> bytes:
    numbered = f"id: {number}\n" if number is not None else ""
    return f"{numbered}event: {name}\ndata: {json.dumps(value)}\n\n".encode()
