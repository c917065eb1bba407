"""Runs the application: listens, says where, and stops within two seconds however many requests are held."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import structlog
import uvicorn

from overmind_config.host import is_journal
from overmind_config.logs import LineHandler
from overmind_config.repeats import Repeats
from overmind_controlplane.plane import Plane, Settings
from overmind_controlplane.serving.app import build_app
from overmind_controlplane.serving.heads import HeadInTime

log = structlog.get_logger(__name__)

GRACE_S: Final = 1
TICKS: Final = 50  # of uvicorn's, between two looks for what was held back of the log
KEEP_ALIVE_S: Final = 75
"""Longer than an agent's poll interval: an idle connection that we close first costs it a failed request."""


class DataInUse(Exception):
    """Another server holds the data folder."""


class _Server(uvicorn.Server):
    """uvicorn, which tells when it accepts connections and whose signals end held requests first."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_started: Callable[[], None],
        on_stop: Callable[[], None],
        every_few_seconds: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._every_few_seconds = every_few_seconds
        self._on_started = on_started
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then tell."""
        await super().startup(sockets)
        # What is there now stays: it need not be gone through for garbage again, which would hold up every call.
        gc.collect()
        gc.freeze()
        if self.started:
            self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's own turn, ten times a second; whether it is to end."""
        if counter % TICKS == 0:
            self._every_few_seconds()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal asks to stop and does nothing else; uvicorn's own would raise it again at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True
        self._on_stop()


def serve(settings: Settings, host: str, port: int, *, log_level: str = "info") -> None:
    """
    Serve until a signal comes. Prints one line on standard output when connections are accepted.

    Raises:
        DataInUse: another server holds the data folder.
        OSError: the address cannot be listened on.
    """
    lines = set_up_logging(log_level)
    lock = _lock(settings.data, is_shared=settings.database_url is not None)
    listener = _listen(host, port)
    plane = Plane.build(settings)
    bound: tuple[str, int] = listener.getsockname()[:2]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    config = uvicorn.Config(
        build_app(plane),
        http=HeadInTime,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(
        config,
        on_started=lambda: _started(settings.public_url, f"http://{shown}:{bound[1]}"),
        on_stop=plane.waiting.close,
        every_few_seconds=lines.tell_repeats,
    )
    with lock:
        asyncio.run(server.serve(sockets=[listener]))
    lines.tell_repeats(is_end=True)


def _lock(data: Path, *, is_shared: bool) -> IO[bytes]:
    """
    Hold the data folder until the file is closed. With SQLite in it, one server does, whose clock the leases are
    measured with; servers on one PostgreSQL database share the folder, and with them the files.

    Raises:
        DataInUse: another server holds it.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (data / "serve.lock").open("ab")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataInUse(f"another server holds {data}; stop it, or use another folder") from error
    return file


def set_up_logging(log_level: str, *, now_s: Callable[[], float] = time.monotonic) -> LineHandler:
    """
    JSON lines on standard error, ours and the libraries'; standard output carries one line and no more.

    Args:
        now_s: by which the minute is measured in which a repeated error is said once.
    """
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = LineHandler(sys.stderr, Repeats(now_s), is_journal=is_journal(sys.stderr))
    # What differs from one line to the next comes last: a handler that tells repeats goes by the event as it was.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("overmind_controlplane").setLevel(log_level.upper())
    return handler


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where it sees the protocol named; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _started(public_url: str | None, address: str) -> None:
    print(f"listening on {address}", flush=True)  # noqa: T201 - the one line that a starter waits for
    log.info("page.served", url=f"{public_url or address}/")
