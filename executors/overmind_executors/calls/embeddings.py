"""Vectors of texts: what an OpenAI-compatible endpoint answers to `POST …/embeddings`, checked and packed."""

from __future__ import annotations

import base64
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overmind_executors.calls.answers import Answer, Kind, count_in


class _Unusable(Exception):
    """The answer is none to what was asked; the message says why."""


def vectors(facts: Answer, body: dict[str, Any], request: Mapping[str, Any]) -> Answer:
    """
    What *body* says of the texts of *request* (`input`). Nothing in it is believed.

    Returns:
        As `output` a list, in the order of the texts: of each its vector as `packed` makes it, or None where that
        is none: with something else than numbers, beyond single precision, or nothing but zeros. An answer with
        another number of vectors, with places (`index`) that are not those of the texts, or with vectors of
        different lengths says nothing of any text: it is `invalid_response`.
    """
    facts = replace(facts, prompt_tokens=count_in(body.get("usage"), "prompt_tokens"), completion_tokens=0)
    try:
        found = _in_order(body.get("data"), len(request["input"]))
    except _Unusable as error:
        return replace(facts, kind=Kind.INVALID_RESPONSE, message=str(error))
    output = [packed(vector) for vector in found]
    if not any(output):
        return replace(facts, kind=Kind.INVALID_RESPONSE, message="no vector in the answer can be used")
    return replace(facts, output=output)


def packed(vector: list[Any]) -> str | None:
    """*vector* as single-precision numbers in base64, less than half of its JSON; None when it is no vector."""
    if not all(type(number) in (int, float) for number in vector):
        return None
    try:
        content = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        return None
    return base64.b64encode(content).decode() if any(unpacked(content)) else None


def unpacked(content: bytes) -> array[float]:
    """The numbers of a vector, from the bytes that `packed` has in base64."""
    numbers = array("f", content)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _in_order(data: Any, count: int) -> list[list[Any]]:
    if not isinstance(data, list) or len(data) != count:
        raise _Unusable(f"the answer has not one vector for each of {count} texts")
    entries = [entry for entry in data if isinstance(entry, dict) and type(entry.get("index")) is int]
    placed = {entry["index"]: entry.get("embedding") for entry in entries}
    if set(placed) != set(range(count)):
        raise _Unusable("the answer does not say which vector is of which text")
    found = [vector for place in range(count) if isinstance(vector := placed[place], list) and vector]
    if len(found) != count:
        raise _Unusable("the answer has something else than vectors")
    if len({len(vector) for vector in found}) != 1:
        raise _Unusable("the answer has vectors of different lengths")
    return found
