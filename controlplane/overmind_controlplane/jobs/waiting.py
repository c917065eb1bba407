"""Held requests: how a handler sleeps until something that concerns it has changed, without holding a thread."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

AnswerT = TypeVar("AnswerT")


class Waiting:
    """
    Bells by topic. `ring` is called from any thread, after the change is durable; the rest from the event loop.

    Servers on one database ring each other's bells: `listening`.
    """

    def __init__(self) -> None:
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def open(self) -> None:
        """Say which event loop the handlers run on: the present one."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Answer all held requests now, and hold none again: the server is stopping."""
        self._closed = True
        for bells in list(self._bells.values()):
            _ring(bells)

    @property
    def is_closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    @property
    def held(self) -> int:
        """How many requests wait now."""
        return len({id(bell) for bells in list(self._bells.values()) for bell in list(bells)})

    def ring(self, *topics: str) -> None:
        """Wake whoever waits for one of *topics*."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring_these, topics)

    def ring_all(self) -> None:
        """Wake everybody: what changed is not known."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._ring_these(tuple(self._bells)))

    def _ring_these(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            _ring(self._bells.get(topic, ()))

    async def until(
        self,
        answer: Callable[[], Awaitable[AnswerT | None]],
        *topics: str,
        wait_s: float,
        at_least_every_s: float = 30.0,
    ) -> AnswerT | None:
        """
        What *answer* gives as soon as it gives something; None after *wait_s* seconds.

        Args:
            answer: asked at once, after each ring, and every *at_least_every_s* seconds.
            topics: what it depends on. It is asked after the bells are hung up, so that no ring is missed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        with self._bell(topics) as bell:
            while True:
                bell.clear()
                found = await answer()
                left = deadline - loop.time()
                if found is not None or left <= 0 or self._closed:
                    return found
                try:
                    async with asyncio.timeout(min(left, at_least_every_s)):
                        await bell.wait()
                except TimeoutError:
                    continue

    @contextmanager
    def _bell(self, topics: tuple[str, ...]) -> Iterator[asyncio.Event]:
        bell = asyncio.Event()
        for topic in topics:
            self._bells[topic].add(bell)
        try:
            yield bell
        finally:
            for topic in topics:
                self._bells[topic].discard(bell)
                if not self._bells[topic]:
                    del self._bells[topic]


def _ring(bells: set[asyncio.Event] | tuple[()]) -> None:
    for bell in list(bells):
        bell.set()


def start_topic(agent_id: str) -> str:
    """Rung when another start of this agent has registered."""
    return f"start:{agent_id}"


def agent_topic(agent_id: str) -> str:
    """Rung when a job of this agent changes."""
    return f"agent:{agent_id}"


def log_topic(job_id: str) -> str:
    """Rung when the log of this job grew, or will not grow any more."""
    return f"log:{job_id}"


def project_topic(project_id: str) -> str:
    """Rung when a job of this project may be handed out."""
    return f"project:{project_id}"
