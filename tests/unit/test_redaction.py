"""What is masked: every form of a secret, what looks like a key, and both across every border."""

from __future__ import annotations

import base64
import json
import random
import re
import shlex
from collections.abc import Callable
from html import escape
from urllib.parse import quote

import pytest

from overmind_agent.logs.pieces import next_piece
from overmind_config.redaction import MASK, MOST_KEY_LETTERS, Redactor
from overmind_config.secret_forms import COMMON, forms, is_maskable

SECRET = "p@ss'w/o\"rd<&>+42"
PLAIN = "hunter22-hunter22"

IN_OTHER_WORDS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in hex": lambda secret: secret.encode().hex(),
    "in upper hex": lambda secret: secret.encode().hex().upper(),
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "in base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a URL, in lower case": lambda secret: quote(secret, safe="").replace("%2F", "%2f").replace("%3C", "%3c"),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON with slashes": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "in HTML": escape,
    "in XML": lambda secret: escape(secret).replace("&#x27;", "&apos;"),
    "in a shell word": lambda secret: shlex.quote(secret)[1:-1],
}


@pytest.mark.parametrize("name", [name for name in IN_OTHER_WORDS if "lower" not in name])
def test_a_secret_is_masked_however_it_is_written(name: str) -> None:
    written = IN_OTHER_WORDS[name](SECRET)

    shown = Redactor([SECRET]).text(f"before {written} after")

    assert MASK in shown
    assert written[:-4] not in shown


def test_a_quoted_secret_in_lower_case_is_masked() -> None:
    assert f"x={MASK}" == Redactor(["a/b<c>d-secret"]).text("x=a%2fb%3cc%3ed-secret")


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(3))
def test_base64_is_masked_wherever_the_secret_stands_in_it(before: int, after: int) -> None:
    packed = base64.b64encode(b"x" * before + PLAIN.encode() + b"y" * after).decode()

    shown = Redactor([PLAIN]).text(packed)

    assert MASK in shown
    assert len(shown.replace(MASK, "")) <= (before + after) * 4 // 3 + 5


def test_no_form_is_so_short_that_it_would_mask_what_is_no_secret() -> None:
    assert [] == [form for form in forms("abc-12") if len(form) < 6]


@pytest.mark.parametrize(
    "secret", ["", "abc", "12345", "aaaaaaaa", "secret", "PASSWORD", "Password", "failed", *sorted(COMMON)]
)
def test_a_short_or_common_word_is_not_masked_and_counted(secret: str) -> None:
    redactor = Redactor([secret, PLAIN])

    assert (f"the word {secret}", f"is {MASK}") == (
        redactor.text(f"the word {secret}"),
        redactor.text(f"is {PLAIN}"),
    )
    assert (1 if secret else 0) == redactor.refused


@pytest.mark.parametrize("secret", ["abc-12", "s3cret", "ovr_0123", "correcthorse", "Tr0ub4dor&3"])
def test_what_is_no_common_word_is_masked(secret: str) -> None:
    assert is_maskable(secret)


def test_two_secrets_that_overlap_leave_nothing_of_either() -> None:
    redactor = Redactor(["alpha-beta", "beta-gamma"])

    assert MASK == redactor.text("alpha-beta-gamma")
    assert b"." + b"*" * 16 + b"." == redactor.masked(b".alpha-beta-gamma.")


def test_each_line_of_a_long_key_is_a_secret() -> None:
    key = "-----BEGIN KEY-----\nMIIEow1BAAKC\nAQEA75bz02\n-----END KEY-----"

    assert f"x {MASK} y" == Redactor([key]).text("x AQEA75bz02 y")


def test_many_secrets_of_all_lengths_are_found_at_every_place() -> None:
    """Fast ways of looking must not look past one: every secret at every alignment."""
    draw = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-_"
    secrets = ["7-" + "".join(draw.choices(letters, k=length)) for length in range(6, 60)]
    redactor = Redactor(secrets)

    left = [
        secret
        for number, secret in enumerate(secrets)
        for at in range(16)
        if secret.encode() in redactor.masked(b"." * (at + number) + secret.encode() + b"." * 11)
    ]

    assert [] == left


# ------------------------------------------------------------------------------------ streams


def test_a_mask_in_a_stream_is_as_long_as_what_it_hides() -> None:
    data = f"key {PLAIN}, bearer abc.def-123, ovr_0123abcd, http://user:pass@host/".encode()

    masked = Redactor([PLAIN]).masked(data)

    assert b"key *****************, bearer ***********, ************, http://*********@host/" == masked


