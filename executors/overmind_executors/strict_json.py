"""JSON as it was meant: what two readers could understand differently is refused, and so is what would hurt us."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

MAX_DEPTH: Final = 64


class NotJson(ValueError):
    """
    The bytes are not JSON, or JSON that readers would not agree on. Never quotes what it refuses.

    Attributes:
        code: of the kind of fault, lower snake case and stable: `not_json`, `not_finite`, `number_too_large`,
            `duplicate_key`, `too_deep`, `lone_surrogate`, `bad_encoding`.
    """

    def __init__(self, message: str, code: str = "not_json") -> None:
        super().__init__(message)
        self.code = code


def loads(raw: bytes | str, *, levels: int = MAX_DEPTH) -> Any:
    """
    What *raw* says.

    Args:
        raw: UTF-8 when bytes.
        levels: of arrays and objects within each other, at most. Fewer for what will be wrapped and read again,
            more for what is wrapped already.

    Raises:
        NotJson: not JSON, NaN or an infinity, a number too large for a double, an integer beyond 64 bits, a key
            twice in one object, more than *levels* levels, a lone surrogate, a byte order mark.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = _DECODER.decode(text)
    except NotJson:
        raise
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 (byte {error.start})", "bad_encoding") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg.lower()} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise NotJson(f"nested deeper than {levels} levels", "too_deep") from error
    if not text.isascii() or "\\u" in text:
        _refuse_surrogates(value)
    _refuse_depth(value, levels)
    return value


def value_at(text: str, place: int) -> tuple[Any, int]:
    """
    The value that begins at *place* of *text*, and the place behind it; what follows there is not looked at.

    Raises:
        NotJson: as `loads`.
    """
    try:
        value, end = _DECODER.raw_decode(text, place)
    except RecursionError as error:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels", "too_deep") from error
    except json.JSONDecodeError as error:
        raise NotJson(error.msg.lower()) from error
    _refuse_surrogates(value)
    _refuse_depth(value, MAX_DEPTH)
    return value, end


def dumps(value: Any) -> str:
    """*value* as one line of JSON that `loads` takes back; text stays readable, NaN is refused."""
    return _ENCODER.encode(value)


def canonical(value: Any) -> bytes:
    """The one spelling of *value* that digests are taken of: keys sorted, no spaces, UTF-8."""
    return _CANONICAL.encode(value).encode()


# Made once: `json.dumps` makes a new one for every call that does not have its defaults.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotJson("the same key twice in one object", "duplicate_key")
    return made


def _refuse_constant(name: str) -> float:
    raise NotJson(f"{name} is not a JSON number", "not_finite")


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise NotJson("a number too large for a double", "number_too_large")
    return number


def _int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**63:
        raise NotJson("an integer beyond 64 bits", "number_too_large")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_depth(value: Any, levels: int) -> None:
    level = [value]
    for _ in range(levels):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return
    raise NotJson(f"nested deeper than {levels} levels", "too_deep")


def _refuse_surrogates(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.keys())
        waiting.extend(_children(item))
        if isinstance(item, str) and any("\ud800" <= letter <= "\udfff" for letter in item):
            raise NotJson("half of a surrogate pair", "lone_surrogate")
