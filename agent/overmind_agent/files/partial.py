"""What a job that did not end well left in its output folder: read with care, and called what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import ResultFile

# In front of every name: nobody takes a part for the whole.
PREFIX: Final = "partial-"
MOST_FILES: Final = 20
MOST_BYTES: Final = 64 * 1024 * 1024
MOST_NAME_BYTES: Final = 255 - len(PREFIX)
_CHUNK_BYTES: Final = 1 << 20


def partial_files(output: Path, *, most_bytes: int = MOST_BYTES) -> Iterator[ResultFile]:
    """
    The plain files directly in *output*, by name: the first MOST_FILES that fit into *most_bytes* together.

    Empty and hidden ones, links, and whatever cannot be read or has an odd name, are left out.
    """
    found = 0
    for path in sorted(output.iterdir()) if output.is_dir() and not output.is_symlink() else ():
        if found == MOST_FILES:
            return
        file = _file(path, most_bytes)
        if file is not None:
            found += 1
            most_bytes -= file.size_bytes
            yield file


def _file(path: Path, most_bytes: int) -> ResultFile | None:
    name = path.name
    if name.startswith(".") or not name.isprintable() or len(name.encode()) > MOST_NAME_BYTES:
        return None
    sha256, size_bytes = hashlib.sha256(), 0
    try:
        with open_plain(path) as file:
            while (chunk := file.read(_CHUNK_BYTES)) and size_bytes <= most_bytes:
                sha256.update(chunk)
                size_bytes += len(chunk)
    except OSError:
        return None
    fits = 0 < size_bytes <= most_bytes
    return ResultFile(PREFIX + name, path, size_bytes, sha256.hexdigest()) if fits else None
