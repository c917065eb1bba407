"""Lists, a page at a time; and the links between pages, which are not followed blindly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from pydantic import ValidationError

from overmind_agent import wire
from overmind_agent.errors import ProtocolError, RejectedError
from overmind_agent.lab.wire import LabPage, LabRow
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.refusals import ANY_2XX, MIB, Verb

LIST: Final = Verb("next_job", 30, accepts=ANY_2XX, max_bytes=16 * MIB)
MAX_PAGES: Final = 100
_BAD_REQUEST: Final = 400


class PendingJobs:
    """
    Lists what waits, oldest first where the server can order.

    The reference names the parameter `ordering` but not what it takes, so a server that refuses ours is asked
    without it from then on; each page is put in order here in any case.
    """

    def __init__(self, calls: HttpCalls, *, job_type: str | None) -> None:
        self._calls = calls
        self._filters = {"status": "pending", **({"job_type": job_type} if job_type else {})}
        self._ordering = {"ordering": "created_at"}

    def pages(self) -> Iterator[list[LabRow]]:
        """
        Page after page, as `read_pages`. Lines that cannot be read are left out.

        Raises:
            ControlPlaneError, ProtocolError: as `read_pages`.
        """
        pages = self._pages()
        try:
            first = next(pages)
        except RejectedError as error:
            if not self._ordering or error.http_status != _BAD_REQUEST:
                raise
            self._ordering = {}
            pages = self._pages()
            first = next(pages)
        yield _rows(first)
        yield from map(_rows, pages)

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        return read_pages(
            self._calls, LIST, f"/api/jobs/?{urlencode(self._filters | self._ordering)}", most=MAX_PAGES
        )


def read_pages(calls: HttpCalls, verb: Verb, path: str, *, most: int) -> Iterator[list[dict[str, Any]]]:
    """
    The lines of page after page, each read when it is asked for, from *path* on.

    Raises:
        ControlPlaneError: a page could not be read: what came before is not the list.
        ProtocolError: a page is none, its link leads to another server or to a page that was there already; or
            there are more than *most*.
    """
    seen = {path}
    for _ in range(most):
        page = wire.parse(LabPage, calls.call(verb, "GET", path).body)
        yield page.results
        if not page.next:
            return
        path = follow(page.next, calls.base_url, path)
        if path in seen:
            raise ProtocolError(f"{verb.name}: the list leads back to a page that was read already")
        seen.add(path)
    raise ProtocolError(f"{verb.name}: the list has more than {most} pages")


def follow(link: str, base_url: str, path: str) -> str:
    """
    The path and query of *link*, which stands in the page at *path* below *base_url*.

    The scheme may differ: a server behind a proxy that does TLS does not know its own. The call goes to
    *base_url* in any case.

    Raises:
        ProtocolError: it leads elsewhere.
    """
    base = urlsplit(base_url)
    target = urlsplit(urljoin(base_url + path, link))
    if target.scheme not in ("http", "https") or target.netloc.lower() != base.netloc.lower():
        raise ProtocolError(
            f"the next page is on another host ({target.netloc[:80]!r}); is public_url right there?"
        )
    if not target.path.startswith(f"{base.path}/"):
        raise ProtocolError("the next page is outside of control_plane.url")
    query = f"?{target.query}" if target.query else ""
    return target.path.removeprefix(base.path) + query


def _rows(lines: list[dict[str, Any]]) -> list[LabRow]:
    """Those that can be read, oldest first."""
    found = []
    for line in lines:
        try:
            found.append(LabRow.model_validate(line))
        except ValidationError:
            continue
    return sorted(found, key=lambda row: row.created_at or "")
