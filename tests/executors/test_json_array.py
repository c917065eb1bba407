"""The members of a JSON array, from a stream that is never in memory as a whole."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overmind_executors import strict_json
from overmind_executors.rows.json_array import members
from overmind_executors.strict_json import NotJson

MOST = 1 << 20


class _Drip(io.BytesIO):
    """Gives out one byte at a time, so that everything is cut everywhere."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(1, size) if size and size > 0 else 1)


def _read(text: bytes, *, most_bytes: int = MOST) -> list[Any]:
    """The values of the members, or the codes of what is wrong with them."""
    found = members(_Drip(text), most_bytes=most_bytes)
    return [member.value if member.fault is None else member.fault.code for member in found]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé", max_size=2), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(_VALUES, max_size=5), st.sampled_from(["", " ", "\n", "\t \r\n"]))
def test_the_members_of_an_array_are_what_it_holds(values: list[Any], space: str) -> None:
    text = space + "[" + space + f"{space},{space}".join(map(strict_json.dumps, values)) + space + "]" + space

    assert values == _read(text.encode())


WRONG = [
    "",
    "{}",
    "1",
    "[",
    "[1",
    "[1 2]",
    "[1,",
    "[,1]",
    "[1]]",
    "[1] x",
    "[][]",
    "]",
    "[1,]",
    "[nope]",
    "[" * 50_000,
]


@pytest.mark.parametrize("text", WRONG, ids=[text[:8] or "nothing" for text in WRONG])
def test_what_is_not_one_array_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        list(members(io.BytesIO(text.encode()), most_bytes=MOST))


REFUSED = {
    "NaN": ("NaN", "not_finite"),
    "a key twice": ('{"a": 1, "a": 2}', "duplicate_key"),
    "a huge integer": ("9" * 5000, "number_too_large"),
    "a huge number": ("1e999", "number_too_large"),
    "too deep": ("[" * 65 + "]" * 65, "too_deep"),
    "half a surrogate pair": ('"\\ud800"', "lone_surrogate"),
    "too long": (json.dumps("x" * 200), "too_large"),
}


@pytest.mark.parametrize(("member", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_member_that_is_refused_harms_no_other(member: str, code: str) -> None:
    text = f"[1, {member}, 2]"

    most_bytes = 150 if code == "too_large" else MOST
    read = members(io.BytesIO(text.encode()), most_bytes=most_bytes)

    assert [1, code, 2] == [found.value if found.fault is None else found.fault.code for found in read]


def test_a_member_without_an_end_does_not_fill_the_memory() -> None:
    endless = io.BytesIO(b'["' + b"x" * (3 << 20))

    with pytest.raises(NotJson) as caught:
        list(members(endless, most_bytes=1 << 10))

    assert "too_large" == caught.value.code
    assert endless.tell() < 1 << 20
