"""The state folder, which belongs to one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overmind_agent.errors import JournalError, StateInUse


@contextmanager
def owning(state: Path) -> Iterator[None]:
    """The state folder, for this process alone."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"the state folder {state} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StateInUse(f"another overmind-agent works on {state}; give each its own agent.state_dir") from error
    finally:
        os.close(lock)
