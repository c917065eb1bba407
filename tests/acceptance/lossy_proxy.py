"""A proxy on loopback that passes everything on, and loses the answers that it is told to lose."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

_PASSED_ON = ("Authorization", "Content-Type", "Idempotency-Key", "Overmind-Attempt", "Overmind-Sequence")


class LossyProxy:
    """
    In front of *upstream*.

    Attributes:
        lost: the requests whose answers were lost, as method and path with query.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.lost: list[str] = []
        self._to_lose: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.proxy = self  # type: ignore[attr-defined]
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> LossyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def lose(self, text: str) -> None:
        """Lose the answer to the next request whose path or query has *text* in it."""
        self._to_lose.append(text)

    def is_lost(self, request: str) -> bool:
        """Whether the answer to *request* is to be lost; counted once."""
        for text in self._to_lose:
            if text in request:
                self._to_lose.remove(text)
                self.lost.append(request)
                return True
        return False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        proxy: LossyProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        answer = requests.request(self.command, proxy.upstream + self.path, data=body, headers=headers, timeout=60)
        if proxy.is_lost(f"{self.command} {self.path}"):
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_PUT = do_POST = do_PATCH = _pass_on  # noqa: N815 - the names that http.server calls

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
