"""
Calls that come at the same time are answered together: one transaction, one disk flush, a few queries for all.

Fifty agents that report at once would else be fifty threads that wait for the same flush, one after the other.
A call that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

MOST: Final = 64
"""Calls in one batch: enough to share the flush, few enough that the first does not wait for long."""

AskedT = TypeVar("AskedT")
AnswerT = TypeVar("AnswerT")


class Batches(Generic[AskedT, AnswerT]):
    """
    Collects calls while the batch before them is being answered. To be used from one event loop.

    Attributes:
        batched: how many batches there were, and how many calls in all of them.

    Args:
        answer: called in a thread, one batch at a time; gives an answer, or what went wrong, for each in order.
    """

    def __init__(self, answer: Callable[[Sequence[AskedT]], Sequence[AnswerT | Exception]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[AskedT, asyncio.Future[AnswerT]]] = []
        self._draining: asyncio.Task[None] | None = None
        self.batched = (0, 0)

    async def ask(self, what: AskedT) -> AnswerT:
        """
        The answer to one call.

        Raises:
            Exception: whatever went wrong with this call.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[AnswerT] = loop.create_future()
        self._waiting.append((what, answered))
        if self._draining is None:
            # In no caller's context: what is done for many is not done for the one that came first.
            self._draining = loop.create_task(self._drain(), context=Context())
        return await answered

    async def _drain(self) -> None:
        one_at_a_time = CapacityLimiter(1)
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            answers: Sequence[AnswerT | Exception]
            self.batched = (self.batched[0] + 1, self.batched[1] + len(batch))
            try:
                answers = await run_sync(self._answer, [what for what, _ in batch], limiter=one_at_a_time)
            except Exception as error:  # told to each caller, who makes of it what it would of its own
                answers = [error] * len(batch)
            for (_, answered), answer in zip(batch, answers, strict=True):
                _give(answered, answer)
        self._draining = None


def _give(answered: asyncio.Future[AnswerT], answer: AnswerT | Exception) -> None:
    if answered.done():  # the caller has gone
        return
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)
