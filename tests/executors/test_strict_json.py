"""JSON that all readers understand alike, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overmind_executors import strict_json
from overmind_executors.strict_json import NotJson

REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "expecting value at line 1, column 1"),
    "a word": (b"nope", "expecting value"),
    "cut": (b'{"a": 1', "expecting"),
    "two values": (b"1 2", "extra data"),
    "single quotes": (b"{'a': 1}", "expecting property name"),
    "a trailing comma": (b"[1,]", ""),
    "NaN": (b'{"a": NaN}', "NaN is not a JSON number"),
    "Infinity": (b"[Infinity]", "Infinity is not a JSON number"),
    "-Infinity": (b"-Infinity", "-Infinity is not a JSON number"),
    "1e999": (b"[1e999]", "too large for a double"),
    "-1e999": (b"[-1e999]", "too large for a double"),
    "2 ** 63": (b"9223372036854775808", "beyond 64 bits"),
    "-2 ** 63 - 1": (b"-9223372036854775809", "beyond 64 bits"),
    "5,000 digits": (b"1" * 5000, "beyond 64 bits"),
    "a key twice": (b'{"a": 1, "a": 1}', "the same key twice"),
    "a key twice, below": (b'[{"b": {"a": 1, "\\u0061": 2}}]', "the same key twice"),
    "65 levels": (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
    "65 levels of objects": (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 64"),
    "half a surrogate pair": (b'"\\ud800"', "half of a surrogate pair"),
    "half a surrogate pair as a key": (b'{"\\udc00": 1}', "half of a surrogate pair"),
    "not UTF-8": (b'"\xff"', "not UTF-8 (byte 1)"),
    "UTF-16": ('"a"'.encode("utf-16"), "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf1", "expecting value"),
    "a NUL": (b'"a\x00b"', "invalid control character"),
    "a newline in a string": (b'"a\nb"', "invalid control character"),
}

TAKEN: dict[str, tuple[bytes, Any]] = {
    "null": (b"null", None),
    "2 ** 63 - 1": (b"9223372036854775807", 2**63 - 1),
    "-2 ** 63": (b"-9223372036854775808", -(2**63)),
    "a small number": (b"1e-999", 0.0),
    "64 levels": (b"[" * 63 + b"[]" + b"]" * 63, json.loads("[" * 64 + "]" * 64)),
    "a whole surrogate pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "an escaped NUL": (b'"a\\u0000b"', "a\0b"),
    "space around it": (b' \t\r\n{"a": [1]} ', {"a": [1]}),
}


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_two_readers_could_take_differently_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(NotJson) as caught:
        strict_json.loads(raw)

    assert message in str(caught.value)


@pytest.mark.parametrize(("raw", "value"), TAKEN.values(), ids=TAKEN.keys())
def test_what_is_json_is_taken(raw: bytes, value: Any) -> None:
    assert value == strict_json.loads(raw)


@pytest.mark.parametrize("levels", [1, 62, 65])
def test_other_limits_of_depth_hold_to_the_level(levels: int) -> None:
    just, beyond = "[" * levels + "]" * levels, "[" * (levels + 1) + "]" * (levels + 1)

    assert json.loads(just) == strict_json.loads(just, levels=levels)
    with pytest.raises(NotJson, match=f"nested deeper than {levels} levels"):
        strict_json.loads(beyond, levels=levels)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(_VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert value == strict_json.loads(strict_json.dumps(value))
    assert value == strict_json.loads(strict_json.canonical(value))


def test_one_value_has_one_canonical_spelling() -> None:
    assert '{"a":[1,"é"],"b":null}'.encode() == strict_json.canonical({"b": None, "a": [1, "é"]})
