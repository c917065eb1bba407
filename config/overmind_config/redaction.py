"""Masking of secrets in whatever is about to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "[redacted]"
MIN_LETTERS: Final = 6  # anything shorter would also mask ids, digits and common words
MAX_DEPTH: Final = 32

_SECRET_KEYS: Final = frozenset({"authorization", "api_key", "x-api-key", "password", "token"})
_KINDS: Final = (
    r"\bovr[a-z]?_[A-Za-z0-9_-]{4,}",
    r"\bsk-[A-Za-z0-9_-]{4,}",
    r"(?i:(?<=bearer )|(?<=api-key )|(?<=basic ))[A-Za-z0-9._~+/=-]{4,}",
    r"(?<=://)[^/\s@'\"]+(?=@)",
)


class Redactor:
    """Replaces configured secrets, and whatever looks like a key, by a mask. Safe to use from any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._pattern = re.compile("|".join(_KINDS))
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Mask these too, from now on: a key that was rotated. What is shorter than six letters is left alone."""
        long_enough = {secret for secret in secrets if len(secret) >= MIN_LETTERS}
        self._secrets |= long_enough | {quote(secret, safe="") for secret in long_enough}
        literal = sorted(map(re.escape, self._secrets), key=len, reverse=True)
        self._pattern = re.compile("|".join([*literal, *_KINDS]))

    def text(self, text: str) -> str:
        """*text* with every secret masked."""
        return self._pattern.sub(MASK, text)

    def value(self, value: Any, depth: int = 0) -> Any:
        """
        A copy of *value* with every secret masked, at any depth, in keys too.

        What is not plain data is replaced by its `repr`, since that is what would be shown of it.
        """
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self.text(value)
        if depth >= MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._entry(key, item, depth) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, (bytes, bytearray)):
            return self.text(bytes(value).decode("utf-8", "backslashreplace"))
        return self.text(repr(value))

    def _entry(self, key: Any, value: Any, depth: int) -> Any:
        is_secret = isinstance(key, str) and key.lower() in _SECRET_KEYS and isinstance(value, (str, bytes))
        return MASK if is_secret and value else self.value(value, depth + 1)
