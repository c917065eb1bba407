"""A command's end of the socket."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from overmind_agent.control.line import ANSWER_S, Broken, Refusal, at_socket, receive, send


class NotRunning(Exception):
    """No daemon works on the state folder."""


class NotAllowed(Exception):
    """The state folder is somebody else's."""


class NoAnswer(Exception):
    """A daemon has the socket and does not answer in time."""


def ask(state: Path, verb: str, *, within_s: float = ANSWER_S, **more: Any) -> dict[str, Any]:
    """
    What the daemon on *state* answers.

    Args:
        within_s: seconds for all of it.

    Raises:
        NotRunning, NotAllowed, NoAnswer: there is nobody to ask; the message says what to do.
        Refusal: it will not, and says why.
    """
    said = _exchange(state, {"verb": verb, **more}, within_s)
    if "answer" in said:
        return dict(said["answer"])
    problems = said.get("problems")
    raise Refusal(
        str(said.get("code", "")), str(said.get("message", "")), problems if isinstance(problems, list) else ()
    )


def _exchange(state: Path, message: dict[str, Any], within_s: float) -> dict[str, Any]:
    try:
        with at_socket(state) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within_s)
            connection.connect(address)
            with suppress(BrokenPipeError, ConnectionResetError):  # who is not listened to is told so all the same
                send(connection, message)
            return receive(connection, within_s=within_s)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NotRunning(f"no agent is running on {state}") from error
    except PermissionError as error:
        raise NotAllowed(f"{state} is another user's; ask as the agent's user or as root") from error
    except (OSError, Broken) as error:
        raise NoAnswer(f"the agent on {state} does not answer within {within_s:g} s") from error
