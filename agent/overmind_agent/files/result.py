"""Opening what a job left, which nobody vouches for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from overmind_agent.errors import UploadError
from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import ResultFile


def apart(names: Sequence[str]) -> list[str]:
    """*names* in their order, a number before each that was there before: two secrets look alike when masked."""
    made: dict[str, None] = {}
    for name in names:
        number, other = 1, name
        while other in made:
            number += 1
            other = f"{number}-{name[-60:]}"
        made[other] = None
    return list(made)


def check_unchanged(file: ResultFile) -> None:
    """
    Read a small *file* once more.

    Raises:
        UploadError: it is not what it was when the job ended.
    """
    with open_result(file) as content:
        must_be_whole(file, hashlib.sha256(content.read(file.size_bytes + 1)).hexdigest())


def must_be_whole(file: ResultFile, sha256: str) -> None:
    """
    Raises:
        UploadError: *sha256*, of what is there now, is not that of *file*.
    """
    if sha256 != file.sha256:
        raise UploadError("a result file changed after the job had ended", reason="output_changed")


def open_result(file: ResultFile) -> BinaryIO:
    """
    *file*, opened without following a link that a job may have put in its place.

    Raises:
        UploadError: it is not there, or no regular file.
    """
    try:
        return open_plain(file.path)
    except FileNotFoundError as error:
        raise UploadError(f"{file.name!r} is gone", reason="output_missing") from error
    except OSError as error:
        raise UploadError(f"{file.name!r} cannot be read: {error}", reason="output_unreadable") from error
