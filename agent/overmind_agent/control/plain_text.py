"""
Words of strangers on a person's terminal: what a job, a server or a journal says must not move the cursor.

Whatever is not to be seen is shown as Python would write it, such as `\\x1b`: escape sequences, and also what turns
the direction of writing or hides between letters.
"""

from __future__ import annotations

from typing import Final

_OF_A_LOG: Final = frozenset("\n\t")


def one_line(text: object) -> str:
    """*text* on one line."""
    return "".join(letter if letter.isprintable() else _shown(letter) for letter in str(text))


def of_a_log(text: str) -> str:
    """*text* with its lines and tabs. A line that ends in CR and LF ends as any other."""
    text = text.replace("\r\n", "\n")
    return "".join(letter if letter.isprintable() or letter in _OF_A_LOG else _shown(letter) for letter in text)


def _shown(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
