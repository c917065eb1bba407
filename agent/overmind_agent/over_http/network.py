"""The way to the control plane: through which proxy, trusting whom, and as whom. One for all calls, uploads too."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Network:
    """
    Attributes:
        ca_file: PEM file of the only authorities to trust; None for those of the system. That certificates are
            checked cannot be switched off.
        client_cert_file, client_key_file: PEM files of a certificate that servers may ask for, and of its key.
        proxy: URL of the proxy for all calls; None for a direct connection, whatever the environment says.
        no_proxy: what is reached without the proxy: host names, domains with a dot in front, addresses and
            networks such as `10.0.0.0/8`.
    """

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    proxy: str | None = None
    no_proxy: Sequence[str] = ()

    @property
    def verify(self) -> str | bool:
        """As requests wants it."""
        return str(self.ca_file) if self.ca_file else True

    @property
    def cert(self) -> tuple[str, str] | str | None:
        """As requests wants it."""
        if self.client_cert_file is None:
            return None
        if self.client_key_file is None:
            return str(self.client_cert_file)
        return str(self.client_cert_file), str(self.client_key_file)

    def proxies(self, url: str) -> dict[str, str]:
        """The proxies for a call of *url*, by scheme; none for what is reached without."""
        host = (urlsplit(url).hostname or "").rstrip(".")
        if self.proxy is None or any(_covers(entry.lower(), host) for entry in self.no_proxy):
            return {}
        return {"http": self.proxy, "https": self.proxy}


DIRECT: Final = Network()


def is_this_host(url: str) -> bool:
    """Whether *url* names this host itself, which no proxy could reach for us."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _covers(entry: str, host: str) -> bool:
    """Whether *entry* names *host*. No name is looked up, so a network covers addresses alone."""
    if entry in ("*", host):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return host.endswith(entry if entry.startswith(".") else f".{entry}")
