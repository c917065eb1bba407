"""
The header `Content-Digest`: bytes that arrive as they were sent, or are not taken.

Source:
    RFC 9530, section 2.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import Final

from overmind_controlplane.refusals import Garbled, wrong

_SHA256: Final = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):\s*(?=,|$)")


def told(header: str) -> bytes | None:
    """
    The SHA-256 that *header* tells; None without one: digests of other kinds are passed over.

    Raises:
        Invalid: it should have one, and has none.
    """
    found = _SHA256.search(header)
    if found is None:
        if "sha-256" in header:
            raise wrong("this is not sha-256=:base64:", "header", "Content-Digest")
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise wrong("this is not sha-256=:base64:", "header", "Content-Digest") from error


def check(digest: bytes, arrived: bytes) -> None:
    """
    Compare the SHA-256 that was told with that of what has *arrived*, as it was sent.

    Raises:
        Garbled: they differ.
    """
    if not hmac.compare_digest(digest, arrived):
        raise Garbled("the body does not have its Content-Digest; send it again", code="digest_mismatch")
