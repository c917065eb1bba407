"""One HTTP exchange with the control plane: sent, limited in time and size, and its answer told apart."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

import requests
import urllib3

from overmind_agent import __version__, tracing
from overmind_agent.errors import ControlPlaneError, RejectedError, TransientError
from overmind_agent.over_http.deadline import Deadline, DeadlineAdapter, deadline
from overmind_agent.over_http.network import DIRECT, Network
from overmind_agent.over_http.pause import Pause
from overmind_agent.over_http.refusals import Verb, blob_refusal, read_date, read_moment, refusal
from overmind_executors.trace_context import HEADER

CONNECT_S: Final = 5.0
# A transfer that makes no progress for so long has lost its connection. While a body is sent, urllib3 goes by the
# limit for connecting.
STALL_S: Final = 30.0
CHUNK_BYTES: Final = 64 * 1024
PATIENCE: Final = "not sent, for the control plane asked for patience"
NO_CONTENT: Final = 204
EXPIRY_HEADER: Final = "Overmind-Token-Expires"
MOST_DIGITS: Final = 18
# A transfer slower than this is a stalled one.
MIN_BYTES_PER_S: Final = 16 * 1024


class SizedBody(Protocol):
    """A body of known length that is read as it is sent."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def read(self, size: int = -1) -> bytes: ...


@dataclass(frozen=True)
class Answer:
    """
    A successful answer.

    Attributes:
        date: the server's clock as its header says, None without one.
        token_expires_at: when the token ends, None where the server does not say, or it does not end.
    """

    status: int
    body: bytes
    date: datetime | None = None
    token_expires_at: datetime | None = None


