"""
Which encoding a text file is in, and its bytes as UTF-8, which is all that the readers behind this know.

A byte order mark decides. Without one, text that is UTF-8 is UTF-8; for other text a guess is made from its first
64 KiB by charset-normalizer (which requests brings along), and said. A file that is partly UTF-8 is UTF-8 with
broken lines.
"""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from overmind_executors.rows.packed import unreadable

SNIFFED_BYTES: Final = 64 << 10
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# A guess from fewer bytes beyond ASCII says nothing: one byte can be a letter in any of them.
_LEAST_FOR_A_GUESS: Final = 8
# What people's spreadsheets write. Among a hundred encodings some odd one always fits better.
_LIKELY: Final = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
# Text of any language has a space, a digit or a bracket among its letters, and in UTF-16 these have a zero byte.
_ZERO_SHARE: Final = 0.2


@dataclass(frozen=True)
class Encoding:
    """
    Attributes:
        name: as Python's codecs know it.
        mark: how many bytes the byte order mark has.
        is_guess: whether nothing but the look of the bytes speaks for it.
    """

    name: str
    mark: int = 0
    is_guess: bool = False


def encoding_of(head: bytes, told: str | None = None) -> Encoding:
    """
    The encoding of a file that begins with *head*.

    Args:
        head: up to 64 KiB.
        told: the job's own word, which wins over everything but a mark that contradicts it.

    Raises:
        InvalidParameters: *told* is no encoding of text, or the mark says otherwise.
    """
    marked = next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), None)
    if told is not None:
        name = _known(told)
        if marked and marked[0] not in (name, f"{name}-le", f"{name}-be") and name != "utf-8-sig":
            raise unreadable(f"has the byte order mark of {marked[0]}, not of {name}", "bad_encoding")
        return Encoding(marked[0] if marked else name, marked[1] if marked else 0)
    if marked:
        return Encoding(*marked)
    if _is_partly_utf8(head):
        return Encoding("utf-8")
    return _guess(head)


def as_utf8(file: BinaryIO, encoding: Encoding) -> BinaryIO:
    """*file*, which stands at its start, as a stream of UTF-8 without a mark."""
    file.read(encoding.mark)
    return file if encoding.name == "utf-8" else io.BufferedReader(_Recoded(file, encoding.name), SNIFFED_BYTES)


class _Recoded(io.RawIOBase):
    """
    What the source says, in UTF-8. What it cannot say becomes half a surrogate pair in a form that no reader of
    UTF-8 takes, so that the fault is found in its own line and harms no other.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        super().__init__()
        self._source = source
        errors = "surrogatepass" if name.startswith("utf") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(name)(errors)
        self._left = b""
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._left and not self._is_over:
            chunk = self._source.read(SNIFFED_BYTES)
            self._is_over = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._is_over)
            except UnicodeDecodeError:
                self._left, self._is_over = b"\xff", True  # a file that was cut within a letter
                break
            except UnicodeError as error:  # such as UTF-16 whose order of bytes nothing says
                raise unreadable(f"cannot be read in its encoding: {error}", "bad_encoding") from error
            self._left = text.encode("utf-8", "surrogatepass")
        taken = self._left[: len(view)]
        self._left = self._left[len(view) :]
        view[: len(taken)] = taken
        return len(taken)


def _known(told: str) -> str:
    try:
        found = codecs.lookup(told)
    except (LookupError, ValueError):
        raise unreadable("cannot be read: no such encoding", "unknown_encoding") from None
    if not found._is_text_encoding:  # such as zip, hex and rot13, which are no encodings of text
        raise unreadable("cannot be read: that is no encoding of text", "unknown_encoding")
    return found.name


def _is_partly_utf8(head: bytes) -> bool:
    """Whether some line of *head* is UTF-8 beyond ASCII, or all of it is ASCII."""
    if _zero_places(head):
        return False
    if head.isascii():
        return True
    *lines, last = head.split(b"\n")
    if _decodes(head if not lines else b"\n".join(lines)) and (lines or _decodes(last, is_cut=True)):
        return True
    return any(not line.isascii() and _decodes(line) for line in lines)


def _decodes(line: bytes, *, is_cut: bool = False) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line, final=not is_cut)
    except UnicodeDecodeError:
        return False
    return True


def _zero_places(head: bytes) -> str:
    """`utf-16-le` or `utf-16-be` if the zeros of *head* stand as they do there, else empty."""
    half = len(head) // 2
    even, odd = (head[start::2].count(0) for start in (0, 1))
    if half < 2 or max(even, odd) < _ZERO_SHARE * half or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _guess(head: bytes) -> Encoding:
    if wide := _zero_places(head):
        return Encoding(wide, is_guess=True)
    if sum(byte > 127 for byte in head) < _LEAST_FOR_A_GUESS:
        return Encoding("utf-8")
    from charset_normalizer import from_bytes

    best = from_bytes(head[: head.rfind(b"\n") + 1] or head, cp_isolation=list(_LIKELY)).best()
    return Encoding("utf-8") if best is None else Encoding(best.encoding, is_guess=True)
