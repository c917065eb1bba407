"""The way to the server: real TLS with an authority of the test's own, a real proxy, addresses of both kinds."""

from __future__ import annotations

import http.server
import json
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from overmind_agent.command_line import surroundings
from overmind_agent.command_line.findings import Failed
from overmind_agent.errors import TransientError
from overmind_agent.over_http.calls import HttpCalls, Verb
from overmind_agent.over_http.network import Network
from overmind_agent.over_http.planes import network_of_model
from overmind_config.settings import ControlPlane, Settings
from overmind_executors.calls.timed_http import CallFailed, DeadlinePassed, TimedHttp

LOOK = Verb("look", 10)
UPLOAD = Verb("upload", 10, accepts=frozenset({200}))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers everything, also what is asked of a proxy, and remembers who asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """Answer."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answer, but for one path."""
        if self.path.endswith("/never"):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.rfile.read(1)  # until the client hangs up
            self.close_connection = True
        else:
            self.do_GET()

    def do_CONNECT(self) -> None:
        """Be a tunnel, as a proxy is for TLS."""
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))  # type: ignore[attr-defined]
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=[there, self.connection])
            back.start()
            _pump(self.connection, there)
            back.join()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """What comes from *source* goes to *sink*, until one of them has ended."""
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    """With TLS when it is given a context. `asked` has the path and the proxy's credentials of each request."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust us hangs up."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[tuple[Server, threading.Thread]] = []

    def start(context: ssl.SSLContext | None = None, **options: Any) -> Server:
        server = Server(context, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def look(url: str, network: Network) -> bytes:
    calls = HttpCalls(url, lambda: "ovr_secret", network=network)
    try:
        return calls.call(LOOK, "GET", "/health").body
    finally:
        calls.close()


def test_a_server_of_a_known_authority_is_trusted(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    server = serve(context_for(authority, "127.0.0.1"))

    assert b"/health" in look(f"https://127.0.0.1:{server.server_port}", Network(ca_file=ca_file))


@pytest.mark.parametrize(("names", "is_known"), [(["127.0.0.1"], False), (["elsewhere.example"], True)])
def test_any_other_server_is_not_spoken_to(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path, names: list[str], is_known: bool
) -> None:
    """Neither one of an unknown authority, nor one with another name."""
    server = serve(context_for(authority, *names))

    with pytest.raises(TransientError, match="certificate"):
        look(f"https://127.0.0.1:{server.server_port}", Network(ca_file=ca_file if is_known else None))

    assert [] == server.asked


@pytest.mark.parametrize(
    ("days", "why"), [((-20, -10), "certificate has expired"), ((10, 20), "certificate is not yet valid")]
)
def test_a_certificate_out_of_its_time_is_not_believed(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path, days: tuple[int, int], why: str
) -> None:
    begins, ends = (datetime.now(UTC) + timedelta(days=day) for day in days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(context)
    server = serve(context)

    with pytest.raises(TransientError, match=why):
        look(f"https://127.0.0.1:{server.server_port}", Network(ca_file=ca_file))

    assert [] == server.asked


def test_a_server_that_wants_to_know_who_we_are_is_told(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    context = context_for(authority, "127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    server = serve(context)
    mine = authority.issue_cert("host-1.example")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    mine.private_key_pem.write_to_path(tmp_path / "client.key")
    mine.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    url = f"https://127.0.0.1:{server.server_port}"

    with pytest.raises(TransientError):
        look(url, Network(ca_file=ca_file))
    for cert, key in ((tmp_path / "client.pem", tmp_path / "client.key"), (tmp_path / "both.pem", None)):
        look(url, Network(ca_file=ca_file, client_cert_file=cert, client_key_file=key))

    assert 2 == len(server.asked)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_is_not_spoken(serve: Callable[..., Server], authority: trustme.CA, ca_file: Path) -> None:
    context = context_for(authority, "127.0.0.1")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    server = serve(context)

    with pytest.raises(TransientError):
        look(f"https://127.0.0.1:{server.server_port}", Network(ca_file=ca_file))

    assert [] == server.asked


def test_addresses_of_the_new_kind_are_reached(serve: Callable[..., Server]) -> None:
    server = serve(host="::1")

    assert b"/health" in look(f"http://[::1]:{server.server_port}", Network())


def test_all_calls_go_through_the_proxy_and_say_who_they_are(serve: Callable[..., Server]) -> None:
    """The control plane's name is not even looked up here, and uploads go the same way."""
    proxy = serve()
    network = Network(proxy=f"http://user:pass%40word@127.0.0.1:{proxy.server_port}")

    look("http://plane.invalid", network)
    calls = HttpCalls("http://plane.invalid", lambda: "ovr_secret", network=network)
    calls.put_blob(UPLOAD, "http://store.invalid/blob", b"content")
    calls.close()

    who = "Basic " + b64encode(b"user:pass@word").decode()
    assert [("http://plane.invalid/health", who), ("http://store.invalid/blob", who)] == proxy.asked


