"""
The first steps of a program that may ask chat models, in its sandbox: `python -I -S inside.py FD PORT COMMAND…`.

Listens on the sandbox's own loopback device, hands the listening socket out through FD, and becomes the command.
A socket stays in the network that it was made in: whoever holds it outside answers calls that never leave the
sandbox, and nothing of ours stays in there. Imports nothing of ours, for it starts without our packages.
"""

from __future__ import annotations

import os
import socket
import sys


def main(arguments: list[str]) -> int:
    """Does not return, but for a command that cannot be run."""
    channel, port, *command = arguments
    with socket.socket(fileno=int(channel)) as out, socket.create_server(("127.0.0.1", int(port))) as listener:
        socket.send_fds(out, [b"!"], [listener.fileno()])
    try:
        os.execvp(command[0], command)  # noqa: S606 - that is the point
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
