"""A proxy on loopback that cuts its connections after so many bytes have gone through."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

CHUNK_BYTES = 16 * 1024


class CuttingProxy:
    """
    In front of *upstream*. Cuts every connection when one of *cuts*, counted in bytes sent by clients, is reached.

    Attributes:
        sent_bytes: by all clients so far.
        made_cuts: how many of the cuts were made.
    """

    def __init__(self, upstream: str, cuts: list[int]) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "", address.port or 80)
        self._cuts = sorted(cuts)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._made: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.sent_bytes = 0
        self.made_cuts = 0

    def __enter__(self) -> CuttingProxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_raised: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join(10)
        for each in self._made:
            each.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            with self._lock:
                self._open |= {client, server}
                self._made += [client, server]
            for source, target, is_client in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, is_client), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if is_client and self._is_due(len(chunk)):
                    self._cut()
                    return
                target.sendall(chunk)
        for each in (source, target):  # closing alone would not wake the thread that reads from it
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _is_due(self, size: int) -> bool:
        with self._lock:
            self.sent_bytes += size
            if not self._cuts or self.sent_bytes < self._cuts[0]:
                return False
            self._cuts = [cut for cut in self._cuts if cut > self.sent_bytes]
            self.made_cuts += 1
            return True

    def _cut(self) -> None:
        with self._lock:
            sockets, self._open = self._open, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                # With a reset: who is sending does not notice an end that is polite until its time is over.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)  # wakes the threads that read from it
                each.close()
