"""W3C Trace Context: what is a traceparent, what is none, and ids that are the same again after a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overmind_executors.trace_context import TraceContext, fresh, made_of, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_traceparent_is_read(text: str, is_sampled: bool) -> None:
    assert TraceContext(TRACE, SPAN, is_sampled) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{'٣' * 32}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    found = parse(text)

    assert found is None or parse(str(found)) == found


def test_what_is_written_is_read_again() -> None:
    for context in (fresh(), made_of("job", "1"), TraceContext(TRACE, SPAN).child("x")):
        assert context == parse(str(context))


def test_a_span_of_the_same_words_is_the_same_span() -> None:
    job = made_of("job", "5d1b")

    assert job == made_of("job", "5d1b")
    assert job.child("attempt", 1) == job.child("attempt", 1)
    assert job.trace_id == job.child("attempt", 1).trace_id
    below = (("attempt", 1), ("attempt", 2), ("attempt1",))
    assert 4 == len({job.span_id, *(job.child(*words).span_id for words in below)})


def test_words_with_a_border_between_them_are_other_words() -> None:
    assert made_of("ab", "c") != made_of("a", "bc")


def test_two_fresh_ones_differ_and_nobody_keeps_them() -> None:
    assert fresh().trace_id != fresh().trace_id
    assert not fresh().is_sampled
