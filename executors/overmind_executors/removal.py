"""Folders of jobs are removed, however deep a program has made them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_LEVELS: Final = 100
_MOST_S: Final = 60.0


def remove(folder: Path) -> None:
    """
    Remove *folder* and all in it, no link followed, as far as that goes; it need not be there.

    Folders that their owner has shut are opened: a job may have done that, and we are the same user.
    """
    if not _opened_and_deep(folder):
        shutil.rmtree(folder, ignore_errors=True)  # takes a call and a descriptor for each level
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["/bin/rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, timeout=_MOST_S, check=False)


def _opened_and_deep(folder: Path) -> bool:
    """Open what can be opened; whether it goes deeper than a stack of ours."""
    waiting = [(str(folder), 0)]
    while waiting:
        place, level = waiting.pop()
        if level > _MOST_LEVELS or len(os.fsencode(place)) > os.pathconf("/", "PC_PATH_MAX") - 256:
            return True
        with suppress(OSError):
            if os.lstat(place).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                Path(place).chmod(stat.S_IRWXU)
            with os.scandir(place) as found:
                waiting += [(entry.path, level + 1) for entry in found if entry.is_dir(follow_symlinks=False)]
    return False
