"""
Names looked up within a time limit.

The system's resolver knows no deadline and cannot be interrupted, so it is asked in a thread of its own, one for
each name at most, and what it said last is good enough while it does not answer.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final

NO_ANSWER: Final = "the name was not looked up in time"

Resolver = Callable[..., list[Any]]


class NameLookups:
    """
    Looks names up; safe to use from any thread.

    Args:
        resolver: `socket.getaddrinfo`, or what stands in for it in a test.
    """

    def __init__(self, resolver: Resolver = socket.getaddrinfo) -> None:
        self._resolver = resolver
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Future[list[str]]] = {}
        self._last: dict[tuple[str, int], list[str]] = {}

    def addresses(self, host: str, port: int, *, within_s: float, over: Future[None]) -> list[str]:
        """
        The addresses of *host*, in the resolver's order.

        Args:
            over: done as soon as nobody waits for the answer any more.

        Raises:
            OSError: there are none, or none were found in time and none were known before.
        """
        if _is_address(host):
            return [host]
        asked = self._ask(host, port)
        either: list[Future[Any]] = [asked, over]
        wait(either, timeout=max(0.0, within_s), return_when=FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        known = self._last.get((host, port))
        if known is None:
            raise socket.gaierror(socket.EAI_AGAIN, NO_ANSWER)
        return known

    def _ask(self, host: str, port: int) -> Future[list[str]]:
        key = (host, port)
        with self._lock:
            asked = self._under_way.get(key)
            if asked is None:
                asked = self._under_way[key] = Future()
                self._begin(key, asked)
        return asked

    def _begin(self, key: tuple[str, int], asked: Future[list[str]]) -> None:
        try:
            threading.Thread(target=self._resolve, args=(key, asked), name="lookup", daemon=True).start()
        except RuntimeError as error:  # no more threads
            del self._under_way[key]
            asked.set_exception(OSError(str(error)))

    def _resolve(self, key: tuple[str, int], asked: Future[list[str]]) -> None:
        host, port = key
        try:
            found = self._resolver(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(line[4][0]) for line in found))
        except (OSError, UnicodeError) as error:
            answer: list[str] | OSError = error if isinstance(error, OSError) else OSError(str(error))
        else:
            answer = addresses
        with self._lock:
            del self._under_way[key]
            if isinstance(answer, list):
                self._last[key] = answer
        if isinstance(answer, list):
            asked.set_result(answer)
        else:
            asked.set_exception(answer)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
