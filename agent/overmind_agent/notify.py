"""
Tells systemd how the service is.

Source:
    sd_notify(3): datagrams of `NAME=value` lines to the socket whose path is in NOTIFY_SOCKET.
"""

from __future__ import annotations

import socket
from contextlib import suppress


class Notifier:
    """
    Silent where there is no service manager.

    Args:
        address: the path of its socket; one that starts with @ is abstract.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def tell(self, **values: str) -> None:
        """Send *values*, such as `READY="1"`. A service manager that does not listen is no reason to stop."""
        if not self._address:
            return
        lines = "\n".join(f"{name}={value}" for name, value in values.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(lines.encode(), self._address)
