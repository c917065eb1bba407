"""Columns in which every row says the same: they tell nothing apart, and were perhaps not meant to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from overmind_executors import strict_json

# What a row of `outputs.jsonl` has from its owner; fields of objects in it count, too, by `input.field`.
_COLUMNS: Final = (
    *("input", "output", "expected_output", "tags", "persona"),
    *("labels", "score", "metadata", "model", "split"),
)
_MOST_COLUMNS: Final = 256
_MOST_OF_A_NAME: Final = 64


class ConstantColumns:
    """A digest for each column that has said one thing so far, whatever the number of rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._digests: dict[str, bytes] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of `outputs.jsonl`."""
        self._rows += 1
        fields = dict(_fields(line))
        if self._rows == 1:
            self._digests = {name: _digest(value) for name, value in list(fields.items())[:_MOST_COLUMNS]}
        elif self._digests:
            known = self._digests.items()
            self._digests = {name: one for name, one in known if name in fields and _digest(fields[name]) == one}

    def names(self) -> list[str]:
        """Of those that all of two rows or more have, with one value; never the value."""
        return sorted(self._digests) if self._rows > 1 else []


def _digest(value: Any) -> bytes:
    return hashlib.sha256(strict_json.canonical(value)).digest()[:16]


def _fields(line: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _COLUMNS:
        value = line.get(name)
        if isinstance(value, dict):
            for inner, what in value.items():
                if what is not None and len(inner) <= _MOST_OF_A_NAME and inner.isprintable():
                    yield f"{name}.{inner}", what
        elif value is not None:
            yield name, value
