"""The systemd unit, asked of systemd itself; no service manager has to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from overmind_config.load import load
from overmind_config.settings import Settings

ROOT: Final = Path(__file__).parents[2]
UNIT: Final = ROOT / "systemd" / "overmind-agent.service"
ENOUGH: Final = {"OVERMIND_API_URL": "https://overmind.example", "OVERMIND_API_KEY": "ovr_test"}


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing; on Debian: apt-get install systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def _values(name: str) -> list[str]:
    """What the unit says under *name*, line by line."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it is on a host where its command exists."""
    command = _values("ExecStart")[0].split()[0]
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(command, "/bin/true"), encoding="utf-8")
    return unit


def test_systemd_has_nothing_to_say_about_the_unit(installed: Path) -> None:
    done = _analyze("verify", "--man=no", str(installed))

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_systemd_would_speak_of_a_mistake(installed: Path) -> None:
    """So that its silence means something."""
    installed.write_text(installed.read_text(encoding="utf-8") + "\n[Service]\nNoSuchThing=1\n", encoding="utf-8")

    assert "NoSuchThing" in _analyze("verify", "--man=no", str(installed)).stderr


def test_the_service_is_exposed_as_little_as_the_best(installed: Path) -> None:
    """At most 1.5 of 10; the score is a list of checks, not a proof."""
    done = _analyze("security", "--offline=true", "--threshold=15", str(installed))

    assert 0 == done.returncode, done.stdout[-500:]


def test_an_open_service_would_be_over_the_limit(tmp_path: Path) -> None:
    unit = tmp_path / "open.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")

    assert 0 != _analyze("security", "--offline=true", "--threshold=15", str(unit)).returncode


def test_the_unit_waits_as_long_as_the_settings_say() -> None:
    assert [f"{Settings.model_validate({}).agent.stop_timeout_s:g}"] == _values("TimeoutStopSec")


def test_the_units_watchdog_bears_the_usual_poll() -> None:
    (watchdog_s,) = _values("WatchdogSec")

    assert load(environ=ENOUGH | {"WATCHDOG_USEC": f"{int(watchdog_s) * 1_000_000}"}).settings


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    assert ["64 73 77 78"] == _values("RestartPreventExitStatus")
    assert ["on-failure"] == _values("Restart")


def test_the_user_of_the_unit_is_the_one_that_is_made(tmp_path: Path) -> None:
    """`systemd-sysusers` makes it, for real, under a root of its own."""
    program = shutil.which("systemd-sysusers")
    assert program, "systemd-sysusers is missing; on Debian: apt-get install systemd"
    (tmp_path / "etc").mkdir()

    subprocess.run(
        [program, f"--root={tmp_path}", str(ROOT / "systemd" / "overmind-agent.sysusers.conf")],
        check=True,
        capture_output=True,
        timeout=60,
    )

    users = [line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text(encoding="utf-8").splitlines()]
    assert _values("User") == users
