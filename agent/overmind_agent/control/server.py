"""The daemon's end of the socket: a thread that listens, and a short-lived one for each command."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.control.line import ANSWER_S, SOCKET, Broken, Refusal, at_socket, receive, send
from overmind_agent.control.peers import Peer, not_from_a_job, peer_of
from overmind_agent.errors import JournalError

Verb = Callable[[Mapping[str, Any]], Mapping[str, Any]]

AT_A_TIME: Final = 8
# Out of descriptors or of memory: so long until it is tried again.
AGAIN_S: Final = 1.0
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
MOST_NOTED: Final = 100
_ONLY_OURS: Final = 0o600


class ControlServer:
    """
    Listens as long as it is open. Whatever goes wrong here, the daemon's work goes on.

    Args:
        state: the state folder, which this process has to itself.
        verbs: what may be asked, by name; each is given the rest of the message, may raise Refusal, and is called
            from a thread of its own.
        refusal: why somebody is not listened to, None when they are.
    """

    def __init__(
        self,
        state: Path,
        verbs: Mapping[str, Verb],
        log: FilteringBoundLogger,
        *,
        refusal: Callable[[Peer], str | None] = not_from_a_job,
    ) -> None:
        self._state = state
        self._verbs = verbs
        self._refusal = refusal
        self._log = log
        self._free = threading.BoundedSemaphore(AT_A_TIME)
        self._listener: socket.socket | None = None
        self._closing = threading.Event()
        self._noted: set[int] = set()

    def open(self) -> None:
        """Begin to listen; on a file system without sockets it is logged, and the daemon goes on without."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), _ONLY_OURS)  # before it has a name, so that it never is another's to use
            (self._state / SOCKET).unlink(missing_ok=True)  # of an agent that was killed
            with at_socket(self._state) as address:
                listener.bind(address)
            listener.listen(AT_A_TIME)
        except OSError as error:
            listener.close()
            self._log.warning("control.not_opened", path=str(self._state / SOCKET), error=str(error))
            return
        self._listener = listener
        threading.Thread(target=self._listen, args=[listener], name="control", daemon=True).start()

    def close(self) -> None:
        """Take no more commands."""
        self._closing.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                (self._state / SOCKET).unlink()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends the wait for the next command
            listener.close()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in _SHORTAGES and not self._closing.wait(AGAIN_S):
                    continue
                if not self._closing.is_set():
                    self._log.error("control.closed", error=str(error))
                return
            connection.settimeout(ANSWER_S)
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            try:
                threading.Thread(target=self._serve, args=[connection], name="command", daemon=True).start()
            except RuntimeError:  # no more threads
                connection.close()
                self._free.release()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                peer = peer_of(connection)
                if (why := self._refusal(peer)) is not None:
                    self._note_refused(peer, why)
                    send(connection, {"code": "not_allowed", "message": why})
                    return
                send(connection, self._answer(receive(connection, within_s=ANSWER_S), peer))
        except (OSError, Broken) as error:
            self._log.debug("control.cut_off", error=str(error))
        finally:
            self._free.release()

    def _note_refused(self, peer: Peer, why: str) -> None:
        if peer.pid not in self._noted and len(self._noted) < MOST_NOTED:  # no job is to fill the log with it
            self._noted.add(peer.pid)
            self._log.warning("control.refused", pid=peer.pid, uid=peer.uid, why=why)

    def _answer(self, said: dict[str, Any], peer: Peer) -> dict[str, Any]:
        name = said.pop("verb", None)
        verb = self._verbs.get(name) if isinstance(name, str) else None
        if verb is None:
            return {"code": "unknown_verb", "message": "this agent does not know that command; is it older?"}
        if name != "status":
            self._log.info("control.asked", verb=name, pid=peer.pid, uid=peer.uid)
        try:
            return {"answer": dict(verb(said))}
        except Refusal as error:
            return {"code": error.code, "message": str(error), "problems": list(error.problems)}
        except JournalError as error:
            return {"code": "journal_refused", "message": str(error)}
        except Exception:
            self._log.exception("control.failed", verb=name)
            return {"code": "bug", "message": "that is a bug of the agent; its log has the traceback"}
