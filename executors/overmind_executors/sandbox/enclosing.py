"""From what a host has decided to how one program of a job is started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from overmind_executors.contract import Context, ExecutionFailed
from overmind_executors.sandbox.bubblewrap import UNAVAILABLE, NoBubblewrap, View, words
from overmind_executors.sandbox.levels import Level


@dataclass(frozen=True)
class Enclosure:
    """
    How one program is started, each time.

    Attributes:
        level: as results name it.
        box: the command line of its sandbox, None for none.
        memory_bytes, processes, disk_bytes: its limits, None for none.
    """

    level: Level = Level.NONE
    box: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None


def enclosure(name: str, view: View, context: Context) -> Enclosure:
    """
    What holds for the program *name*, which is to see *view*.

    Raises:
        ExecutionFailed: the host wants a stronger sandbox than it has, reason `sandbox_unavailable`.
    """
    sandbox = context.sandbox
    level = sandbox.level_of(name)
    if sandbox.refuses(name):
        raise ExecutionFailed(f"programs run in bubblewrap here or not at all: {sandbox.why}", reason=UNAVAILABLE)
    if level is Level.NONE:
        return Enclosure()
    try:
        box = tuple(words(view, sandbox, context.state / "sandbox")) if level is Level.BUBBLEWRAP else None
    except NoBubblewrap as error:
        raise ExecutionFailed(str(error), reason=UNAVAILABLE) from error
    return Enclosure(level, box, sandbox.memory_bytes, sandbox.processes, sandbox.disk_bytes)


def files_among(command: Iterable[str]) -> dict[Path, Path]:
    """The files that the words of *command* name by their full paths: its owner wants them to be read."""
    paths = (Path(word) for word in command if word.startswith("/") and "\0" not in word)
    return {path: path for path in paths if _is_file(path)}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
