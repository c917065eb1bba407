"""JSON as it was meant: what two readers could understand differently is refused, and so is what would hurt us."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

MAX_DEPTH: Final = 64


class NotJson(ValueError):
    """The bytes are not JSON, or JSON that readers would not agree on. Never quotes what it refuses."""


def loads(raw: bytes | str) -> Any:
    """
    What *raw* says.

    Args:
        raw: UTF-8 when bytes.

    Raises:
        NotJson: not JSON, NaN or an infinity, a number too large for a double, an integer beyond 64 bits, a key
            twice in one object, more than 64 levels, a lone surrogate, a byte order mark.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except NotJson:
        raise
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg.lower()} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from error
    if not text.isascii() or "\\u" in text:
        _refuse_surrogates(value)
    _refuse_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotJson("the same key twice in one object")
    return made


def _refuse_constant(name: str) -> float:
    raise NotJson(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise NotJson("a number too large for a double")
    return number


def _int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**63:
        raise NotJson("an integer beyond 64 bits")
    return number


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise NotJson(f"nested deeper than {MAX_DEPTH} levels")


def _refuse_surrogates(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.keys())
        waiting.extend(_children(item))
        if isinstance(item, str) and any("\ud800" <= letter <= "\udfff" for letter in item):
            raise NotJson("half of a surrogate pair")