class _Session(requests.Session):
    """Follows nothing: requests would read a redirect to its end, however long it is, to say where it leads."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - the name is requests' own
        """A redirect is an answer like any other."""
        return


class _Telling:
    """*body*; each piece of it that is asked for says that the one before it went."""

    def __init__(self, body: bytes | SizedBody, on_piece: Callable[[], object]) -> None:
        self._body = io.BytesIO(body) if isinstance(body, bytes) else body
        self._size_bytes = len(body)
        self._on_piece = on_piece

    def __len__(self) -> int:
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(CHUNK_BYTES):
            yield piece

    def read(self, size: int = -1) -> bytes:
        self._on_piece()
        return self._body.read(size)


class HttpCalls:
    """
    Calls to one control plane from one thread.

    Args:
        base_url: scheme, host and port.
        token: gives the bearer token; asked for each call, so that a new one is used at once.
        network: the way of all calls, those to temporary URLs too.
        on_wait: told how many seconds this thread may now wait for the server, and 0 when it does not any more.
        on_date: told the server's time of day, when a successful answer says it.
        on_expiry: told when the token ends with each successful answer, None for never as far as is known.
        on_end: told how each call to the API ended, None for well; not of one that `stop_waiting` cut short.
        pause: shared by all who are asked for patience together; a call during a pause is not made.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        network: Network = DIRECT,
        on_wait: Callable[[float], object] = lambda _seconds: None,
        on_date: Callable[[datetime], object] = lambda _date: None,
        on_expiry: Callable[[datetime | None], object] = lambda _at: None,
        on_end: Callable[[ControlPlaneError | None], object] = lambda _error: None,
        pause: Pause | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._on_wait = on_wait
        self._on_date = on_date
        self._on_expiry = on_expiry
        self._on_end = on_end
        self._pause = pause
        self._limit: Deadline | None = None
        self._gives_way = False
        self._is_cut_short = False
        self._session = _Session()
        self._session.trust_env = False
        self._network = network
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter())
        self._session.headers.update(
            {
                "User-Agent": f"overmind-agent/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            }
        )

    @property
    def base_url(self) -> str:
        """Scheme, host, port and whatever path all calls begin with; no slash at the end."""
        return self._base_url

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Calls inside the block may be ended by `stop_waiting`: nothing is lost when they are."""
        self._gives_way = True
        try:
            yield
        finally:
            self._gives_way = False

    def stop_waiting(self) -> None:
        """End a call that gives way, if one is under way, as if its time were up. For other threads."""
        limit = self._limit
        if limit is not None and self._gives_way:
            self._is_cut_short = True
            limit.pass_()

    @contextmanager
    def _within(self, total_s: float) -> Iterator[Deadline]:
        self._on_wait(total_s)
        with deadline(total_s) as limit:
            self._limit = limit
            try:
                yield limit
            finally:
                self._limit = None
                self._on_wait(0.0)

    @contextmanager
    def _telling_how_it_ends(self) -> Iterator[None]:
        self._is_cut_short = False
        try:
            yield
        except ControlPlaneError as error:
            if not self._is_cut_short:
                self._on_end(error)
            raise
        self._on_end(None)

    def call(
        self,
        verb: Verb,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | float | Sequence[str]] | None = None,
        body: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        extra_s: float = 0.0,
    ) -> Answer:
        """
        Call the control plane's API, with the token.

        Args:
            path: below the base URL, already quoted.
            body: sent as JSON; *data* as it is.
            extra_s: on top of the verb's time, for a call that the server may hold.

        Raises:
            ControlPlaneError: every way in which it can fail, told apart.
        """
        if self._pause is not None and (left_s := self._pause.left_s()) > 0:
            raise TransientError(f"{verb.name}: {PATIENCE}", verb=verb.name, retry_after_s=left_s)
        request = requests.Request(
            method,
            self._base_url + path,
            params=query,
            json=body,
            data=data,
            headers={
                **(headers or {}),
                "Authorization": f"Bearer {self._token()}",
                HEADER: str(tracing.current()),
            },
        )
        with self._telling_how_it_ends():
            answer = self._exchange(verb, request, verb.total_s + extra_s)
        if answer.date is not None:
            self._on_date(answer.date)
        self._on_expiry(answer.token_expires_at)
        return answer

    def _exchange(self, verb: Verb, request: requests.Request, total_s: float) -> Answer:
        with self._within(total_s) as limit:
            try:
                response = self._send(request, read_s=total_s)
                with response:
                    content = _read(verb, response, limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                why = "no whole answer in time" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error
        if response.status_code not in verb.accepts:
            refused = refusal(verb, response.status_code, response.headers, content)
            if (
                self._pause is not None
                and isinstance(refused, TransientError)
                and refused.retry_after_s is not None
            ):
                self._pause.ask(refused.retry_after_s)
            raise refused
        if not _is_json(response.headers) and not (verb.may_be_empty and response.status_code == NO_CONTENT):
            kind = response.headers.get("Content-Type", "nothing")
            raise TransientError(
                f"{verb.name}: the answer is {kind}, not JSON; is there a proxy or a login page in between?",
                verb=verb.name,
                http_status=response.status_code,
            )
        expires_at = read_moment(response.headers.get(EXPIRY_HEADER, ""))
        return Answer(response.status_code, content, read_date(response.headers.get("Date", "")), expires_at)

    def put_blob(
        self, verb: Verb, url: str, content: bytes | SizedBody, *, headers: Mapping[str, str] | None = None
    ) -> str:
        """Send *content* to a temporary URL, without the token; returns its tag, empty when it was given none."""
        stall_s = min(STALL_S, verb.total_s)
        request = requests.Request(
            "PUT",
            url,
            data=_Telling(content, lambda: self._on_wait(stall_s)) if len(content) else b"",
            headers={"Content-Type": "application/octet-stream", **(headers or {})},
        )
        with self._within(verb.total_s + len(content) / MIN_BYTES_PER_S) as limit:
            try:
                with self._send(request, connect_s=stall_s, read_s=stall_s) as response:
                    answer = _read(verb, response, limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                why = "stalled" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error
        if response.status_code not in verb.accepts:
            raise blob_refusal(verb, response.status_code, response.headers, answer)
        return response.headers.get("ETag", "").strip('"')

    def get_blob(self, verb: Verb, url: str, write: Callable[[bytes], object], size_bytes: int | None) -> None:
        """Read a temporary URL, without the token, and hand its bytes to *write* as they come."""
        most = verb.max_bytes if size_bytes is None else size_bytes
        request = requests.Request("GET", url)
        stall_s = min(STALL_S, verb.total_s)
        with self._within(verb.total_s + most / MIN_BYTES_PER_S) as limit:
            try:
                with self._send(request, read_s=stall_s) as response:
                    if response.status_code not in verb.accepts:
                        answer = _read(verb, response, limit)
                        raise blob_refusal(verb, response.status_code, response.headers, answer)
                    _check_framed(response)
                    got = 0
                    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=True):
                        got += len(chunk)
                        if got > most:
                            raise RejectedError(f"{verb.name}: more than {most} bytes", verb=verb.name)
                        write(chunk)
                        self._on_wait(stall_s)
                    _check_whole(limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                why = "stalled" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error

    def _send(self, request: requests.Request, *, read_s: float, connect_s: float = CONNECT_S) -> requests.Response:
        prepared = self._session.prepare_request(request)
        return self._session.send(
            prepared,
            timeout=(connect_s, read_s),
            stream=True,
            allow_redirects=False,
            verify=self._network.verify,
            cert=self._network.cert,
            proxies=self._network.proxies(prepared.url or ""),
        )


def _read(verb: Verb, response: requests.Response, limit: Deadline) -> bytes:
    """The body, no longer than the verb allows."""
    if response.status_code == NO_CONTENT:
        return b""
    _check_framed(response)
    declared = response.headers.get("Content-Length", "0")
    # Python refuses to read a number of more than 4,300 digits
    if len(declared) > MOST_DIGITS or int(declared) > verb.max_bytes:
        raise requests.exceptions.ContentDecodingError(f"an answer of more than {verb.max_bytes} bytes")
    found = bytearray()
    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=True):
        found += chunk
        if len(found) > verb.max_bytes:
            raise requests.exceptions.ContentDecodingError(f"an answer of more than {verb.max_bytes} bytes")
    _check_whole(limit)
    return bytes(found)


def _check_framed(response: requests.Response) -> None:
    """Go on only with a body whose end can be told from a cut connection."""
    headers = response.headers
    declared = headers.get("Content-Length", "0")
    is_framed = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
    if not is_framed or not declared.isascii() or not declared.isdigit():
        raise requests.exceptions.InvalidHeader("an answer of unknown length")


def _check_whole(limit: Deadline) -> None:
    """A socket that was shut down reads as ended, so half a head or half a chunk passes for a whole one."""
    if limit.has_passed:
        raise requests.exceptions.ReadTimeout("cut off")


def _is_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _in_words(error: BaseException) -> str:
    """The innermost cause, which is where the operating system speaks."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = str(error) or type(error).__name__
    return text[:300]


def segment(value: str) -> str:
    """*value* as one segment of a path."""
    return quote(value, safe="")


def content_digest(sha256: bytes) -> str:
    """The header that lets a server check a body: its SHA-256 in the form of RFC 9530."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"
