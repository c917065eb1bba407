"""What is round this host's agent: its control group, and the way to the control plane before anything is asked."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from overmind_agent.command_line.findings import Failed
from overmind_agent.host import control_group
from overmind_agent.over_http.certificate import certificate_of
from overmind_agent.over_http.network import is_this_host
from overmind_agent.over_http.planes import network_of
from overmind_config.settings import ControlPlane

WITHIN_S: Final = 5.0
SOON: Final = timedelta(days=14)
# What docs/operating.md has under "sizing": the daemon and the process that forks; a job over rows.
OWN_BYTES: Final = 105 << 20
SLOT_BYTES: Final = 80 << 20


def cgroup(slots: int) -> str:
    """What the kernel allows us; a warning where *slots* jobs have too little memory."""
    found = control_group.limits()
    told = [
        f"{found.memory_bytes:,} bytes of memory" if found.memory_bytes is not None else "",
        f"{found.processes:,} processes" if found.processes is not None else "",
        f"{found.processors:g} processors" if found.processors is not None else "",
    ]
    if found.memory_bytes is not None and found.memory_bytes < (needed := OWN_BYTES + slots * SLOT_BYTES):
        raise Failed(
            f"{told[0]} for the agent and {slots} jobs, which need about {needed:,}",
            "allow the service more memory, or lower agent.slots",
            grade="warning",
        )
    return ", ".join(filter(None, told)) or "no limits"


def address(plane: ControlPlane) -> str:
    """Which addresses the control plane's name has, or the proxy's, which then looks the other one up."""
    host = urlsplit(plane.url).hostname or ""
    if plane.proxy:
        host = urlsplit(plane.proxy).hostname or ""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise Failed(f"{host} has no address: {error}", "check control_plane.url and this host's DNS") from error
    return f"{host} is {', '.join(sorted(found))}"


def proxy(plane: ControlPlane) -> str:
    """Whether somebody listens where the proxy should."""
    if plane.proxy is None:
        return "none"
    proxy = urlsplit(plane.proxy)
    place = f"{proxy.hostname}:{proxy.port}"
    if not network_of(plane).proxies(plane.url):
        return f"{place}, but not for the control plane, as control_plane.no_proxy says"
    try:
        socket.create_connection((proxy.hostname or "", proxy.port or 80), WITHIN_S).close()
    except OSError as error:
        raise Failed(f"{place} is not reached: {error}", "check control_plane.proxy and the network") from error
    return f"{place} is reached"


def tls(plane: ControlPlane) -> str:
    """What is spoken with the control plane, and until when its certificate is good."""
    if not plane.url.startswith("https:"):
        if is_this_host(plane.url):
            return "none, on this host"
        raise Failed(
            "none: whoever is on the way reads the token and the rows",
            "give it an https:// address",
            grade="warning",
        )
    try:
        found = certificate_of(plane.url, network_of(plane), within_s=WITHIN_S)
    except ssl.SSLCertVerificationError as error:
        hint = "name its authority's certificate in control_plane.ca_file; is this host's clock right?"
        raise Failed(f"its certificate is not trusted: {error.verify_message.lower()}", hint) from error
    except OSError as error:
        raise Failed(f"no TLS: {error}", "see the checks of address, proxy and connection") from error
    left = found.expires_at - datetime.now(UTC)
    said = f"{found.protocol}, a certificate of {found.issuer} that ends on {found.expires_at:%Y-%m-%d}"
    if left < SOON:
        raise Failed(f"{said}, in {left.days} days", "have it renewed", grade="warning")
    return said
