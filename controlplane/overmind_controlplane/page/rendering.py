"""
How the page is written: templates that escape everything, and headers that would stop what slips through.

Whatever a job brings is hostile: names, messages, logs, outcomes, models' answers. Each value passes `harmless`,
then Jinja's escaping; none is ever marked as safe.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from overmind_controlplane.caller import Caller
from overmind_controlplane.refusals import Refused

_FOLDER: Final = Path(__file__).parent
_SCRIPTED: Final = "trusted-types live; require-trusted-types-for 'script'"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    f"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; {_SCRIPTED}"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, a browser would not say where a form comes from
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DOWNLOAD_HEADERS: Final[Mapping[str, str]] = {
    **HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'",
}

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
# Control characters, signs that turn the reading direction round, and halves of characters that UTF-8 has not.
_HARMFUL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NEWLINES: Final = re.compile(r"\r\n?")
_STATIC_TYPES: Final[Mapping[str, str]] = {
    "page.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


def harmless(value: Any) -> Any:
    """*value* for display: a text without what a terminal or a reader would obey; None is nothing."""
    if value is None:
        return ""
    if isinstance(value, Markup):  # what a template wrote, escaped already
        return value
    return _HARMFUL.sub("\ufffd", _NEWLINES.sub("\n", _ESCAPES.sub("", str(value))))


def number(value: Any) -> str:
    """A number in up to five digits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(harmless(value))
    try:
        return f"{value:,.5g}" if isinstance(value, float) else f"{value:,}"
    except (OverflowError, ValueError):
        return "a very long number"


def score(value: float) -> str:
    """A score with one digit after the point, so that a column of them lines up; a share of 1 with more."""
    return f"{value:,.1f}" if abs(value) >= 1 or not value else number(value)


def moment(at: datetime | None) -> str:
    """A time as people read it, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def span(seconds: float | None) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 48 * 3600 else f"{whole // 86400} d"


def size(count: int) -> str:
    """Bytes: `812 B`, `1.4 KiB`, `3.0 MiB`."""
    scaled, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if scaled < 1024:
            break
        scaled, unit = scaled / 1024, larger
    return f"{count} B" if unit == "B" else f"{scaled:.1f} {unit}"


def as_json(value: Any) -> str:
    """A JSON value, indented, at most 20,000 characters of it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= 20_000 else text[:20_000] + "\n… the rest is too long to be shown here"


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "number": number,
        "score": score,
        "moment": moment,
        "span": span,
        "size": size,
        "as_json": as_json,
    }
    made.globals["static"] = _address
    return made


def _address(name: str) -> str:
    """Where a file of ours is; another content has another address, so browsers may keep it for ever."""
    return f"/static/{name}?{_DIGESTS[name]}"


STATIC: Final = {name: (_FOLDER / "static" / name).read_bytes() for name in _STATIC_TYPES}
_DIGESTS: Final = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in STATIC.items()}
_TEMPLATES: Final = _environment()


def fragment(template: str, **told: Any) -> Markup:
    """A part of a page, as HTML."""
    return Markup(_TEMPLATES.get_template(template).render(**told))  # noqa: S704 - a template has escaped it


def page(template: str, caller: Caller | None, status: int = 200, **told: Any) -> Response:
    """A whole page, for *caller*; None when nobody has signed in."""
    return HTMLResponse(fragment(template, caller=caller, **told), status, headers=dict(HEADERS))


def static_file(name: str) -> Response | None:
    """A file of ours; None when there is none of that name."""
    if name not in STATIC:
        return None
    headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(STATIC[name], headers=headers, media_type=_STATIC_TYPES[name])


def refusal(request: Request, error: Refused) -> Response | None:
    """How a browser is told no: it is sent to sign in, or shown a page; None for whoever did not ask for HTML."""
    if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith(("/api", "/blobs")):
        return None
    if error.http_status == 401 and request.method == "GET":
        return RedirectResponse(f"/sign-in?to={request.url.path}", 303, headers=dict(HEADERS))
    return page("refusal.html", None, error.http_status, code=error.http_status, detail=error.detail)
