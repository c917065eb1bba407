"""The members of a JSON array, one at a time, from a stream: as much of it is in memory as its longest member."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from overmind_executors import strict_json

_CHUNK_BYTES: Final = 256 << 10
_SPACE: Final = " \t\r\n"
_OF_NUMBERS: Final = "0123456789.eE+-"
# Finds where a member ends even when our own rules refuse what it says.
_LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True)
class Member:
    """A member's value, or what is wrong with it."""

    value: Any = None
    fault: strict_json.NotJson | None = None


def members(file: BinaryIO, *, most_bytes: int) -> Iterator[Member]:
    """
    The members of the array that *file* holds, as UTF-8.

    Args:
        most_bytes: of one member.

    Raises:
        NotJson: while iterating: not an array, or nothing can be said of what follows. Members before the fault
            have been given out by then; one that is JSON but refused by our rules is a Member with a fault.
    """
    text = _Text(file)
    if text.letter() != "[":
        raise strict_json.NotJson("not an array")
    text.drop(1)
    number = 0
    if text.letter() == "]":
        text.drop(1)
    else:
        more = True
        while more:
            number += 1
            yield text.member(number, most_bytes)
            mark = text.letter()
            if mark not in (",", "]"):
                raise strict_json.NotJson(f"neither a comma nor a bracket after member {number} of the array")
            text.drop(1)
            more = mark == ","
    if text.letter():
        raise strict_json.NotJson("more text after the array")


class _Text:
    """A window on the text of a stream."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self._is_over = False

    def letter(self) -> str:
        """The next letter that is no space, empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _SPACE:
                self._place += 1
            if self._place < len(self._text) or not self._read(_CHUNK_BYTES):
                return self._text[self._place : self._place + 1]

    def drop(self, count: int) -> None:
        """Go on behind *count* letters."""
        self._place += count

    def member(self, number: int, most_bytes: int) -> Member:
        """The value that begins at the next letter."""
        self.letter()
        wanted = _CHUNK_BYTES
        while True:
            try:
                _, end = _LENIENT.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise strict_json.NotJson(f"member {number} is nested too deep", "too_deep") from error
            except json.JSONDecodeError as error:
                if len(self._text) - self._place > most_bytes:
                    raise strict_json.NotJson(
                        f"member {number} is longer than {most_bytes} bytes, or no JSON", "too_large"
                    ) from error
                if not self._read(wanted):
                    raise strict_json.NotJson(f"{error.msg.lower()} in member {number} of the array") from error
            else:
                if self._is_whole(end) or not self._read(_CHUNK_BYTES):
                    return self._checked(end, most_bytes)
            wanted *= 2

    def _is_whole(self, end: int) -> bool:
        """Whether what ends there cannot go on: a number that was cut, as in `1.`, reads as a shorter one."""
        return end < len(self._text) and (self._text[end] not in _OF_NUMBERS or end + 2 < len(self._text))

    def _checked(self, end: int, most_bytes: int) -> Member:
        source = self._text[self._place : end]
        self._place = end
        if len(source) > most_bytes:
            return Member(fault=strict_json.NotJson(f"longer than {most_bytes} bytes", "too_large"))
        try:
            return Member(strict_json.loads(source))
        except strict_json.NotJson as fault:
            return Member(fault=fault)

    def _read(self, count: int) -> bool:
        """Whether there was more."""
        if self._is_over:
            return False
        chunk = self._file.read(count)
        self._is_over = not chunk
        try:
            more = self._decoder.decode(chunk, final=self._is_over)
        except UnicodeDecodeError as error:
            raise strict_json.NotJson("not UTF-8", "bad_encoding") from error
        self._text = self._text[self._place :] + more
        self._place = 0
        return bool(chunk)
