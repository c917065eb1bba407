"""The files of a result: checked, digested, listed in a manifest, and safe on disk before anyone is told."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from overmind_executors import durable, strict_json
from overmind_executors.contract import ExecutionFailed

MANIFEST: Final = "manifest.json"
# The manifest is one of them; a control plane takes no status that declares more.
MOST_FILES: Final = 10_000
MAX_OUTCOME_BYTES: Final = 64 * 1024
# `result.json`, the job's status and the record that a client reads put it into objects of their own.
MAX_OUTCOME_LEVELS: Final = strict_json.MAX_DEPTH // 2
_MAX_NAME_BYTES: Final = 255
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class FileFacts:
    """A file's name, size and hex SHA-256."""

    name: str
    size_bytes: int
    sha256: str


def facts_of(path: Path) -> FileFacts:
    """
    What *path* holds now, read once and synced to disk.

    Raises:
        ExecutionFailed: not a regular file, or one that has a second name elsewhere.
    """
    name = path.name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ExecutionFailed(f"result file {name!r} cannot be opened: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise ExecutionFailed(f"result file {name!r} is not a plain file with one name")
    with os.fdopen(descriptor, "rb") as file:
        facts = digest(file, name)
        os.fsync(file.fileno())
    return facts


def digest(file: BinaryIO, name: str) -> FileFacts:
    """The facts of an open *file*, from where it stands to its end."""
    sha256, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        sha256.update(chunk)
        size_bytes += len(chunk)
    return FileFacts(name, size_bytes, sha256.hexdigest())


def seal(folder: Path, names: Sequence[str], head: Mapping[str, Any]) -> tuple[FileFacts, ...]:
    """
    Check *names* in *folder*, add a manifest, sync it all.

    Args:
        head: what the manifest says before its `files`; nothing that differs between two runs of one job but
            its attempt.

    Returns:
        The facts of every file in the order of *names*, the manifest last.

    Raises:
        ExecutionFailed: a name is not plain or comes twice, a file is not a regular one in *folder*, or there are
            too many.
    """
    if len(names) >= MOST_FILES:
        raise ExecutionFailed(f"{len(names):,} result files; make at most {MOST_FILES - 1:,}, or pack them")
    for name in names:
        _refuse_bad_name(name)
    if len(set(names)) != len(names):
        raise ExecutionFailed("a result file is named twice")
    files = tuple(facts_of(folder / name) for name in names)
    manifest = {**head, "files": [asdict(file) for file in files]}
    durable.write(folder / MANIFEST, (strict_json.dumps(manifest) + "\n").encode())
    return (*files, facts_of(folder / MANIFEST))


def outcome_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """
    *outcome*, known to be JSON and small in bytes and levels.

    Raises:
        ExecutionFailed: it is not.
    """
    try:
        text = strict_json.dumps(dict(outcome))
        made: dict[str, Any] = strict_json.loads(text, levels=MAX_OUTCOME_LEVELS)
    except (TypeError, ValueError, RecursionError) as error:
        raise ExecutionFailed(f"outcome is not JSON: {error}") from error
    if len(text.encode()) > MAX_OUTCOME_BYTES:
        raise ExecutionFailed(f"outcome has {len(text.encode())} bytes, more than {MAX_OUTCOME_BYTES}; use a file")
    return made


def _refuse_bad_name(name: str) -> None:
    plain = (
        0 < len(name.encode(errors="replace")) <= _MAX_NAME_BYTES
        and name.isprintable()
        and not set(name) & set("/\\")
        and not name.startswith(".")
        and name == name.strip(" .")
        and name != MANIFEST
    )
    if not plain:
        raise ExecutionFailed(f"result file name {name!r} is not a plain name")
