"""The state folder, which belongs to one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overmind_agent.errors import ConfigError, JournalError, StateInUse

MOUNTS: Final = Path("/proc/self/mountinfo")
# What a journal on such a file system cannot promise; words for the log.
_FORGETS: Final = "a reboot forgets jobs and results"
_SHARED: Final = "its locks and memory hold on one host alone, and its server may forget; name a folder on a disk"
_DOUBTS: Final = {
    **dict.fromkeys(("tmpfs", "ramfs"), _FORGETS),
    **dict.fromkeys(("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "glusterfs", "fuse.sshfs"), _SHARED),
}


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


@dataclass(frozen=True)
class Doubt:
    """Why the file system of a state folder, of *kind*, may lose it; *hint* is for the log."""

    kind: str
    hint: str


def doubt_about(state: Path, mounts: Path = MOUNTS) -> Doubt | None:
    """Why what is in *state* may not last: a reboot or another host takes it away; None where it cannot be told."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return None
    # The fifth word is where it is mounted, the one after the lone dash its kind; the last mount there counts.
    kinds = {Path(words[4]): words[words.index("-") + 1] for words in lines}
    here = state.resolve()
    kind = next((kinds[folder] for folder in (here, *here.parents) if folder in kinds), "")
    return Doubt(kind, _DOUBTS[kind]) if kind in _DOUBTS else None
