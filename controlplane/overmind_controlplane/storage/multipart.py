"""Large blobs that arrive in parts: each part is a file of its own until all are put together."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overmind_controlplane.record.tables import new_id
from overmind_controlplane.refusals import NotFound, wrong
from overmind_controlplane.storage.blobs import Blobs

_CHUNK: Final = 1 << 20
_PART: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,5})")


def begin(blobs: Blobs, project_id: str, sha: str) -> str:
    """The id of a new upload."""
    upload_id = new_id()
    _folder(blobs, project_id, sha, upload_id).mkdir(parents=True)
    return upload_id


def part_name(upload_id: str, number: int) -> str:
    """How a part is called in an address."""
    return f"{upload_id}.{number}"


def part_path(blobs: Blobs, project_id: str, sha: str, part: str) -> Path:
    """
    Where a part is kept.

    Raises:
        NotFound: its upload is not, or no longer, there.
    """
    named = _PART.fullmatch(part)
    folder = _folder(blobs, project_id, sha, named[1]) if named else None
    if named is None or folder is None or not folder.is_dir():
        raise NotFound("Upload not found")
    return folder / named[2]


@dataclass(frozen=True)
class Part:
    """A part that has arrived: `tag` is what its PUT was answered."""

    number: int
    tag: str
    size: int


def arrived(blobs: Blobs, project_id: str, sha: str, upload_id: str) -> list[Part]:
    """
    The parts that are there, by number: what a client that was restarted need not send again.

    Raises:
        NotFound: there is no such upload.
    """
    folder = _folder(blobs, project_id, sha, upload_id)
    if not folder.is_dir():
        raise NotFound("Upload not found")
    paths = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return [Part(int(path.name), etag(path), path.stat().st_size) for path in paths]


def complete(blobs: Blobs, upload: tuple[str, str, str], parts: Sequence[tuple[int, str]]) -> None:
    """
    Put the parts together, by number.

    Args:
        upload: project, sha and id of the upload.
        parts: number and tag of each part, as its PUT was answered.

    Raises:
        NotFound: there is no such upload.
        Invalid: a part is missing or is not the one that was tagged.
    """
    project_id, sha, upload_id = upload
    folder = _folder(blobs, *upload)
    if not folder.is_dir():
        raise NotFound("Upload not found")
    with blobs.receive(project_id, sha) as whole:
        for number, tag in sorted(parts):
            path = folder / str(number)
            if not path.is_file() or etag(path) != tag:
                raise wrong(f"part {number} is missing or is another one", "body", "completed_parts")
            with path.open("rb") as part:
                shutil.copyfileobj(part, whole, _CHUNK)
    discard(blobs, project_id, sha, upload_id)


def discard(blobs: Blobs, project_id: str, sha: str, upload_id: str) -> None:
    """Throw an upload away; safe to repeat."""
    shutil.rmtree(_folder(blobs, project_id, sha, upload_id), ignore_errors=True)


def etag(path: Path) -> str:
    """The tag of a part: hex SHA-256 of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(blobs: Blobs, project_id: str, sha: str, upload_id: str) -> Path:
    return blobs.incoming / project_id / f"{sha[:32]}-{upload_id}"
