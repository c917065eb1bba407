"""The forms in which a secret may turn up: as it is, and as programs write it into other texts."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

MIN_LETTERS: Final = 6  # anything shorter would also mask ids, digits and common words
# Words that are in use as passwords and stand in any log; masking them would hide what is no secret.
_WORDS: Final = """
123456 12345678 123456789 1234567890 abc123 admin123 administrator agent anonymous bearer changeit
changeme completed control default dummy example failed iloveyou inference letmein localhost model
monkey none overmind passphrase passwd password password1 password123 passwort qwerty running secret
sekret system test123 test1234 tester testing token unknown username welcome
"""
COMMON: Final = frozenset(_WORDS.split())
_PLAIN_WORD_LETTERS: Final = 8
_SHELL: Final = re.compile(r"([^A-Za-z0-9_@%+=:,./-])")


def is_maskable(secret: str) -> bool:
    """Whether *secret* can be masked without masking what is none: it is neither short nor a common word."""
    is_a_word = secret.isalpha() and (secret.islower() or secret.isupper()) and len(secret) < _PLAIN_WORD_LETTERS
    is_common = secret.lower() in COMMON or len(set(secret)) == 1
    return len(secret) >= MIN_LETTERS and not is_a_word and not is_common


def forms(secret: str) -> frozenset[bytes]:
    """
    Every form of *secret* of MIN_LETTERS or more: as it is, in hex, base64, URLs, JSON, XML and shell words.

    Base64 packs three bytes into four letters, so a secret inside a longer text has three forms, of which the
    letters that its neighbours have a part in are left off.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    found = {text.encode("utf-8", "surrogatepass") for text in _in_text(secret)}
    found |= {raw, raw.hex().encode(), raw.hex().upper().encode(), *_in_base64(raw)}
    return frozenset(form for form in found if len(form) >= MIN_LETTERS)


def _in_text(secret: str) -> Iterator[str]:
    for quoted in (quote(secret, safe="", errors="surrogatepass"), quote_plus(secret, errors="surrogatepass")):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
    for in_json in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield in_json
        yield in_json.replace("/", "\\/")
    yield html.escape(secret)
    yield escape(secret, {'"': "&quot;", "'": "&apos;"})
    yield escape(secret, {'"': "&#34;", "'": "&#39;"})
    yield escape(secret)
    yield secret.replace("'", "'\"'\"'")
    yield secret.replace("'", "'\\''")
    yield _SHELL.sub(r"\\\1", secret)


def _in_base64(raw: bytes) -> Iterator[bytes]:
    for before in range(3):
        first = -(-before * 8 // 6)
        end = (before + len(raw)) * 8 // 6
        packed = base64.b64encode(b"\0" * before + raw)[first:end]
        yield packed
        yield packed.translate(bytes.maketrans(b"+/", b"-_"))
