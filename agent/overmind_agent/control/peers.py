"""
Who may speak to the daemon through its socket: its own user and root, but no process of a job.

A job runs as the agent's user, so the mode of the socket does not keep it out. Its processes are told by descent:
the daemon is a sub-reaper, so whatever a job starts, however often it forks and whatever session it makes, has the
daemon among its ancestors until it ends. What this does not do: a job that nothing confines may still send the
daemon a signal or write into its state folder, as any process of the same user may. See docs/commands.md.

Source:
    unix(7): SO_PEERCRED tells pid and uid of whoever called connect(2), as they were then; a pid of 0 is a process
    that this PID namespace does not show. prctl(2): PR_SET_CHILD_SUBREAPER. proc(5): the fourth field of `stat`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = 0
OUTSIDE: Final = 0  # the pid of a process that our namespace does not show
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_MOST_ANCESTORS: Final = 4096


@dataclass(frozen=True)
class Peer:
    """The other end of a connection, at the moment at which it was made."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Who has made *connection*. Raises OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)


def parent_of(pid: int) -> int | None:
    """The parent of *pid*, None when it cannot be told: it has ended, or is hidden from us."""
    try:
        # The command's name may hold anything, brackets too.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def refusal(
    peer: Peer, *, own_uid: int, own_pid: int, parent_of: Callable[[int], int | None] = parent_of
) -> str | None:
    """Why *peer* is not listened to, None when it is. What cannot be told is refused, but for root."""
    if peer.uid not in (ROOT, own_uid):
        return f"user {peer.uid} may not; ask as user {own_uid} or as root"
    if peer.pid == OUTSIDE or peer.uid != own_uid:  # our jobs are our user's, and live where we see them
        return None
    pid: int | None = peer.pid
    for _ in range(_MOST_ANCESTORS):
        if pid == own_pid:
            return "a job may not speak to the agent that runs it"
        if pid is None:
            return f"it cannot be told whether process {peer.pid} belongs to a job; ask as root"
        if pid <= 1:
            return None
        pid = parent_of(pid)
    return f"process {peer.pid} has too many ancestors"


def not_from_a_job(peer: Peer) -> str | None:
    """`refusal` for this process, which is the daemon."""
    return refusal(peer, own_uid=os.geteuid(), own_pid=os.getpid())
