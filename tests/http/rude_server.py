"""A server that behaves badly on a real socket: what no mock of an HTTP library can show."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Script = Callable[[socket.socket, threading.Event], object]


class RudeServer:
    """Every connection goes to *script*, which gets the socket and an event that is set when the test is over."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.connections = 0
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """End all connections."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._script(connection, self._over)


@contextlib.contextmanager
def rude_server(script: Script) -> Iterator[RudeServer]:
    """A rude server for one block."""
    server = RudeServer(script)
    try:
        yield server
    finally:
        server.close()


def read_head(connection: socket.socket) -> bytes:
    """The head of a request."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        head += more
    return head


def reset(connection: socket.socket) -> None:
    """End the connection as a crash does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def says(*parts: bytes, then: Script | None = None) -> Script:
    """Read the head of a request, send *parts*, and close, or go on with *then*."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        for part in parts:
            connection.sendall(part)
        if then is not None:
            then(connection, over)

    return script


def drips(part: bytes, every_s: float = 0.05) -> Script:
    """Send *part* again and again, slowly, for as long as the other side listens."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        while not over.wait(every_s):
            connection.sendall(part)

    return script


def floods(part: bytes) -> Script:
    """Send *part* again and again as fast as it goes."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            connection.sendall(part)

    return script


def hangs(_connection: socket.socket, over: threading.Event) -> None:
    """Say nothing more until the test is over."""
    over.wait(60)
