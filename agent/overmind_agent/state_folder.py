"""The state folder, which belongs to one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from overmind_agent.errors import ConfigError, JournalError, StateInUse

MOUNTS: Final = Path("/proc/self/mountinfo")
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@contextmanager
def owning(state: Path) -> Iterator[None]:
    """
    The state folder, for this process alone.

    Raises:
        ConfigError: it belongs to somebody else, or its file system cannot write through to a disk.
        JournalError: it cannot be used.
        StateInUse: another process has it.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        _must_be_ours(state)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"the state folder {state} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _must_sync(state, lock)
        yield
    except BlockingIOError as error:
        raise StateInUse(f"another overmind-agent works on {state}; give each its own agent.state_dir") from error
    finally:
        os.close(lock)


def _must_be_ours(state: Path) -> None:
    """What root wrote into the service's folder, the service could not read at its next start."""
    owner, we = state.stat().st_uid, os.geteuid()
    if owner != we:
        raise ConfigError(
            f"agent.state_dir {state} belongs to user {owner}, and this process is user {we}; start it as {owner}, "
            f"or give it a folder of its own"
        )


def _must_sync(state: Path, descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise ConfigError(
            f"agent.state_dir {state}: its file system cannot write through to a disk ({error.strerror}), so "
            "nothing would survive a power cut; name a folder on another one"
        ) from error


def is_in_memory(state: Path, mounts: Path = MOUNTS) -> bool:
    """Whether *state* is on a file system that a reboot empties; False where that cannot be told."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    # The fifth word is where it is mounted, the one after the lone dash its kind; the last mount there counts.
    kinds = {Path(words[4]): words[words.index("-") + 1] for words in lines}
    here = state.resolve()
    return next((kinds[folder] in _IN_MEMORY for folder in (here, *here.parents) if folder in kinds), False)
