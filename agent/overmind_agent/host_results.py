"""Result files that stay on this host, for a control plane that takes none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

from overmind_agent.errors import TransientError, UploadError
from overmind_agent.jobs import ResultFile
from overmind_agent.result_file import open_result

CHUNK_BYTES: Final = 1 << 20


class HostResults:
    """
    The folders `<root>/<job id>/`, each with the files of a job's last run. Nothing here ever removes them.

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


def _copy(content: BinaryIO, part: Path) -> str:
    """Write *content* to *part*, synced; returns its hex SHA-256."""
    digest = hashlib.sha256()
    with part.open("wb") as copy:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
