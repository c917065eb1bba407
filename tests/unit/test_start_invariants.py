"""What must be so before the daemon begins: each message has both numbers, and what to do."""

from __future__ import annotations

import fcntl
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from overmind_agent import heartbeat
from overmind_agent.errors import ConfigError
from overmind_agent.held_jobs import MARGIN_S
from overmind_agent.host import room
from overmind_agent.host.disk import RESERVE_BYTES
from overmind_agent.host.state_folder import doubt_about, owning
from overmind_agent.host.time_limits import TimeLimits
from overmind_agent.journal.journal import WAITING_BYTES
from overmind_agent.over_http import calls as http_calls
from overmind_agent.over_http import client, downloads, extensions, plain, presence, uploads
from overmind_agent.over_http.pause import Pause
from overmind_agent.over_http.refusals import Verb
from overmind_agent.supervisor import check_watchdog
from overmind_agent.testing import VirtualClock
from overmind_config.settings import LEASE_S, Agent, ControlPlane, Policy, Settings

MOUNTED = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:21 / /run rw shared:2 - tmpfs tmpfs rw
24 23 0:22 / /run/disk rw - xfs /dev/sdb rw
25 22 0:23 / /var/lib/agent rw - ext4 /dev/sdc rw
26 22 0:24 / /var/lib/agent rw - tmpfs tmpfs rw
27 22 0:25 / /home/agent rw - nfs4 server:/home rw
"""


def test_a_heartbeat_that_nobody_answers_has_ended_by_a_third_of_the_lease() -> None:
    assert heartbeat.MOST_HELD_S + presence.HEARTBEAT.total_s <= LEASE_S / 3


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/other", None),
        ("/run/agent", "tmpfs"),
        ("/run/disk/agent", None),
        ("/var/lib/agent/state", "tmpfs"),
        ("/home/agent/state", "nfs4"),
    ],
)
def test_a_state_folder_that_a_reboot_or_another_host_takes_away_is_known(
    tmp_path: Path, folder: str, kind: str | None
) -> None:
    """The innermost mount counts, and of two at one place the later one."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTED)

    found = doubt_about(Path(folder), mounts)

    assert kind == (found.kind if found else None)
    assert doubt_about(Path(folder), tmp_path / "missing") is None


GIB = 1 << 30


@pytest.mark.parametrize(
    ("settings", "most_bytes"),
    [
        (Settings(), 0),
        (Settings(agent=Agent(slots=3), policy=Policy(max_input_bytes=GIB, max_result_bytes=2 * GIB)), 9 * GIB),
        (Settings(agent=Agent(slots=3), policy=Policy(max_result_bytes=GIB)), 3 * GIB),
        (Settings(control_plane=ControlPlane(adapter="overmind-lab"), agent=Agent(results_max_bytes=GIB)), GIB),
    ],
    ids=["no limits", "input and result", "results alone", "results that stay"],
)
def test_what_the_settings_let_jobs_take_is_added_up(settings: Settings, most_bytes: int) -> None:
    assert WAITING_BYTES + RESERVE_BYTES + most_bytes == room.wanted_bytes(settings)


def test_a_disk_that_is_too_small_for_the_limits_is_said_with_both_numbers(tmp_path: Path) -> None:
    wanted = Settings(policy=Policy(max_result_bytes=1 << 60))

    assert room.too_little(tmp_path, Settings()) is None
    assert f"take {room.wanted_bytes(wanted):,} bytes, and " in str(room.too_little(tmp_path, wanted))


@pytest.mark.parametrize(("watchdog_s", "is_refused"), [(None, False), (60.0, False), (20.0, False), (19.9, True)])
def test_a_watchdog_that_a_busy_host_would_set_off_is_refused(
    watchdog_s: float | None, *, is_refused: bool
) -> None:
    with pytest.raises(ConfigError, match="at least 20") if is_refused else nullcontext():
        check_watchdog(watchdog_s)


@pytest.mark.parametrize("wait_s", [0.25, 1.0, 2.5, 5.0, 10.0])
def test_a_heartbeat_that_nobody_answers_leaves_the_next_one_its_turn(wait_s: float) -> None:
    """With what a connection needs as the least."""
    assert presence.beat_s(wait_s) <= max(presence.LEAST_BEAT_S, 0.8 * wait_s)


def test_every_call_outlasts_a_connection_and_is_outlasted_by_what_it_belongs_to() -> None:
    """Connecting, then one stalled read, then one file, then the job that it is of."""
    rooms = (client, downloads, extensions, plain, presence, uploads)
    verbs = {
        f"{room.__name__}.{name}": verb
        for room in rooms
        for name, verb in vars(room).items()
        if isinstance(verb, Verb) and name != "LEAVE"
    }

    short = [name for name, verb in verbs.items() if verb.total_s <= http_calls.CONNECT_S]
    limits = TimeLimits()

    assert len(verbs) >= 15
    assert [] == short
    assert http_calls.CONNECT_S < http_calls.STALL_S < limits.uploading_s < limits.running_s


def test_a_server_that_asks_for_patience_ends_no_lease() -> None:
    """However long it asks for: what keeps a lease has a patience of its own, and a beat's time after it."""
    clock = VirtualClock()
    pause = Pause(clock, most_s=heartbeat.PATIENCE_S)
    pause.ask(300)

    assert pause.left_s() + heartbeat.MOST_HELD_S + presence.HEARTBEAT.total_s < LEASE_S - MARGIN_S


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
