"""Texts that are nearly one are found, others are not, and what looks personal is told by its kind."""

from __future__ import annotations

import random
import time

import pytest

from overmind_executors.rows.near_texts import NearTexts
from overmind_executors.uploaded_outputs.personal import KINDS, personal_kinds

WORDS = [f"w{n}" for n in range(2000)]


def _text(draw: random.Random, length: int) -> list[str]:
    return draw.choices(WORDS, k=length)


def test_planted_near_duplicates_are_found_and_nothing_else_is() -> None:
    """One word of 40 or more changed: at least 0.86 of the groups are shared."""
    draw = random.Random(7)
    plain = [_text(draw, draw.randint(40, 300)) for _ in range(300)]
    changed = []
    for text in plain:
        twin = list(text)
        twin[draw.randrange(len(twin))] = "other"
        changed.append(twin)

    with NearTexts(most=1000) as texts:
        first = [texts.add(" ".join(text)) for text in plain]
        second = [texts.add(" ".join(text)) for text in changed]
        groups = [texts.group(n) for n in range(600)]

    assert not any(first)
    assert sum(second) >= 297, "99 of 100"
    assert sum(groups[n + 300] == n for n in range(300)) >= 297


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ("Yes.", "YES", True),
        ("yes", "no", False),
        ("", "  ", False),
        ("the cat sat on the mat", "the cat sat on the hat", False),
        ("日本語の文です", "日本語の文です。", True),
        ("- - -", "+ + +", False),
    ],
)
def test_short_texts_are_near_when_their_words_are_the_same(one: str, other: str, is_near: bool) -> None:
    with NearTexts(most=1000) as texts:
        assert (False, is_near) == (texts.add(one), texts.add(other))


def test_groups_are_joined_by_a_text_between_them() -> None:
    words = [f"a{n}" for n in range(60)]
    left, middle, right = ([*words[:50], *words[50 + n :]] for n in (0, 4, 8))

    with NearTexts(most=1000) as texts:
        near = [texts.add(" ".join(text)) for text in (left, right, middle, left)]
        groups = [texts.group(n) for n in range(4)]

    assert [0, 0, 0, 0] == groups
    assert [False, near[1], True, False] == near


PERSONAL: dict[str, tuple[str, ...]] = {
    "write to jane.roe+x@mail.example.org, please": ("email",),
    "me@localhost @jane a@b": (),
    "call +49 (0)30 1234-5678 now": ("phone",),
    "(555) 010-9999 or 555-010-9999": ("phone",),
    "4111 1111 1111 1111": ("card",),
    "378282246310005": ("card",),
    "4111 1111 1111 1112": (),
    "1234567890123452": (),
    "order 20261122123456789": (),
    "DE89 3704 0044 0532 0130 00": ("iban",),
    "DE88 3704 0044 0532 0130 00": (),
    "from 8.8.8.8 and 2001:4860:4860::8888": ("ip_address",),
    "from 192.168.1.7, 127.0.0.1, ::1, 999.1.1.1, at 12:30:45": (),
    "version 1.2.3.4.5": (),
    "078-05-1120": ("us_ssn",),
    "000-05-1120, 2026-11-22": (),
    "nobody": (),
    "a@example.com 8.8.8.8": ("email", "ip_address"),
}


def test_what_looks_personal_is_told_by_its_kind() -> None:
    assert PERSONAL == {text: personal_kinds(text) for text in PERSONAL}
    assert set(KINDS) == {kind for kinds in PERSONAL.values() for kind in kinds}


@pytest.mark.parametrize("piece", ["a", "1", "1 ", "+1", "a@", "a.", "1.", "::", "A1", "1-", "@a."])
def test_no_text_takes_long(piece: str) -> None:
    """Of 200,000 letters; a pattern that goes back and forth would need minutes."""
    began_s = time.process_time()

    personal_kinds(piece * (200_000 // len(piece)))

    assert time.process_time() - began_s < 2
