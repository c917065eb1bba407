"""How far a host shuts in the programs of jobs: plain values, which the agent sends and executors read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Level(StrEnum):
    """
    From the weakest to the strongest.

    Attributes:
        NONE: a process and a folder of its own, a time limit, a largest file.
        LIMITS: besides, limits on memory, processes and disk. A wall against accidents, not against intent.
        BUBBLEWRAP: besides, a view of the machine of its own: no network, no home, nothing of the agent's.
    """

    NONE = "none"
    LIMITS = "limits"
    BUBBLEWRAP = "bubblewrap"


@dataclass(frozen=True)
class Sandbox:
    """
    What a host has decided about the programs that jobs run on it.

    Attributes:
        level: what every program runs at that `exempt` does not name.
        why: why it is no stronger one, empty where nothing stands in the way.
        is_required: whether a program runs at the strongest level or not at all.
        reads: folders and files that programs may read besides the system, our interpreter and their own code.
        exempt: names of commands and functions that run with limits alone; their owner knows why.
        memory_bytes: of a program with all that it starts.
        processes: of a program with all that it starts, threads counted.
        disk_bytes: of what a program writes into folders of its own.
    """

    level: Level = Level.NONE
    why: str = ""
    is_required: bool = False
    reads: tuple[Path, ...] = ()
    exempt: frozenset[str] = frozenset()
    memory_bytes: int = 4 << 30
    processes: int = 256
    disk_bytes: int = 256 << 20

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the order of a job's process."""
        paths, names = [str(path) for path in self.reads], sorted(self.exempt)
        return {**asdict(self), "level": self.level.value, "reads": paths, "exempt": names}

    def refuses(self, name: str) -> bool:
        """Whether the program of that name may not run here, for the reason that `why` has."""
        return self.is_required and self.level is not Level.BUBBLEWRAP and name not in self.exempt

    def level_of(self, name: str) -> Level:
        """What the command or function of that name runs at."""
        return min(self.level, Level.LIMITS, key=list(Level).index) if name in self.exempt else self.level
