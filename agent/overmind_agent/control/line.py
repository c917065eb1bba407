"""
How a command and the daemon speak: one JSON object on one line each, over `control.sock` in the state folder.

```
→ {"verb": "cancel", "job_id": "5d1b…"}
← {"answer": {…}}        or        ← {"code": "no_such_job", "message": "…", "problems": […]}
```

It has no version of its own: the command and the daemon are of one package, and `status` tells the daemon's.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SOCKET: Final = "control.sock"
MOST_BYTES: Final = 4 * 1024 * 1024
# A person waits, and so may a script: whoever does not answer in this time is not there.
ANSWER_S: Final = 2.0
# A reload reads files, imports what they name, and looks for each problem.
RELOAD_S: Final = 30.0


class Refusal(Exception):
    """
    The daemon will not.

    Attributes:
        code: stable, lower snake case.
        problems: all that is wrong, when it is more than one thing.
    """

    def __init__(self, code: str, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.problems = tuple(problems)


class Broken(Exception):
    """What came over the socket is no line of ours, or did not come in time."""


@contextmanager
def at_socket(state: Path) -> Iterator[str]:
    """
    A name of the socket in *state* to bind or connect to, for as long as the block runs: its own may be longer than
    the 107 bytes that an address has room for. Raises OSError.
    """
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


def send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Send *message*, within the connection's own time-out. Raises OSError."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def receive(
    connection: socket.socket, *, within_s: float, now_s: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """
    The next message, however slowly its bytes come in.

    Raises:
        Broken: it did not come within *within_s* seconds, or is none.
    """
    ends_at_s = now_s() + within_s
    found = bytearray()
    try:
        while not found.endswith(b"\n"):
            connection.settimeout(max(0.001, ends_at_s - now_s()))
            piece = connection.recv(65536)
            found += piece
            if not piece or len(found) > MOST_BYTES or now_s() >= ends_at_s:
                raise Broken("it was cut off, too long or too late")
        said = json.loads(found)
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(str(error)) from error
    if not isinstance(said, dict):
        raise Broken("it is no JSON object")
    return said
