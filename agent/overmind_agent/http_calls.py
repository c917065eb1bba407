"""One HTTP exchange with the control plane: sent, limited in time and size, and its answer told apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import requests
import urllib3

from overmind_agent import __version__
from overmind_agent.deadline import Deadline, DeadlineAdapter, deadline
from overmind_agent.errors import AuthError, ClaimLost, ControlPlaneError, RejectedError, TransientError
from overmind_executors import strict_json

MIB: Final = 1024 * 1024
CONNECT_S: Final = 5.0
CHUNK_BYTES: Final = 64 * 1024
NO_CONTENT: Final = 204
MOST_DIGITS: Final = 18
# A transfer slower than this is a stalled one.
MIN_BYTES_PER_S: Final = 16 * 1024

ANY_2XX: Final = frozenset(range(200, 300))
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_OURS: Final = frozenset({404, 409, 410, 422, 423})


@dataclass(frozen=True)
class Verb:
    """
    What holds for every call of one name.

    Attributes:
        total_s: the whole exchange, from the first byte sent to the last one read.
        is_on_job: whether a refusal means that the job is not ours.
        accepts: the statuses that mean success; all other 2xx are someone else answering.
        max_bytes: of the answer.
        may_be_empty: whether a 204 will do.
    """

    name: str
    total_s: float
    is_on_job: bool = False
    accepts: frozenset[int] = frozenset({200, 201})
    max_bytes: int = 4 * MIB
    may_be_empty: bool = False


@dataclass(frozen=True)
class Answer:
    """A successful answer; `date` is the server's clock as its header says, None without one."""

    status: int
    body: bytes
    date: datetime | None = None


