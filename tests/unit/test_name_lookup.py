"""Names that are looked up by a resolver that takes its time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from overmind_agent.over_http.name_lookup import NO_ANSWER, NameLookups

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))] * 2
NAMED = "plane.example"


class Resolver:
    """Answers when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0
        self.error: OSError | None = None

    def __call__(self, _host: str, _port: int, **_more: Any) -> list[Any]:
        self.asked += 1
        self.may.wait(10)
        if self.error is not None:
            raise self.error
        return FOUND


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.may.set()


def look_up(lookups: NameLookups, *, within_s: float = 10.0, over: Future[None] | None = None) -> list[str]:
    return lookups.addresses(NAMED, 443, within_s=within_s, over=over or Future())


def test_a_name_has_each_of_its_addresses_once(resolver: Resolver) -> None:
    resolver.may.set()

    assert ["192.0.2.1"] == look_up(NameLookups(resolver))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "[::1]", "fe80::1%eth0"])
def test_an_address_is_not_looked_up(resolver: Resolver, address: str) -> None:
    assert [address] == NameLookups(resolver).addresses(address, 80, within_s=0, over=Future())
    assert 0 == resolver.asked


def test_a_resolver_that_does_not_answer_is_not_waited_for_and_asked_once(resolver: Resolver) -> None:
    lookups = NameLookups(resolver)

    for _ in range(3):
        with pytest.raises(OSError, match=NO_ANSWER):
            look_up(lookups, within_s=0.01)

    assert 1 == resolver.asked


def test_a_wait_that_is_called_off_ends_at_once(resolver: Resolver) -> None:
    over: Future[None] = Future()
    over.set_result(None)

    with pytest.raises(OSError, match=NO_ANSWER):
        look_up(NameLookups(resolver), within_s=60, over=over)


def test_what_was_found_last_will_do_while_there_is_no_answer(resolver: Resolver) -> None:
    lookups = NameLookups(resolver)
    resolver.may.set()
    look_up(lookups)
    resolver.may.clear()

    assert ["192.0.2.1"] == look_up(lookups, within_s=0.01)


def test_a_name_that_does_not_exist_is_told(resolver: Resolver) -> None:
    resolver.may.set()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(OSError, match="not known"):
        look_up(NameLookups(resolver))


def test_a_name_is_looked_up_though_there_was_no_thread_left_before(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookups = NameLookups(resolver)
    resolver.may.set()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="new thread"):
            look_up(lookups)

    assert ["192.0.2.1"] == look_up(lookups)
