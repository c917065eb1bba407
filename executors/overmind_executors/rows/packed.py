"""
A file's bytes as they are read, whatever it is packed in, and never more of them than are allowed.

Plain, gzip, or a zip archive that holds exactly one file. Nothing is ever unpacked to disk, so a name within an
archive is never used as a path; one that tries to be one is refused all the same, since nobody packs such a file by
mistake.
"""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from overmind_executors.contract import InvalidParameters, Problem

MAX_UNPACKED_BYTES: Final = 4 << 30
# Deflate's own limit is 1,032 times. Rows of text come to 20 at most; long runs of one letter come to more.
MAX_RATIO: Final = 200
RATIO_FROM_BYTES: Final = 16 << 20
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
_ENCRYPTED: Final = 0x1
# Packings that are told by name, so that nobody wonders why line 1 is not JSON.
_UNKNOWN: Final = {
    b"\x28\xb5\x2f\xfd": "is zstd; unpack it first",
    b"\xfd7zXZ\x00": "is xz; unpack it first",
    b"BZh": "is bzip2; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "is 7z; unpack it first",
    b"%PDF": "is a PDF; write rows as JSONL or CSV",
    b"\xd0\xcf\x11\xe0": "is an old spreadsheet or document; save it as CSV",
}
_BROKEN: Final = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


def unreadable(what: str, code: str) -> InvalidParameters:
    """The whole input file is refused: *what* follows "the file", *code* is for programs."""
    return InvalidParameters(Problem("input", f"the file {what}", code))


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """
    The bytes of *path*, to be read once from the start.

    Raises:
        InvalidParameters: a packing that is not known, an archive of none or several files, one that is broken, or,
            while reading, one that unpacks to more than 4 GiB or, from 16 MiB on, to over 200 times its size.
    """
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        for start, what in _UNKNOWN.items():
            if head.startswith(start):
                raise unreadable(what, "unknown_packing")
        if head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file) as inner:
                yield _rows_of(_bounded(cast("BinaryIO", inner), path))
        elif head.startswith((_ZIP, _EMPTY_ZIP)):
            with _only_member(file) as inner:
                yield _rows_of(_bounded(inner, path))
        else:
            yield file


@contextmanager
def _only_member(file: BinaryIO) -> Iterator[BinaryIO]:
    try:
        archive = zipfile.ZipFile(file)
    except _BROKEN as error:
        raise unreadable(f"is a broken zip archive: {error}", "bad_archive") from error
    with archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            _refuse_bad_member(member)
        if len(members) != 1:
            raise unreadable(f"is a zip archive of {len(members)} files; pack exactly one", "bad_archive")
        try:
            inner = archive.open(members[0])
        except _BROKEN as error:
            raise unreadable(f"is a zip archive that cannot be read: {error}", "bad_archive") from error
        with inner:
            yield cast("BinaryIO", inner)


def _refuse_bad_member(member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.filename or not member.filename.isprintable():
        raise unreadable("is a zip archive with a name that leads out of it", "bad_archive_name")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise unreadable("is a zip archive with a link in it", "bad_archive_name")
    if member.flag_bits & _ENCRYPTED:
        raise unreadable("is an encrypted zip archive", "bad_archive")


def _rows_of(stream: io.BufferedReader) -> BinaryIO:
    """*stream*, which is a file of rows; a packed one again would be read as rows that are none."""
    head = stream.peek(8)
    if head.startswith((_GZIP, _ZIP, _EMPTY_ZIP, *_UNKNOWN)):
        raise unreadable("is packed twice; pack it once", "packed_twice")
    return cast("BinaryIO", stream)


def _bounded(inner: BinaryIO, path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(inner, path.stat().st_size), 1 << 16)


class _Bounded(io.RawIOBase):
    """What *inner* unpacks, as long as it stays in proportion to the packed bytes."""

    def __init__(self, inner: BinaryIO, packed_bytes: int) -> None:
        super().__init__()
        self._inner = inner
        self._most = min(MAX_UNPACKED_BYTES, max(RATIO_FROM_BYTES, MAX_RATIO * packed_bytes))
        self._sum = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        try:
            chunk = self._inner.read(len(view))
        except _BROKEN as error:
            raise unreadable(f"is packed and broken: {error}", "bad_archive") from error
        self._sum += len(chunk)
        if self._sum > self._most:
            raise unreadable(f"unpacks to more than {self._most} bytes", "zip_bomb")
        view[: len(chunk)] = chunk
        return len(chunk)
