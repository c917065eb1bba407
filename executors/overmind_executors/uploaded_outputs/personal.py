"""What in a text looks as if it were about a person: which kinds, never what stands there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

_MOST_LETTERS: Final = 1 << 20
# Payment cards by their first digits and their lengths; a number that only has the right check digit is none.
_CARDS: Final = re.compile(
    r"4(\d{12}|\d{15}|\d{18})|(5[1-5]\d\d|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720))\d{12}|3[47]\d{13}"
    r"|3(0[0-5]|[68]\d)\d{11}|6(011|4[4-9]\d|5\d\d)\d{12,15}|35(2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not _CARDS.fullmatch(digits):
        return False
    doubled = [int(d) * 2 if n % 2 else int(d) for n, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def _is_address(text: str) -> bool:
    """Of a host that the whole internet can see: those of a home or a test network say nothing of anybody."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_so(_text: str) -> bool:
    return True


# Each pattern has a bounded length from each place where it may begin, so that no text takes long.
_KINDS: Final[Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]]] = {
    "email": (
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
        _is_so,
    ),
    "phone": (
        re.compile(
            r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}\d){7,14}(?!\d)"
            r"|(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-])"
        ),
        _is_so,
    ),
    "card": (re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card),
    "iban": (re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"), _is_iban),
    "ip_address": (
        re.compile(
            r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})(?![\w:]|\.\w)"
        ),
        _is_address,
    ),
    "us_ssn": (re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"), _is_so),
}
KINDS: Final = tuple(_KINDS)
_HINT: Final = re.compile(r"@|\d|::")


def personal_kinds(text: str) -> tuple[str, ...]:
    """The kinds of personal data that *text* seems to have, in the order of KINDS; of its first million letters."""
    if not _HINT.search(text):
        return ()
    looked = text[:_MOST_LETTERS]
    return tuple(
        kind
        for kind, (pattern, holds) in _KINDS.items()
        if any(holds(found.group()) for found in pattern.finditer(looked))
    )