def shipped(log: bytes, ends: list[int], redactor: Redactor, most_bytes: int) -> bytes:
    """What leaves the host of *log*, which grew to each of *ends* and then to its end."""
    sent = b""
    for end in [*ends, len(log)]:
        is_final = end == len(log)
        while piece := next_piece(
            lambda at, size, end=end: log[at : min(end, at + size)],
            redactor,
            at=len(sent),
            end=end,
            is_final=is_final,
            most_bytes=most_bytes,
        ):
            sent += piece
    return sent


def test_no_way_of_cutting_a_log_leaks_a_secret(is_whole: bool) -> None:
    """Thousands of logs, each with secrets in several forms, each written and sent in pieces of random sizes."""
    draw = random.Random(20260101)
    secrets = [SECRET, PLAIN, "ovr_Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg", "multi-line-key-1\nmulti-line-key-2"]
    redactor = Redactor(secrets)
    written = [write(secret) for write in IN_OTHER_WORDS.values() for secret in secrets[:3]]
    noise = ["\n", " ", "row 1 done\n", "\r", "é", "ovr", "bearer ", "x" * 40, "p@ss", "hunter22-hunter2"]
    needles = sorted(set().union(*(forms(secret) for secret in (*secrets[:3], *secrets[3].splitlines()))))

    leaks = []
    for number in range(10_000 if is_whole else 2_000):
        log = "".join(draw.choices([*noise, *written, *secrets[3:]], k=draw.randint(1, 8))).encode()
        ends = sorted(draw.sample(range(len(log)), k=min(len(log), draw.randint(0, 4))))
        sent = shipped(log, ends, redactor, draw.randint(1, 80) if number % 2 else 1 << 18)
        if sent != redactor.masked(log) or any(needle in sent for needle in needles):
            leaks.append(log)

    assert [] == leaks


def test_the_end_of_a_line_is_not_waited_for_for_ever() -> None:
    log = b"x" * (3 * MOST_KEY_LETTERS)

    piece = next_piece(lambda at, size: log[at : at + size], Redactor(), at=0, end=len(log), is_final=False)

    assert len(log) - Redactor().reach == len(piece)


def test_what_may_be_half_a_secret_is_kept_back() -> None:
    log = b"one\nhunter22-hun"

    def piece(*, is_final: bool) -> bytes:
        return next_piece(
            lambda at, size: log[at : at + size], Redactor([PLAIN]), at=0, end=len(log), is_final=is_final
        )

    assert (b"one\n", log) == (piece(is_final=False), piece(is_final=True))


@pytest.mark.parametrize("repeated", [b"sk-", b"ovr_", b"basic ", b"@", b"://", b"://" + b"x" * 4096 + b"@" * 64])
def test_a_log_that_is_nothing_but_keys_takes_no_longer(repeated: bytes) -> None:
    """A pattern that were tried again inside of what it found would take minutes for this."""
    data = repeated * (300_000 // len(repeated))

    assert len(data) == len(Redactor().masked(data))


def test_a_fast_look_finds_what_the_plain_patterns_say() -> None:
    value = rb"[A-Za-z0-9._~+/=-]{4,4096}"
    plain = [
        rb"\bovr[a-z]?_[A-Za-z0-9_-]{4,4096}",
        rb"\bsk-[A-Za-z0-9_-]{4,4096}",
        rb"(?i)(?<=bearer )" + value,
        rb"(?i)(?<=api-key )" + value,
        rb"(?i)(?<=basic )" + value,
        rb"(?<=://)[^/\s@'\"]{1,4096}(?=@)",
    ]
    words = ["://", "/", "@", ":", " ", "\n", "'", "u:p", "Bearer ", "API-Key ", "basic ", "very ", "series "]
    words += ["ovr_", "ovrx_", "sk-", "0123", "abc", "é", "x" * 4095, "@@"]
    draw = random.Random(7)
    logs = ["".join(draw.choices(words, k=draw.randint(1, 12))).encode() for _ in range(3000)]

    def masked(log: bytes) -> bytes:
        shown = bytearray(log)
        for pattern in plain:
            for found in re.finditer(pattern, log):
                shown[found.start() : found.end()] = b"*" * len(found.group())
        return bytes(shown)

    assert [] == [log for log in logs if masked(log) != Redactor().masked(log)]


def test_a_name_that_was_shown_is_masked_once_it_is_a_secret() -> None:
    """What is remembered of names is true of the secrets that were known then."""
    redactor = Redactor()
    shown = redactor.value({"4ad7b8c2e1": 1})

    redactor.add("4ad7b8c2e1")
    masked = redactor.value({"4ad7b8c2e1": 1})

    assert ({"4ad7b8c2e1": 1}, {MASK: 1}) == (shown, masked)
