"""
The folders of the jobs, below the state folder: `jobs/<job id>/`.

A folder belongs to a job, not to an attempt, so that an agent that gets a job back finds what was already paid
for. It is used again only for the same parameters and the same input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import Job, RemoteFile
from overmind_agent.ports import Workspace
from overmind_executors.removal import remove

BASIS: Final = "basis.json"
TEMPORARY: Final = "tmp"
BASIS_BYTES: Final = 4096
# What jobs that did not end well may leave on the disk, all together, for whoever wants to know why.
KEPT_BYTES: Final = 10 << 30
# An extension of the input's name that may help an executor to tell the format; anything else is dropped.
KNOWN_SUFFIXES: Final = frozenset({".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".gz"})


class DiskWorkspaces:
    """
    Fills the Workspaces port.

    Args:
        root: made with mode 0700 when missing.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root

    @contextmanager
    def open(self, job: Job, input_file: RemoteFile | None) -> Iterator[Workspace]:
        """See Workspaces."""
        folder = self._root / job.id
        basis = {"parameters": job.parameters.sha, "input": input_file.sha if input_file else None}
        if _basis(folder) != basis:
            remove(folder)
            for part in ("in", "out", "state"):
                (folder / part).mkdir(mode=0o700, parents=True)
            _write_durably(folder / BASIS, json.dumps(basis))
        yield Workspace(
            folder=folder,
            input_file=folder / "in" / f"input{_suffix(input_file)}",
            input_name=input_file.name if input_file else None,
            output=folder / "out",
            state=folder / "state",
            log=self.log(job.id),
            result=folder / "result.json",
            temporary=folder / TEMPORARY,
        )

    def log(self, job_id: str) -> Path:
        """Where a job's log is."""
        return self._root / job_id / "log.txt"

    def forget_temporary(self) -> None:
        """Remove what was for processes that ended together with an earlier agent. No job may run."""
        for folder in self._root.iterdir():
            if os.path.lexists(folder / TEMPORARY):
                remove(folder / TEMPORARY)

    def sweep(
        self,
        needed: Callable[[str], bool],
        *,
        in_use: Callable[[str], bool] = lambda _job_id: True,
        most_bytes: int = KEPT_BYTES,
    ) -> Sequence[str]:
        """See Workspaces."""
        folders = list(self._root.iterdir())
        kept = [folder for folder in folders if needed(folder.name)]
        idle = sorted((folder for folder in kept if not in_use(folder.name)), key=_changed_s, reverse=True)
        useless = [folder for folder in folders if folder not in set(kept)]
        for folder in idle:
            most_bytes -= _bytes_of(folder)
            if most_bytes < 0:
                useless.append(folder)
        for folder in useless:
            remove(folder)
        return [folder.name for folder in useless if os.path.lexists(folder)]


def _changed_s(folder: Path) -> float:
    with suppress(OSError):
        return folder.lstat().st_mtime
    return 0.0


def _bytes_of(folder: Path) -> int:
    """What *folder* takes of the disk; no link is followed, and no stack is needed for what is deep."""
    found, waiting = 0, [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    found += entry.stat(follow_symlinks=False).st_blocks * 512
    return found


def _basis(folder: Path) -> object:
    try:
        with open_plain(folder / BASIS) as file:
            return json.loads(file.read(BASIS_BYTES))
    except (OSError, ValueError):
        return None


def _suffix(file: RemoteFile | None) -> str:
    suffix = Path(file.name).suffix.lower() if file else ""
    return suffix if suffix in KNOWN_SUFFIXES else ""


def _write_durably(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
