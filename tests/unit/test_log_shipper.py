"""A job's log on its way: every byte once, behind what is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon_parts import Daemon, down
from overmind_agent.errors import TransientError
from overmind_agent.jobs import Claim
from overmind_agent.log_shipper import CHUNK_BYTES, MOST_BYTES, LogShipper
from overmind_agent.testing import AFTER, FakeServer


@pytest.fixture
def claim(daemon: Daemon, server: FakeServer) -> Claim:
    server.submit()
    return daemon.claimed().claim


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def grow(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def log(server: FakeServer, claim: Claim) -> bytes:
    return server.jobs[claim.job.id].log


def test_what_is_new_is_sent_and_nothing_twice(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    shipper = LogShipper(daemon.plane, claim, path)

    for part in (b"one\n", b"two\n", b""):
        grow(path, part)
        shipper.ship()

    assert b"one\ntwo\n" == log(server, claim)


def test_a_long_log_goes_in_pieces(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 256 * 2 + 3)
    shipper = LogShipper(daemon.plane, claim, path)
    grow(path, content)

    shipper.ship()

    assert content == log(server, claim)
    assert 4 == server.calls.count("append_log")


def test_a_log_without_an_end_is_cut(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    shipper = LogShipper(daemon.plane, claim, path)
    grow(path, b"x" * (MOST_BYTES + CHUNK_BYTES * 2))

    shipper.ship()

    assert MOST_BYTES == len(log(server, claim))


def test_after_an_interruption_of_ours_it_goes_on_where_it_was(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    shipper = LogShipper(daemon.plane, claim, path)
    grow(path, b"one\n")
    shipper.ship()

    after = LogShipper(daemon.plane, claim, path)
    grow(path, b"two\n")
    after.ship()

    assert b"one\ntwo\n" == log(server, claim)


def test_behind_the_log_of_another_agent_ours_is_whole(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    daemon.plane.append_log(claim, offset=0, data=b"theirs\n")
    shipper = LogShipper(daemon.plane, claim, path)
    grow(path, b"ours\n")

    shipper.ship()

    assert b"theirs\nours\n" == log(server, claim)


def test_a_log_without_a_line_costs_no_call(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    shipper = LogShipper(daemon.plane, claim, path)

    shipper.ship()
    grow(path, b"")
    shipper.ship()

    assert 0 == server.calls.count("append_log")


@pytest.mark.parametrize("error", [down("append_log"), AFTER], ids=["before", "after"])
def test_a_call_that_broke_is_made_good_by_the_next(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path, error: Exception
) -> None:
    """Whether or not it took effect."""
    shipper = LogShipper(daemon.plane, claim, path)
    grow(path, b"one\n")
    server.script("append_log", lambda: None, error)
    with pytest.raises(TransientError):
        shipper.ship()

    grow(path, b"two\n")
    shipper.ship()
    shipper.ship()

    assert b"one\ntwo\n" == log(server, claim)
