"""
Which trace a piece of work belongs to, as W3C Trace Context writes it: `00-<trace>-<span>-<flags>`.

Ids that are worked out from words instead of drawn are the same after a crash, so that what an interrupted job says
later belongs to the trace that it began.

Source:
    https://www.w3.org/TR/trace-context/, level 1.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from typing import Final

HEADER: Final = "traceparent"
VARIABLE: Final = "TRACEPARENT"
"""The environment variable of the same content, which tools such as otel-cli read."""

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FIRST_VERSION: Final = "00"
_NO_VERSION: Final = "ff"
_SAMPLED: Final = 0x01


@dataclass(frozen=True)
class TraceContext:
    """
    A place in a trace.

    Attributes:
        trace_id: 32 hex digits, of the whole.
        span_id: 16 hex digits, of what comes before: the parent of whatever is begun here.
        is_sampled: whether somebody keeps the trace.
    """

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def __str__(self) -> str:
        return f"{_FIRST_VERSION}-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"

    def child(self, *words: object) -> TraceContext:
        """A span below this one, whose id is made of *words*."""
        return replace(self, span_id=_digest(self.trace_id, self.span_id, *words)[:16])


def parse(text: str | None) -> TraceContext | None:
    """
    The context that *text* is, None when it is none. Later versions are read as far as this one goes.

    *text* may be anything: it comes from whoever calls.
    """
    found = _FORM.fullmatch(text or "")
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == _NO_VERSION or (version == _FIRST_VERSION and rest is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def made_of(*words: object) -> TraceContext:
    """A trace whose ids are made of *words*."""
    digits = _digest(*words)
    return TraceContext(digits[:32], digits[32:48])


def fresh() -> TraceContext:
    """A trace of its own, which nobody keeps."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8), is_sampled=False)


def _digest(*words: object) -> str:
    return hashlib.sha256("\0".join(map(str, words)).encode("utf-8", "surrogatepass")).hexdigest()