class HttpCalls:
    """
    Calls to one control plane from one thread.

    Args:
        base_url: scheme, host and port.
        token: gives the bearer token; asked for each call, so that a new one is used at once.
        ca_file: PEM file of the only authorities to trust; None for those of the system.
        proxy: URL of the proxy for all calls; None for a direct connection, whatever the environment says.
        on_exchange: told before each call how many seconds it may take.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        ca_file: Path | None = None,
        proxy: str | None = None,
        on_exchange: Callable[[float], object] = lambda _total_s: None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._on_exchange = on_exchange
        self._limit: Deadline | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file) if ca_file else True
        if proxy:
            self._session.proxies = {"http": proxy, "https": proxy}
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

    def interrupt(self) -> None:
        """End the call that is under way, if there is one, as if its time were up. For other threads."""
        limit = self._limit
        if limit is not None:
            limit.pass_()

    @contextmanager
    def _within(self, total_s: float) -> Iterator[Deadline]:
        self._on_exchange(total_s)
        with deadline(total_s) as limit:
            self._limit = limit
            try:
                yield limit
            finally:
                self._limit = None

    def call(
        self,
        verb: Verb,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | float] | None = None,
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
        request = requests.Request(
            method,
            self._base_url + path,
            params=query,
            json=body,
            data=data,
            headers={**(headers or {}), "Authorization": f"Bearer {self._token()}"},
        )
        with self._within(verb.total_s + extra_s) as limit:
            try:
                response = self._send(request, read_s=verb.total_s + extra_s)
                with response:
                    content = _read(verb, response, limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                why = "no whole answer in time" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error
        if response.status_code not in verb.accepts:
            raise refusal(verb, response.status_code, response.headers, content)
        if not _is_json(response.headers) and not (verb.may_be_empty and response.status_code == NO_CONTENT):
            kind = response.headers.get("Content-Type", "nothing")
            raise TransientError(
                f"{verb.name}: the answer is {kind}, not JSON; is there a proxy or a login page in between?",
                verb=verb.name,
                http_status=response.status_code,
            )
        return Answer(response.status_code, content, _read_date(response.headers.get("Date", "")))

    def put_blob(self, verb: Verb, url: str, content: IO[bytes], size_bytes: int) -> None:
        """Send *content* to a temporary URL, without the token."""
        request = requests.Request(
            "PUT",
            url,
            data=content if size_bytes else b"",
            headers={"Content-Type": "application/octet-stream"},
        )
        with self._within(verb.total_s + size_bytes / MIN_BYTES_PER_S) as limit:
            try:
                with self._send(request, read_s=verb.total_s) as response:
                    answer = _read(verb, response, limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                why = "stalled" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error
        if response.status_code not in verb.accepts:
            raise _blob_refusal(verb, response.status_code, response.headers, answer)

    def get_blob(self, verb: Verb, url: str, write: Callable[[bytes], object], size_bytes: int | None) -> None:
        """Read a temporary URL, without the token, and hand its bytes to *write* as they come."""
        most = verb.max_bytes if size_bytes is None else size_bytes
        request = requests.Request("GET", url)
        with self._within(verb.total_s + most / MIN_BYTES_PER_S) as limit:
            try:
                with self._send(request, read_s=verb.total_s) as response:
                    if response.status_code not in verb.accepts:
                        answer = _read(verb, response, limit)
                        raise _blob_refusal(verb, response.status_code, response.headers, answer)
                    _check_framed(response)
                    got = 0
                    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=True):
                        got += len(chunk)
                        if got > most:
                            raise RejectedError(f"{verb.name}: more than {most} bytes", verb=verb.name)
                        write(chunk)
                    _check_whole(limit)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                why = "stalled" if limit.has_passed else _in_words(error)
                raise TransientError(f"{verb.name}: {why}", verb=verb.name) from error

    def _send(self, request: requests.Request, *, read_s: float) -> requests.Response:
        prepared = self._session.prepare_request(request)
        return self._session.send(
            prepared,
            timeout=(CONNECT_S, read_s),
            stream=True,
            allow_redirects=False,
            verify=self._session.verify,
            proxies=dict(self._session.proxies),
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


def refusal(verb: Verb, status: int, headers: Mapping[str, str], body: bytes) -> ControlPlaneError:
    """The error for an answer that is not a success: the one place that tells them apart."""
    facts = _json_or_none(body)
    said = _detail(facts)
    text = f"{verb.name}: {status}{': ' + said if said else ''}"
    if status in _BUSY:
        wait_s = read_retry_after(headers.get("Retry-After"))
        return TransientError(text, verb=verb.name, http_status=status, retry_after_s=wait_s)
    kind = _refusal_kind(verb, status)
    if kind is not None:
        return kind(text, verb=verb.name, http_status=status, facts=facts if isinstance(facts, dict) else None)
    # 1xx, 3xx, another 2xx or 5xx: not the control plane speaking, or not in a state to
    return TransientError(text, verb=verb.name, http_status=status)


def _refusal_kind(verb: Verb, status: int) -> type[RejectedError] | None:
    if status in (401, 403):
        return AuthError
    if verb.is_on_job and status in _NOT_OURS:
        return ClaimLost
    return RejectedError if 400 <= status < 500 else None


def _blob_refusal(verb: Verb, status: int, headers: Mapping[str, str], body: bytes) -> ControlPlaneError:
    """As `refusal`; but a temporary URL that is no longer accepted says nothing about our token."""
    error = refusal(verb, status, headers, body)
    if isinstance(error, AuthError):
        return TransientError(str(error), verb=verb.name, http_status=status)
    return error


def read_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds, from seconds or a date; None for what is neither, or is negative, or no number."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = _read_date(value)
        if date is None:
            return None
        seconds = max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _read_date(value: str) -> datetime | None:
    """An aware time; None for what is none, or does not say in which zone."""
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):  # the last for a zone beyond all zones
        return None
    return date if date.tzinfo is not None else None


def _json_or_none(body: bytes) -> Any:
    try:
        return strict_json.loads(body)
    except strict_json.NotJson:
        return None


def _detail(found: Any) -> str:
    """What an error body says, in any of the known shapes; at most 300 characters, on one line."""
    if isinstance(found, dict):
        inner = found.get("error")
        inner = inner.get("message") if isinstance(inner, dict) else inner
        found = found.get("detail") or found.get("message") or inner or _fields(found)
    if isinstance(found, list):
        found = "; ".join(str(line.get("msg", "")) if isinstance(line, dict) else str(line) for line in found)
    text = found if isinstance(found, str) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text[:300])


def _fields(found: Mapping[str, Any]) -> str:
    """A map of fields to what is wrong with each, in words."""
    told = {name: says for name, says in found.items() if isinstance(says, list)}
    return "; ".join(f"{name}: {' '.join(str(text) for text in says)}" for name, says in told.items())


def _in_words(error: BaseException) -> str:
    """The innermost cause, which is where the operating system speaks."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = str(error) or type(error).__name__
    return text[:300]


def segment(value: str) -> str:
    """*value* as one segment of a path."""
    return quote(value, safe="")
