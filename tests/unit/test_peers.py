"""Who may speak to the daemon through its socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from overmind_agent.control.peers import Peer, parent_of, peer_of, refusal

AGENT, US, ROOT, OTHER = 100, 1000, 0, 1001
# The agent (100) has a nursery (110), a job (120) and its grandchild (122); a shell (50) is at a terminal.
PARENTS = {50: 1, 51: 50, 100: 1, 110: 100, 120: 100, 121: 120, 122: 121, 200: 300}
JOB = "a job may not speak to the agent that runs it"
HIDDEN = "it cannot be told whether process {} belongs to a job; ask as root"
CASES: dict[str, tuple[Peer, int, str | None]] = {
    "our user at a terminal": (Peer(51, US), US, None),
    "root at a terminal": (Peer(51, ROOT), US, None),
    "root, of whom nothing is shown": (Peer(999, ROOT), US, None),
    "from outside of our container": (Peer(0, US), US, None),
    "another user": (Peer(51, OTHER), US, "user 1001 may not; ask as user 1000 or as root"),
    "a job": (Peer(120, US), US, JOB),
    "a job's grandchild": (Peer(122, US), US, JOB),
    "the nursery": (Peer(110, US), US, JOB),
    "the agent itself": (Peer(100, US), US, JOB),
    "a job of an agent that is root": (Peer(122, ROOT), ROOT, JOB),
    "root beside an agent that is root": (Peer(51, ROOT), ROOT, None),
    "a process that has ended": (Peer(999, US), US, HIDDEN.format(999)),
    "a process whose parent is hidden": (Peer(200, US), US, HIDDEN.format(200)),
}


@pytest.mark.parametrize("who", CASES)
def test_who_is_listened_to(who: str) -> None:
    peer, own_uid, expected = CASES[who]

    assert expected == refusal(peer, own_uid=own_uid, own_pid=AGENT, parent_of=PARENTS.get)


def test_a_circle_of_ancestors_has_an_end() -> None:
    circle = {7: 8, 8: 7}

    assert "process 7 has too many ancestors" == refusal(
        Peer(7, US), own_uid=US, own_pid=AGENT, parent_of=circle.get
    )


def test_a_name_with_brackets_hides_nobody() -> None:
    """The kernel puts the name of a command into `stat` as it is."""
    script = "open('/proc/self/comm', 'w').write('a) R 1 (b'); print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdout.readline()

        assert os.getpid() == parent_of(child.pid)
    finally:
        child.kill()
        child.stdin.close()
        child.stdout.close()
        child.wait()
    assert None is parent_of(child.pid)


def test_the_kernel_says_who_has_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert Peer(os.getpid(), os.geteuid()) == peer_of(ours)
