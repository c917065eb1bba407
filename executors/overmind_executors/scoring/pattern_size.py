"""How large a regular expression becomes when its counted repeats are written out, before it is compiled."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|\{(\d*)(,?)(\d*)\}|.", re.DOTALL)


def written_out(pattern: str) -> int:
    """
    The number of single letters, classes and groups in *pattern*, each counted as often as it is repeated.

    `((a{60000}){60000}){60000}` is short, and no machine has room for it. An estimate from above: what a set of
    braces means in a verbose pattern or in an odd place may be less.
    """
    groups: list[int] = [0]
    last = 0  # the size of what a repeat that comes now would repeat
    for token in _TOKEN.finditer(pattern):
        text = token.group()
        if text == "(":
            groups.append(0)
            last = 0
        elif text == ")" and len(groups) > 1:
            last = groups.pop() + 1
            groups[-1] += last
        elif text[0] == "{" and len(text) > 1:
            times = max([int(number[:9]) for number in (token.group(1), token.group(3)) if number], default=1)
            groups[-1] += last * max(0, times - 1)
            last *= max(1, times)
        elif text not in ("*", "+", "?", "|"):
            last = 1
            groups[-1] += 1
    return sum(groups)