def test_what_needs_no_proxy_is_reached_without(serve: Callable[..., Server]) -> None:
    proxy, server = serve(), serve()
    network = Network(proxy=f"http://127.0.0.1:{proxy.server_port}", no_proxy=["127.0.0.0/8"])

    look(f"http://127.0.0.1:{server.server_port}", network)

    assert ([], 1) == (proxy.asked, len(server.asked))


@pytest.mark.parametrize(
    ("entry", "url", "is_direct"),
    [
        ("plane.example", "https://plane.example/x", True),
        ("plane.example", "https://PLANE.example", True),
        ("example", "https://plane.example", True),
        (".example", "https://plane.example", True),
        ("example", "https://notexample", False),
        (".example", "https://example", False),
        ("10.0.0.0/8", "http://10.1.2.3:80", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3", "http://10.1.2.3:8470", True),
        ("10.0.0.0/8", "https://10.example", False),
        ("fd00::/8", "http://[fd00::1]:80", True),
        ("fd00::/8", "http://10.0.0.1", False),
        ("[::1]", "http://[::1]:80", True),
        ("*", "https://anything", True),
        ("300.0.0.0/8", "http://10.0.0.1", False),
    ],
)
def test_what_a_no_proxy_entry_covers(entry: str, url: str, is_direct: bool) -> None:
    network = Network(proxy="http://proxy.example:3128", no_proxy=[entry])

    assert is_direct == (network.proxies(url) == {})


# ------------------------------------------------------------------------------------ chat models


# ------------------------------------------------------------------------------------ what the doctor says of it


def told(check: Callable[[ControlPlane], str], **plane: Any) -> tuple[str, str]:
    """Grade and message of a check."""
    try:
        return "ok", check(ControlPlane(**plane))
    except Failed as bad:
        return bad.grade, str(bad)


def test_the_certificate_is_looked_at_on_the_way_of_all_calls(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    server, proxy = serve(context_for(authority, "127.0.0.1")), serve()
    url = f"https://127.0.0.1:{server.server_port}"

    direct = told(surroundings.tls, url=url, ca_file=ca_file)
    tunnelled = told(
        surroundings.tls, url=url, ca_file=ca_file, proxy=f"http://user:pass@127.0.0.1:{proxy.server_port}"
    )

    assert ("ok", direct) == (direct[0], tunnelled)
    assert re.fullmatch(r"TLSv1\.\d, a certificate of trustme v\S+ that ends on \d{4}-\d\d-\d\d", direct[1])
    who = "Basic " + b64encode(b"user:pass").decode()
    assert [(f"127.0.0.1:{server.server_port}", who)] == proxy.asked
    assert [] == server.asked


def test_what_is_wrong_with_a_certificate_is_said(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    good = serve(context_for(authority, "127.0.0.1"))
    short = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=3, hours=1)).configure_cert(
        short
    )
    ending, plain, stranger = serve(short), serve(), serve(context_for(trustme.CA(), "127.0.0.1"))

    def of(server: Server, **more: Any) -> tuple[str, str]:
        return told(surroundings.tls, url=f"https://127.0.0.1:{server.server_port}", **more)

    assert ("failed", "its certificate is not trusted: unable to get local issuer certificate") == of(good)
    assert "failed" == of(stranger, ca_file=ca_file)[0]
    assert ("warning", True) == ((found := of(ending, ca_file=ca_file))[0], found[1].endswith(", in 3 days"))
    assert ("failed", True) == ((found := of(plain, ca_file=ca_file))[0], found[1].startswith("no TLS: "))
    assert ("ok", "none, on this host") == told(surroundings.tls, url="http://127.0.0.1:1")
    assert "warning" == told(surroundings.tls, url="http://plane.example", allow_http=True)[0]


def test_a_proxy_is_looked_for(serve: Callable[..., Server]) -> None:
    there = f"http://user:pass@127.0.0.1:{serve().server_port}"
    place = there.rpartition("@")[2]

    found = [
        told(surroundings.proxy, url="https://plane.example", **more)
        for more in ({}, {"proxy": there}, {"proxy": there, "no_proxy": ["plane.example"]})
    ]

    assert [
        ("ok", "none"),
        ("ok", f"{place} is reached"),
        ("ok", f"{place}, but not for the control plane, as control_plane.no_proxy says"),
    ] == found
    assert "failed" == told(surroundings.proxy, url="https://plane.example", proxy="http://127.0.0.1:1")[0]


def ask(url: str, *, timeout_s: float = 10.0, **way: str) -> int:
    """One call to a chat model; the status of its answer."""
    return TimedHttp(**way).post(url, body=b"{}", headers={}, timeout_s=timeout_s).status


def test_a_model_of_an_authority_of_our_own_is_trusted_where_the_host_names_it(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    server = serve(context_for(authority, "127.0.0.1"))
    url = f"https://127.0.0.1:{server.server_port}/v1/chat/completions"

    with pytest.raises(CallFailed, match=r"SSLCertVerificationError|CertificateError|SSLError"):
        ask(url)

    assert 200 == ask(url, ca_file=str(ca_file))
    assert 1 == len(server.asked)


def test_calls_to_a_model_go_through_the_proxy_and_the_tunnel_through_it(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    model, proxy = serve(context_for(authority, "127.0.0.1")), serve()
    here = f"127.0.0.1:{model.server_port}"
    way = {"proxy": f"http://user:pass%40word@127.0.0.1:{proxy.server_port}", "ca_file": str(ca_file)}
    who = "Basic " + b64encode(b"user:pass@word").decode()

    plain = ask("http://model.invalid/v1", **way)
    through_tls = ask(f"https://{here}/v1", **way)

    assert (200, 200) == (plain, through_tls)
    assert [("http://model.invalid/v1", who), (here, who)] == proxy.asked
    assert [("/v1", None)] == model.asked


def test_the_deadline_of_a_call_holds_behind_a_proxy_too(
    serve: Callable[..., Server], authority: trustme.CA, ca_file: Path
) -> None:
    model, proxy = serve(context_for(authority, "127.0.0.1")), serve()
    url = f"https://127.0.0.1:{model.server_port}/never"

    with pytest.raises(DeadlinePassed):
        ask(url, timeout_s=0.5, proxy=f"http://127.0.0.1:{proxy.server_port}", ca_file=str(ca_file))


@pytest.mark.parametrize(
    ("base_url", "is_direct"),
    [
        ("https://api.example/v1", False),
        ("http://10.1.2.3:8000/v1", True),
        ("https://llm.corp.example/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
    ],
)
def test_which_models_are_reached_through_the_hosts_proxy(base_url: str, is_direct: bool) -> None:
    """Never those on this host: to the proxy that name means itself."""
    told: dict[str, Any] = {
        "control_plane": {"proxy": "http://proxy.example:3128", "no_proxy": ["10.0.0.0/8", ".corp.example"]},
        "models": {"one": {"base_url": base_url, "model": "m"}},
    }

    way = network_of_model(Settings.model_validate(told), "one")

    assert is_direct is (way.proxies(base_url) == {})
