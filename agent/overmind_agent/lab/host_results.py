"""Result files that stay on this host, for a control plane that takes none."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from overmind_agent.errors import TransientError, UploadError
from overmind_agent.files.result import open_result
from overmind_agent.jobs import ResultFile

CHUNK_BYTES: Final = 1 << 20
# Synced on the way, so that the last sync of a large file does not hold the thread up for minutes.
SYNC_CHUNKS: Final = 64


class HostResults:
    """
    The folders `<root>/<job id>/`, each with the files of a job's last run.

    Args:
        root: made with mode 0700 when the first file comes.
        host_name: stands in the references, so that a reader knows where to look.
    """

    def __init__(self, root: Path, host_name: str) -> None:
        self._root = root
        self._host_name = host_name

    def refer(self, job_id: str, name: str) -> str:
        """Where the file *name* of a job is: `host:<agent name>:<path>`."""
        return f"host:{self._host_name}:{self._root / job_id / name}"

    def keep(self, job_id: str, file: ResultFile) -> str:
        """
        Copy *file*, durably and in one step, after its digest was checked; safe to repeat.

        Returns:
            Its reference.

        Raises:
            UploadError: it changed, went away or is no regular file.
            TransientError: the disk does not take it; a finished result waits until somebody has made room.
        """
        folder = self._root / job_id
        part = folder / f"{file.name}.part"
        with open_result(file) as content:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                digest = _copy(content, part)
                if digest == file.sha256:
                    part.replace(folder / file.name)
                    _sync(folder)
            except OSError as error:
                text = f"upload: {folder} cannot be written: {error.strerror}"
                raise TransientError(text, verb="upload") from error
        if digest != file.sha256:
            raise UploadError("a result file changed after the job had ended", reason="output_changed")
        return self.refer(job_id, file.name)

    def prune(self, is_in_use: Callable[[str], bool], *, keep_s: float, most_bytes: int, now_s: float) -> list[str]:
        """
        Remove the folders of jobs whose end is known, the oldest first: those that have had nothing new for
        *keep_s* seconds, and as many more as there are bytes beyond *most_bytes*.

        Args:
            is_in_use: whether a job is at work here, or has something left to say. Its folder stays.
            now_s: as the file system counts.

        Returns:
            The ids of their jobs.
        """
        folders = sorted(self._root.glob("*/"), key=_changed_s)
        sizes = {folder: sum(file.lstat().st_size for file in folder.iterdir()) for folder in folders}
        too_much = sum(sizes.values()) - most_bytes
        removed = []
        for folder in folders:
            is_old = now_s - _changed_s(folder) >= keep_s
            if (is_old or too_much > 0) and not is_in_use(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
                too_much -= sizes[folder]
                removed.append(folder.name)
        return removed


def _changed_s(folder: Path) -> float:
    return folder.stat().st_mtime


def _copy(content: BinaryIO, part: Path) -> str:
    """Write *content* to *part*, synced; returns its hex SHA-256."""
    digest = hashlib.sha256()
    with part.open("wb") as copy:
        for number in itertools.count(1):
            if not (chunk := content.read(CHUNK_BYTES)):
                break
            digest.update(chunk)
            copy.write(chunk)
            if number % SYNC_CHUNKS == 0:
                os.fdatasync(copy.fileno())
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
