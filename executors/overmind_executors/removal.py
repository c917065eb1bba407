"""Folders of jobs are removed, however deep a program has made them."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_LEVELS: Final = 100
_MOST_S: Final = 60.0


def remove(folder: Path) -> None:
    """Remove *folder* and all in it, no link followed, as far as that goes; it need not be there."""
    if not _is_deep(folder):
        shutil.rmtree(folder, ignore_errors=True)  # takes a call and a descriptor for each level
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["/bin/rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, timeout=_MOST_S, check=False)


def _is_deep(folder: Path) -> bool:
    waiting = [(str(folder), 0)]
    while waiting:
        place, level = waiting.pop()
        if level > _MOST_LEVELS or len(os.fsencode(place)) > os.pathconf("/", "PC_PATH_MAX") - 256:
            return True
        with suppress(OSError), os.scandir(place) as found:
            waiting += [(entry.path, level + 1) for entry in found if entry.is_dir(follow_symlinks=False)]
    return False
