"""
What a program and all that it started take at this moment: processes, memory, disk.

Counted from outside, through /proc, so it needs no privilege and no cgroup. It says which limit was met; what must
hold at any moment, such as the number of processes, is the kernel's to keep.

Source:
    proc(5): /proc/PID/task/TID/children, /proc/PID/status, /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Pages that no file is behind, kB: quick to read, and counted once for each process that shares them.
_QUICK: Final = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
# The same with each page shared out among those that have it: exact, and slow.
_EXACT: Final = re.compile(rb"^Pss_(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
_MOST_ENTRIES: Final = 100_000


@dataclass(frozen=True)
class Census:
    """Threads count as processes do; the kernel's limit counts them, too."""

    processes: int
    memory_bytes: int


def count(root: int, *, most_processes: int, most_bytes: int) -> Census:
    """
    What the process *root* and its descendants take; counting ends soon after *most_processes*.

    A process that ends meanwhile counts as nothing.
    """
    tree, threads = [], 0
    for pid, tasks in _tree(root):
        tree.append(pid)
        threads += tasks
        if threads > most_processes:
            break
    memory = sum(_kilobytes(f"/proc/{pid}/status", _QUICK) for pid in tree) << 10
    if memory > most_bytes:
        # A process may keep us from looking closely; then what it shares is counted as its own.
        closely = {pid: _kilobytes(f"/proc/{pid}/smaps_rollup", _EXACT) for pid in tree}
        memory = sum(found or _kilobytes(f"/proc/{pid}/status", _QUICK) for pid, found in closely.items()) << 10
    return Census(threads, memory)


def folder_bytes(folder: Path, *, most: int) -> int:
    """
    The room that is taken by all that lies in *folder*, no link followed; looking ends at more than *most*.

    An entry without content takes room as well: each counts as one block at least.
    """
    taken, entries, waiting = 0, 0, [str(folder)]
    while waiting and taken <= most and entries < _MOST_ENTRIES:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                entries += 1
                with suppress(OSError):
                    taken += max(512, entry.stat(follow_symlinks=False).st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return taken if entries < _MOST_ENTRIES else most + 1


def _tree(root: int) -> Iterator[tuple[int, int]]:
    """*root* and its descendants, each with the number of its threads."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            continue
        for task in tasks:
            with suppress(OSError):
                waiting += map(int, (task / "children").read_bytes().split())
        yield pid, len(tasks)


def _kilobytes(path: str, wanted: re.Pattern[bytes]) -> int:
    try:
        return sum(map(int, wanted.findall(Path(path).read_bytes())))
    except OSError:
        return 0
