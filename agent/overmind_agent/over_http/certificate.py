"""Whom the control plane says it is: one TLS handshake, the way that all calls take, and nothing sent after it."""

from __future__ import annotations

import http.client
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from overmind_agent.over_http.network import Network

HTTPS: Final = 443


@dataclass(frozen=True)
class Certificate:
    """
    A server's, of a chain that ends at an authority which this host trusts.

    Attributes:
        protocol: as spoken with it, such as `TLSv1.3`.
        issuer: its authority, in the certificate's words, which are a stranger's.
        expires_at: aware, UTC.
    """

    protocol: str
    issuer: str
    expires_at: datetime


def certificate_of(url: str, network: Network, *, within_s: float) -> Certificate:
    """
    The certificate of the server behind *url*, an `https` one.

    Args:
        within_s: for each step of it: to connect, to be let through the proxy, to shake hands.

    Raises:
        ssl.SSLCertVerificationError: it is not to be trusted; `verify_message` says why.
        OSError: there is no connection, or no TLS in it.
    """
    context = ssl.create_default_context(cafile=str(network.ca_file or DEFAULT_CA_BUNDLE_PATH))
    if network.client_cert_file is not None:
        context.load_cert_chain(network.client_cert_file, network.client_key_file)
    server = urlsplit(url)
    proxy = network.proxies(url).get("https")
    try:
        with closing(_connection(server, urlsplit(proxy) if proxy else None, context, within_s)) as connection:
            connection.connect()
            spoken: ssl.SSLSocket = connection.sock
            told = spoken.getpeercert() or {}
            return Certificate(spoken.version() or "", _issuer(told), _end(told))
    except http.client.HTTPException as error:
        raise OSError(f"the proxy answers with {error!r}") from error


def _connection(
    server: SplitResult, proxy: SplitResult | None, context: ssl.SSLContext, within_s: float
) -> http.client.HTTPSConnection:
    host, port = server.hostname or "", server.port or HTTPS
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=within_s, context=context)
    made = http.client.HTTPSConnection(proxy.hostname or "", proxy.port, timeout=within_s, context=context)
    user = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    who = {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"} if proxy.username else {}
    made.set_tunnel(host, port, headers=who)
    return made


def _issuer(told: Mapping[str, Any]) -> str:
    words = {name: value for part in told.get("issuer", ()) for name, value in part}
    return str(words.get("organizationName") or words.get("commonName") or "an authority without a name")


def _end(told: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told["notAfter"])), UTC)
