"""A job's log on its way: every byte once, behind what is there already, however long it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_parts import a_claim
from daemon_parts import SECRET, Daemon, down, unauthorized
from overmind_agent.backoff import CAP_S
from overmind_agent.jobs import Claim, LogCounts
from overmind_agent.logs import job_log
from overmind_agent.logs.job_log import MARGIN_BYTES, JobLog
from overmind_agent.logs.pieces import PIECE_BYTES
from overmind_agent.logs.shipper import LogShipper
from overmind_agent.logs.shipping import OUTAGE_TRIES, LogShipping
from overmind_agent.testing import AFTER, FakeServer, conflict
from overmind_config.redaction import Redactor


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


def remote(server: FakeServer, claim: Claim) -> bytes:
    return server.jobs[claim.job.id].log


def shipper_of(claim: Claim, path: Path, **limits: int) -> LogShipper:
    return LogShipper(claim, JobLog(path, Redactor([SECRET]), **limits))


def ship_all(shipper: LogShipper, daemon: Daemon) -> None:
    while shipper.ship(daemon.plane):
        pass


def test_what_is_new_is_sent_and_nothing_twice(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    shipper = shipper_of(claim, path)

    for part in (b"one\n", b"two\n", b""):
        grow(path, part)
        ship_all(shipper, daemon)

    assert b"one\ntwo\n" == remote(server, claim)


def test_a_log_that_is_empty_costs_no_call(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    grow(path, b"")

    ship_all(shipper_of(claim, path), daemon)

    assert [] == [call for call in server.calls if call == "append_log"]


def test_a_long_log_goes_in_pieces(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    """Also when it is one line: a line has no limit, and none is dropped."""
    content = b"x" * (PIECE_BYTES * 2 + 3)
    shipper = shipper_of(claim, path)
    grow(path, content)
    shipper.is_ended = True

    ship_all(shipper, daemon)

    assert content == remote(server, claim)
    assert 3 == server.calls.count("append_log")


def test_a_secret_does_not_leave_the_host(daemon: Daemon, server: FakeServer, claim: Claim, path: Path) -> None:
    shipper = shipper_of(claim, path)
    for part in (b"key ", SECRET[:5].encode(), SECRET[5:].encode(), b"\nnext\n"):
        grow(path, part)
        ship_all(shipper, daemon)

    assert b"key " + b"*" * len(SECRET) + b"\nnext\n" == remote(server, claim)


def test_after_an_interruption_of_ours_it_goes_on_where_it_was(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    grow(path, b"one\n")
    ship_all(shipper_of(claim, path), daemon)

    after = shipper_of(claim, path)
    grow(path, b"two\n")
    ship_all(after, daemon)

    assert b"one\ntwo\n" == remote(server, claim)


def test_behind_the_log_of_another_agent_ours_is_whole(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    daemon.plane.append_log(claim, offset=0, data=b"theirs\n")
    server.expire(claim.job.id)
    second = daemon.claimed("another key").claim
    bases: list[int] = []
    shipper = LogShipper(second, JobLog(path, Redactor()), on_base=bases.append)
    grow(path, b"ours\n")

    ship_all(shipper, daemon)

    assert b"theirs\nours\n" == remote(server, second)
    assert [7] == bases


def test_behind_the_log_of_another_agent_a_restart_loses_nothing(
    daemon: Daemon, server: FakeServer, path: Path
) -> None:
    """What lay before ours cannot be told from our own bytes any more, so it was noted."""
    server.submit()
    first = daemon.claimed().claim
    daemon.plane.append_log(first, offset=0, data=b"theirs\n")
    server.expire(first.job.id)
    second = daemon.claimed("another key").claim
    daemon.plane.append_log(second, offset=7, data=b"on")
    grow(path, b"one\ntwo\n")

    ship_all(LogShipper(second, JobLog(path, Redactor()), base_bytes=7), daemon)

    assert b"theirs\none\ntwo\n" == remote(server, second)


@pytest.mark.parametrize("error", [down("append_log"), AFTER], ids=["before", "after"])
def test_a_call_that_broke_is_made_good_by_the_next(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path, error: Exception
) -> None:
    """Whether or not it took effect."""
    shipper = shipper_of(claim, path)
    grow(path, b"one\n")
    server.script("append_log", error)
    with pytest.raises(type(down())):
        shipper.ship(daemon.plane)

    grow(path, b"two\n")
    ship_all(shipper, daemon)
    ship_all(shipper, daemon)

    assert b"one\ntwo\n" == remote(server, claim)


def test_a_server_that_lost_its_log_gets_it_again(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    shipper = shipper_of(claim, path)
    grow(path, b"one\n")
    ship_all(shipper, daemon)
    server.jobs[claim.job.id].log = b""

    grow(path, b"two\n")
    ship_all(shipper, daemon)

    assert b"one\ntwo\n" == remote(server, claim)


# ------------------------------------------------------------------------------------ too long a log

LIMITS = {"head_bytes": 100, "tail_bytes": 200}


@pytest.mark.parametrize("size", [99, 100, 300])
def test_a_log_up_to_the_limit_is_sent_whole(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path, size: int
) -> None:
    shipper = shipper_of(claim, path, **LIMITS)
    grow(path, bytes(range(256)) * 2)
    path.write_bytes(path.read_bytes()[:size])
    ship_all(shipper, daemon)
    shipper.is_ended = True

    ship_all(shipper, daemon)

    assert path.read_bytes() == remote(server, claim)
    assert LogCounts(size, 0, 0) == shipper.counts()


def test_of_a_longer_one_the_beginning_and_the_end_are_sent_and_the_loss_is_told(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path
) -> None:
    """While it grows, the beginning is there for whoever follows it."""
    content = b"".join(b"line %07d\n" % number for number in range(1000))
    shipper = shipper_of(claim, path, **LIMITS)
    grow(path, content)

    ship_all(shipper, daemon)
    live = remote(server, claim)
    shipper.is_ended = True
    ship_all(shipper, daemon)

    lost = len(content) - 300
    marker = b"\n[%d bytes of this log were left out here]\n" % lost
    assert content[:100] == live
    assert content[:100] + marker + content[-200:] == remote(server, claim)
    assert LogCounts(300 + len(marker), 0, lost) == shipper.counts()


@pytest.mark.parametrize("shift", range(0, len(SECRET) + 1, 4))
def test_a_secret_across_the_cut_is_masked_on_both_sides(
    daemon: Daemon, server: FakeServer, claim: Claim, path: Path, shift: int
) -> None:
    secret = SECRET.encode()
    content = b"." * (100 - shift) + secret + b"." * 500 + secret + b"." * (200 - shift)
    shipper = shipper_of(claim, path, **LIMITS)
    grow(path, content)
    shipper.is_ended = True

    ship_all(shipper, daemon)

    assert set(b"*.\n") >= set(remote(server, claim)) - set(b"[0123456789 bytes of this log were left out here]")
    assert b"hunter" not in remote(server, claim)


def test_the_middle_of_a_long_log_takes_no_room(path: Path) -> None:
    """And no byte of what is kept changes its place or its value."""
    part = 5 << 20
    with path.open("wb") as file:
        for number in range(8):
            file.write(bytes([65 + number]) * part)
    before = path.stat()

    job_log.trim(path, head_bytes=part, tail_bytes=part)

    after, content = path.stat(), path.read_bytes()
    assert before.st_size == after.st_size
    assert after.st_blocks * 512 <= 2 * part + 4 * MARGIN_BYTES
    assert b"A" * part + b"B" * MARGIN_BYTES == content[: part + MARGIN_BYTES]
    assert b"G" * MARGIN_BYTES + b"H" * part == content[-part - MARGIN_BYTES :]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd"), Path.touch])
def test_what_a_job_put_in_place_of_its_log_is_left_alone(
    daemon: Daemon, claim: Claim, path: Path, make: Callable[[Path], object]
) -> None:
    make(path)
    shipper = shipper_of(claim, path)

    job_log.trim(path)

    assert not shipper.ship(daemon.plane)


# ------------------------------------------------------------------------------------ all logs of a daemon


@pytest.fixture
def logs(daemon: Daemon) -> LogShipping:
    """Ships when it is told to, as its thread would."""
    return LogShipping(
        control_plane=daemon.plane,
        open_log=lambda job_id: JobLog(daemon.workspaces.log(job_id), Redactor([SECRET])),
        ledger=daemon.journal,
        clock=daemon.clock,
        log=daemon.log,
    )


def written(daemon: Daemon, claim: Claim, content: bytes) -> None:
    path = daemon.workspaces.log(claim.job.id)
    path.parent.mkdir(exist_ok=True)
    grow(path, content)


def test_what_was_not_taken_in_time_is_owed_and_brought_after_a_restart(
    daemon: Daemon, server: FakeServer, claim: Claim, logs: LogShipping
) -> None:
    logs.follow(claim)
    written(daemon, claim, b"one\ntwo\n")
    server.script("append_log", *[down("append_log")] * 3)
    logs.end(claim)
    logs.ship()

    counts = logs.settle(claim, wait_s=30.0)
    is_kept = daemon.journal.is_needed(claim.job.id)
    after = daemon.again()
    after.logs.run(closed_after(after.logs))

    assert LogCounts(0, 8, 0) == counts
    assert 30.0 in daemon.clock.slept
    assert is_kept
    assert b"one\ntwo\n" == remote(server, claim)
    assert [] == list(after.journal.owed_logs())


@pytest.mark.parametrize(("tries", "waited_s"), [(OUTAGE_TRIES - 1, [30.0]), (OUTAGE_TRIES, [])])
def test_a_control_plane_that_is_out_of_reach_holds_up_the_end_of_no_job(
    daemon: Daemon, server: FakeServer, claim: Claim, logs: LogShipping, tries: int, waited_s: list[float]
) -> None:
    """Its log is owed, and comes after the outage; the slot is free for another job."""
    logs.follow(claim)
    written(daemon, claim, b"one\n")
    logs.end(claim)
    server.script("append_log", *[down("append_log")] * tries)
    for _ in range(tries):
        logs.ship()
        daemon.clock.advance(CAP_S)
    daemon.clock.slept.clear()

    counts = logs.settle(claim, wait_s=30.0)

    assert LogCounts(0, 4, 0) == counts
    assert waited_s == daemon.clock.slept
    assert [claim] == [owed.claim for owed in daemon.journal.owed_logs()]


def test_after_an_outage_amid_a_job_its_end_waits_for_its_log_again(
    daemon: Daemon, server: FakeServer, claim: Claim, logs: LogShipping
) -> None:
    logs.follow(claim)
    written(daemon, claim, b"one\n")
    server.script("append_log", *[down("append_log")] * OUTAGE_TRIES)
    for _ in range(OUTAGE_TRIES):
        logs.ship()
        daemon.clock.advance(CAP_S)
    daemon.clock.slept.clear()

    logs.end(claim)
    logs.settle(claim, wait_s=30.0)

    assert [30.0] == daemon.clock.slept


def closed_after(logs: LogShipping) -> threading.Event:
    """Lets a loop turn until nothing is followed any more, at most a thousand times."""

    class Closing(threading.Event):
        turns = 0

        def is_set(self) -> bool:
            self.turns += 1
            return self.turns > 1 and (not logs._followed or self.turns > 1000)

    return Closing()


@pytest.mark.parametrize("error", [down("append_log"), unauthorized("append_log")])
def test_an_error_over_one_log_holds_up_no_other(
    daemon: Daemon, server: FakeServer, claim: Claim, logs: LogShipping, error: Exception
) -> None:
    server.submit()
    other = daemon.claimed("another key").claim
    for each in (claim, other):
        logs.follow(each)
        written(daemon, each, b"one\n")
    server.script("append_log", error)

    logs.ship()
    logs.ship()

    assert (b"", b"one\n") == (remote(server, claim), remote(server, other))


def test_a_log_that_nobody_will_take_is_given_up(
    daemon: Daemon, server: FakeServer, claim: Claim, logs: LogShipping
) -> None:
    logs.follow(claim)
    written(daemon, claim, b"one\n")
    server.script("append_log", conflict("append_log", "superseded"))

    logs.ship()
    logs.end(claim)

    assert not logs.ship()
    assert LogCounts(0, 4, 0) == logs.settle(claim, wait_s=30.0)
    assert [] == list(daemon.journal.owed_logs())


def test_nothing_is_said_of_a_log_that_was_never_followed(logs: LogShipping) -> None:
    assert None is logs.settle(a_claim(), wait_s=30.0)


def test_a_log_that_was_shipped_writes_nothing_into_the_journal(
    daemon: Daemon, claim: Claim, logs: LogShipping
) -> None:
    """A commit costs more than the whole log of a short job."""
    size = (daemon.folder / "journal.sqlite-wal").stat().st_size

    logs.follow(claim)
    written(daemon, claim, b"one\n")
    logs.end(claim)
    logs.ship()
    counts = logs.settle(claim, wait_s=30.0)

    assert size == (daemon.folder / "journal.sqlite-wal").stat().st_size
    assert LogCounts(4, 0, 0) == counts
