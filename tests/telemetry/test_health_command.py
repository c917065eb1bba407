"""`overmind-agent health`: what it says of each state of a daemon, how fast, and that it finds the right folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from overmind_agent.contact import Contact
from overmind_agent.loops import Pulses
from overmind_agent.telemetry.health import Health, Report
from overmind_agent.telemetry.health_file import NAME, SIZE_BYTES, HealthFile, read
from overmind_agent.testing import VirtualClock
from overmind_config.load import load
from overmind_config.state_place import state_dir

REPORT = Report(live=True, ready=True, reasons=(), jobs=0, pid=os.getpid(), version="1")


def a_daemon() -> Health:
    """One that was not answered yet."""
    clock = VirtualClock()
    return Health(pulses=Pulses(), jobs=lambda: 0, contact=Contact(clock), away_after_s=1, clock=clock)


def _health(*arguments: str, **environment: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("overmind-agent")), "health", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_of_a_daemon_that_lives_it_says_so(tmp_path: Path) -> None:
    HealthFile(tmp_path).write(REPORT)

    code, said = _health("--state-dir", str(tmp_path))

    assert 0 == code
    wanted = {"live": True, "ready": True, "reasons": [], "jobs": 0, "pid": os.getpid(), "version": "1"}
    assert wanted == said


def test_a_daemon_that_is_not_ready_lives_all_the_same(tmp_path: Path) -> None:
    daemon = a_daemon()
    HealthFile(tmp_path).write(daemon.report())

    lives, takes_jobs = _health("--state-dir", str(tmp_path)), _health("--state-dir", str(tmp_path), "--ready")

    assert (0, 1) == (lives[0], takes_jobs[0])
    assert "starting" in str(takes_jobs[1]["reasons"])


def test_it_brings_in_nothing_that_takes_time(tmp_path: Path) -> None:
    """A container engine starts it every half minute."""
    HealthFile(tmp_path).write(REPORT)
    asking = "import sys; from overmind_agent import cli; cli.main(['health', '--state-dir', sys.argv[1]]); "
    slow = "pydantic", "structlog", "requests", "rich", "apscheduler", "sqlite3", "prometheus_client", "socket"

    done = subprocess.run(
        [sys.executable, "-c", f"{asking}print([name for name in {slow} if name in sys.modules])", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "[]" == done.stdout.splitlines()[-1]


def _code(state: Path) -> str:
    found = read(state)
    assert (False, False) == (found["live"], found["ready"])
    return str(found["reasons"][0]["code"])


def test_without_a_daemon_nothing_lives(tmp_path: Path) -> None:
    assert "not_running" == _code(tmp_path)


def test_a_daemon_that_ended_in_order_leaves_nothing(tmp_path: Path) -> None:
    file = HealthFile(tmp_path)
    file.write(REPORT)

    file.close()

    assert [] == list(tmp_path.iterdir())


def test_a_daemon_that_was_killed_is_not_live(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    HealthFile(tmp_path).write(Report(True, True, (), 0, gone.pid, "1"))

    assert "not_running" == _code(tmp_path)


def test_a_daemon_that_is_frozen_is_not_live(tmp_path: Path) -> None:
    """The report of a process that is there and says nothing."""
    HealthFile(tmp_path).write(Report(True, True, (), 0, os.getpid(), "1", good_for_s=-1.0))

    assert "report_old" == _code(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"pid": "x"}', b"\xff" * 100, b"null", b"\0" * 4096]
)
def test_a_file_that_is_no_report_is_no_sign_of_life(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)

    assert "not_running" == _code(tmp_path)


def test_a_report_of_another_boot_is_no_sign_of_life(tmp_path: Path) -> None:
    HealthFile(tmp_path).write(REPORT)
    path = tmp_path / NAME
    path.write_text(path.read_text().replace('"boot_id": "', '"boot_id": "other-'))

    assert "not_running" == _code(tmp_path)


def test_the_file_never_grows_however_much_there_is_to_say(tmp_path: Path) -> None:
    daemon = a_daemon()
    for code in range(100):
        daemon.ask(f"reason_{code}", lambda: "x" * 100)

    HealthFile(tmp_path).write(daemon.report())

    assert SIZE_BYTES == (tmp_path / NAME).stat().st_size
    assert 20 == len(read(tmp_path)["reasons"])


# ------------------------------------------------------------------------------------ where it looks


@pytest.mark.parametrize(
    ("flag", "environ", "file"),
    [
        (None, {}, ""),
        ("/flag", {"OVERMIND_AGENT_AGENT__STATE_DIR": "/variable"}, '[agent]\nstate_dir = "/file"'),
        (None, {"OVERMIND_AGENT_AGENT__STATE_DIR": "/variable"}, '[agent]\nstate_dir = "/file"'),
        (None, {"OVERMIND_AGENT_AGENT__STATE_DIR": ""}, '[agent]\nstate_dir = "/file"'),
        (None, {"STATE_DIRECTORY": "/a:/b"}, '[agent]\nstate_dir = "beside"'),
        (None, {"STATE_DIRECTORY": "/a:/b"}, ""),
        (None, {}, '[agent]\nstate_dir = "~/mine"'),
        ("relative", {}, ""),
    ],
)
def test_it_finds_the_folder_that_the_daemon_takes(
    tmp_path: Path, flag: str | None, environ: dict[str, str], file: str
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(file)

    loaded = load({"agent.state_dir": flag}, config=config, environ=environ, needs_control_plane=False)

    assert loaded.settings.agent.state_dir == state_dir(flag, config, environ)


def test_a_file_that_cannot_be_read_leaves_the_default(tmp_path: Path) -> None:
    broken = tmp_path / "agent.toml"
    broken.write_text("[agent\n")

    assert Path("/a") == state_dir(None, broken, {"STATE_DIRECTORY": "/a"})
    assert Path("/a") == state_dir(None, tmp_path / "none", {"STATE_DIRECTORY": "/a"})


# ------------------------------------------------------------------------------------ a real daemon


def test_a_real_daemon_is_live_while_it_turns_and_not_when_it_was_killed(tmp_path: Path) -> None:
    """With the server away: live, not ready, and says so; the port is one that nobody listens on."""
    state = tmp_path / "state"
    environment = {
        "PATH": os.environ["PATH"],
        "OVERMIND_API_URL": "http://127.0.0.1:9",
        "OVERMIND_API_KEY": "ovr_made_up_for_this_test",
        "OVERMIND_AGENT_AGENT__STATE_DIR": str(state),
    }
    command = str(Path(sys.executable).with_name("overmind-agent"))
    daemon = subprocess.Popen([command, "run"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert daemon.stdout is not None
        assert "control_plane.retry_scheduled" in daemon.stdout.readline()
        alive = read(state)
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        if daemon.stdout is not None:
            daemon.stdout.close()

    assert (True, False) == (alive["live"], alive["ready"])
    assert ["starting"] == [reason["code"] for reason in alive["reasons"]]
    assert "not_running" == _code(state)


def test_a_file_that_cannot_be_removed_is_no_bug(tmp_path: Path) -> None:
    """The daemon has done its work by then, and its exit code says so; what is left says that nothing lives."""
    file = HealthFile(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()

    file.close()

    assert not read(tmp_path)["live"]
