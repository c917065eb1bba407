"""Both ends of the socket: a real one, with everybody who may be at either end of it."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from descriptors import none_left
from overmind_agent.control.client import NoAnswer, NotRunning, ask
from overmind_agent.control.line import MOST_BYTES, SOCKET, Broken, Refusal, at_socket, receive
from overmind_agent.control.server import ControlServer
from overmind_agent.errors import JournalError


def _refuse(_said: Mapping[str, Any]) -> Mapping[str, Any]:
    raise Refusal("no_such_job", "job 1 is not at work here", ["one", "two"])


def _cannot_read(_said: Mapping[str, Any]) -> Mapping[str, Any]:
    raise JournalError("the journal cannot be read: disk I/O error")


def _break(_said: Mapping[str, Any]) -> Mapping[str, Any]:
    raise KeyError("a secret")


VERBS = {"echo": lambda said: {"said": said}, "refuse": _refuse, "read": _cannot_read, "break": _break}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with a path that is too long for the address of a socket."""
    folder = tmp_path / ("a-long-name-" * 10)
    folder.mkdir()
    return folder


@pytest.fixture
def server(state: Path) -> Iterator[ControlServer]:
    """One that listens to everybody: the process of this test is the agent and who asks it."""
    made = ControlServer(state, VERBS, structlog.get_logger(), refusal=lambda _peer: None)
    made.open()
    yield made
    made.close()


def talk(state: Path, raw: bytes) -> bytes:
    """Everything that the server says to *raw*."""
    with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(address)
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


@pytest.mark.usefixtures("server")
def test_what_is_asked_is_answered(state: Path) -> None:
    assert {"said": {"job_id": "1"}} == ask(state, "echo", job_id="1")


@pytest.mark.usefixtures("server")
def test_nobody_else_may_use_the_socket(state: Path) -> None:
    assert 0o600 == stat.S_IMODE((state / SOCKET).stat().st_mode)


REFUSALS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "refuse": ("no_such_job", "job 1 is not at work here", ("one", "two")),
    "read": ("journal_refused", "the journal cannot be read: disk I/O error", ()),
    "break": ("bug", "that is a bug of the agent; its log has the traceback", ()),
    "fly": ("unknown_verb", "this agent does not know that command; is it older?", ()),
}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("verb", REFUSALS)
def test_what_cannot_be_done_is_said_with_a_code(state: Path, verb: str) -> None:
    with pytest.raises(Refusal) as caught:
        ask(state, verb)

    assert REFUSALS[verb] == (caught.value.code, str(caught.value), caught.value.problems)


NONSENSE = [
    b"",
    b"\n",
    b"{",
    b"[]\n",
    b'{"verb": 1}\n',
    b'{"verb": ["echo"]}\n',
    b"\xff\xfe\n",
    b"[" * 9000 + b"\n",
]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("raw", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_does_no_harm(state: Path, raw: bytes) -> None:
    said = talk(state, raw)

    assert said == b"" or "unknown_verb" == json.loads(said)["code"]
    assert {"said": {}} == ask(state, "echo")


def test_who_may_not_ask_is_told_so_before_anything_is_read(state: Path) -> None:
    server = ControlServer(state, VERBS, structlog.get_logger())  # this process is the agent itself
    server.open()

    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(Refusal) as caught:
                ask(state, "echo")
    server.close()

    assert "not_allowed" == caught.value.code
    assert ["control.refused"] == [line["event"] for line in logs]  # once for a process, however often it tries


def test_the_socket_of_an_agent_that_was_killed_is_nobody(state: Path) -> None:
    with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(address)

    with pytest.raises(NotRunning, match="no agent is running on"):
        ask(state, "echo")
    server = ControlServer(state, VERBS, structlog.get_logger(), refusal=lambda _peer: None)
    server.open()

    assert {"said": {}} == ask(state, "echo")
    server.close()


def test_an_agent_that_has_ended_leaves_no_socket(state: Path, server: ControlServer) -> None:
    server.close()

    assert [] == list(state.iterdir())
    with pytest.raises(NotRunning):
        ask(state, "echo")


def test_an_agent_that_stands_still_holds_nobody_up(state: Path) -> None:
    with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(address)
        silent.listen(1)

        with pytest.raises(NoAnswer, match=r"does not answer within 0\.1 s"):
            ask(state, "echo", within_s=0.1)


def test_a_folder_without_room_for_a_socket_is_no_reason_to_stop(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "missing", VERBS, structlog.get_logger())

    with capture_logs() as logs:
        server.open()
    server.close()

    assert ["control.not_opened"] == [line["event"] for line in logs]


def test_who_says_nothing_is_let_go_and_keeps_nobody_waiting(state: Path, server: ControlServer) -> None:
    with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(address)

        assert {"said": {}} == ask(state, "echo")


@pytest.mark.usefixtures("server")
def test_who_comes_while_there_are_no_descriptors_left_does_not_end_it_for_those_after(state: Path) -> None:
    with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as early:
        with none_left():
            early.connect(address)
            threading.Event().wait(0.2)

        assert {"said": {}} == ask(state, "echo")


def test_a_message_that_drips_has_an_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.01):
            theirs.sendall(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    with ours, theirs:
        with pytest.raises(Broken):
            receive(ours, within_s=0.1)
        over.set()
        thread.join()


def test_a_message_without_an_end_is_not_kept() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    thread = threading.Thread(target=lambda: _flood(theirs))
    with ours:
        thread.start()
        with pytest.raises(Broken, match="too long"):
            receive(ours, within_s=20)
    thread.join()


def _flood(connection: socket.socket) -> None:
    with connection:
        try:
            connection.sendall(b" " * (2 * MOST_BYTES))
        except OSError:
            return
