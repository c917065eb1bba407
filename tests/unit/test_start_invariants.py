"""What must be so before the daemon begins: each message has both numbers, and what to do."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from overmind_agent import heartbeat, http_client
from overmind_agent.errors import ConfigError
from overmind_agent.state_folder import is_in_memory, owning
from overmind_config.settings import LEASE_S

MOUNTED = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:21 / /run rw shared:2 - tmpfs tmpfs rw
24 23 0:22 / /run/disk rw - xfs /dev/sdb rw
25 22 0:23 / /var/lib/agent rw - ext4 /dev/sdc rw
26 22 0:24 / /var/lib/agent rw - tmpfs tmpfs rw
"""


def test_a_heartbeat_that_nobody_answers_has_ended_by_a_third_of_the_lease() -> None:
    assert heartbeat.MOST_HELD_S + http_client.HEARTBEAT.total_s <= LEASE_S / 3


@pytest.mark.parametrize(
    ("folder", "is_so"),
    [("/var/lib/other", False), ("/run/agent", True), ("/run/disk/agent", False), ("/var/lib/agent/state", True)],
)
def test_a_state_folder_that_a_reboot_empties_is_known(tmp_path: Path, folder: str, is_so: bool) -> None:
    """The innermost mount counts, and of two at one place the later one."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTED)

    assert is_so is is_in_memory(Path(folder), mounts)
    assert not is_in_memory(Path(folder), tmp_path / "missing")


def test_a_state_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Both ways round: a link to a folder of the system's, and for root one that is given away."""
    state = tmp_path / "state"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, 12345, 12345)
        owner = 12345
    else:
        state.rmdir()
        state.symlink_to("/")
        owner = 0

    said = f"belongs to user {owner}, and this process is user {os.geteuid()}"
    with pytest.raises(ConfigError, match=said), owning(state):
        pass


def test_a_state_folder_is_free_again_after_a_refusal(tmp_path: Path) -> None:
    with owning(tmp_path / "state"):
        pass

    with (tmp_path / "state" / "lock").open("r") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
