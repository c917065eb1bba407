"""The listener over real sockets: whoever asks badly, slowly or too often hurts nobody else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from descriptors import none_left
from overmind_agent.telemetry.listener import HEAD_BYTES, MOST_AT_A_TIME, Answer, Headers, Listener, in_json
from overmind_config.kinds import LOOPBACK_HOSTS

WAIT_S = 20.0
BIG = 32 << 20


class Scene:
    """A listener with a path of each kind."""

    def __init__(self, *, read_s: float = WAIT_S, write_s: float = WAIT_S) -> None:
        self.statuses: list[int] = []
        self.told = threading.Condition()
        self.listener = Listener(
            ("127.0.0.1", 0),
            {"/livez": self._lives, "/broken": self._breaks, "/big": lambda _headers: Answer(200, b"x" * BIG)},
            hosts=LOOPBACK_HOSTS,
            read_s=read_s,
            write_s=write_s,
            on_answer=self._note,
        )
        self.address = ("127.0.0.1", self.listener.port)
        self.url = f"http://127.0.0.1:{self.listener.port}"

    def _lives(self, _headers: Headers) -> Answer:
        return in_json(200, {"live": True})

    def _breaks(self, _headers: Headers) -> Answer:
        raise RuntimeError("a token that must not be told")

    def _note(self, status: int) -> None:
        with self.told:
            self.statuses.append(status)
            self.told.notify_all()

    def connect(self) -> socket.socket:
        """A connection that has said nothing yet."""
        return socket.create_connection(self.address, timeout=WAIT_S)

    def say(self, raw: bytes) -> bytes:
        """All that is answered to *raw*."""
        with self.connect() as connection:
            connection.sendall(raw)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.listener.close()


def test_a_path_is_answered(scene: Scene) -> None:
    answer = requests.get(f"{scene.url}/livez?verbose", timeout=WAIT_S)

    assert (200, {"live": True}) == (answer.status_code, answer.json())
    assert "close" == answer.headers["Connection"]


def test_who_comes_while_there_are_no_descriptors_left_does_not_end_it_for_those_after(scene: Scene) -> None:
    with socket.socket() as early:
        with none_left():
            early.connect(scene.address)
            threading.Event().wait(0.2)

        assert 200 == requests.get(f"{scene.url}/livez", timeout=WAIT_S).status_code


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"DELETE /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 403),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /livez HTTP/1.1\r\nHost: [half\r\n\r\n", 403),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403),
        (b"GET /livez HTTP/1.0\r\nhOsT: LOCALHOST:9464\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", 200),
        (b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
        (b"GET /" + b"a" * 2 * HEAD_BYTES, 431),
    ],
)
def test_each_request_has_its_answer(scene: Scene, raw: bytes, status: int) -> None:
    said = scene.say(raw)

    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"must not be told" not in said
    assert [status] == scene.statuses


def test_one_that_says_nothing_is_sent_away() -> None:
    scene = Scene(read_s=0.05)

    said = scene.say(b"GET /livez HT")

    assert said.startswith(b"HTTP/1.1 408 ")
    scene.listener.close()


def test_one_that_hangs_up_is_forgotten(scene: Scene) -> None:
    with scene.connect() as connection:
        connection.sendall(b"GET")

    with scene.told:
        assert scene.told.wait_for(lambda: [400] == scene.statuses, WAIT_S)


def test_more_at_a_time_than_it_may_have_are_closed_and_then_it_goes_on(scene: Scene) -> None:
    with ExitStack() as held:
        waiting = [held.enter_context(scene.connect()) for _ in range(MOST_AT_A_TIME)]
        for connection in waiting:
            connection.sendall(b"GET")  # now its thread is there

        assert b"" == _read_or_reset(scene)

    with scene.told:
        assert scene.told.wait_for(lambda: [400] * MOST_AT_A_TIME == scene.statuses, WAIT_S)
    assert 200 == _until_answered(scene)


def _read_or_reset(scene: Scene) -> bytes:
    try:
        return scene.say(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    except ConnectionError:
        return b""


def _until_answered(scene: Scene) -> int:
    """The threads of those who hung up need a moment to be gone."""
    for _ in range(1000):
        if said := _read_or_reset(scene):
            return int(said.split(b" ")[1])
    return 0


def test_a_slow_reader_holds_its_own_place_alone_and_not_for_long() -> None:
    scene = Scene(write_s=0.05)
    with scene.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")

        meanwhile = requests.get(f"{scene.url}/livez", timeout=WAIT_S).status_code

        with scene.told:
            assert scene.told.wait_for(lambda: [200, 200] == scene.statuses, WAIT_S)
        serving = [thread for thread in threading.enumerate() if thread.name == "telemetry-answer"]
        for thread in serving:
            thread.join(WAIT_S)
    scene.listener.close()
    assert 200 == meanwhile
    assert not any(thread.is_alive() for thread in serving)


def test_closed_it_refuses_and_its_thread_is_gone(scene: Scene) -> None:
    scene.listener.close()

    with pytest.raises(ConnectionRefusedError):
        scene.connect()
    assert "telemetry" not in [thread.name for thread in threading.enumerate()]
