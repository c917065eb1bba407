"""The systemd units, asked of systemd itself; no service manager has to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from overmind_agent.command_line import exit_codes
from overmind_config.load import load
from overmind_config.settings import Settings

ROOT: Final = Path(__file__).parents[2]
SYSTEMD: Final = ROOT / "systemd"
UNIT: Final = SYSTEMD / "overmind-agent.service"
INSTANCE: Final = SYSTEMD / "overmind-agent@.service"
CONTROL_PLANE: Final = SYSTEMD / "overmind-control-plane.service"
ENOUGH: Final = {"OVERMIND_API_URL": "https://overmind.example", "OVERMIND_API_KEY": "ovr_test"}

# A unit as a host may have it, with its drop-ins, and its highest score by `systemd-analyze security`, in tenths.
HOSTS: Final = {
    "agent": (UNIT, (), 15),
    "one of several agents": (INSTANCE, (), 15),
    "control plane": (CONTROL_PLANE, (), 15),
    "agent with a GPU": (UNIT, ("gpu",), 15),
    # Namespaces, mounts and an open /proc are what bubblewrap is made of: the jobs' programs get none of it.
    "agent with a sandbox": (UNIT, ("sandbox",), 30),
}


def _program(name: str) -> str:
    program = shutil.which(name)
    assert program, f"{name} is missing; on Debian: apt-get install systemd"
    return program


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_program("systemd-analyze"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _values(name: str, unit: Path = UNIT) -> list[str]:
    """What *unit* says under *name*, line by line."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def _installed(folder: Path, unit: Path, *drop_ins: str) -> Path:
    """*unit* as it is on a host where its command exists; an instance is called `one`."""
    command = _values("ExecStart", unit)[0].split()[0]
    made = folder / unit.name.replace("@", "@one")
    made.write_text(unit.read_text(encoding="utf-8").replace(command, "/bin/true"), encoding="utf-8")
    for drop_in in drop_ins:
        beside = folder / f"{made.name}.d"
        beside.mkdir(exist_ok=True)
        shutil.copy(SYSTEMD / "drop-ins" / f"{drop_in}.conf", beside)
    return made


@pytest.mark.parametrize("host", HOSTS)
def test_systemd_has_nothing_to_say_about_the_unit(host: str, tmp_path: Path) -> None:
    unit, drop_ins, _ = HOSTS[host]

    done = _analyze("verify", "--man=no", str(_installed(tmp_path, unit, *drop_ins)))

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_systemd_would_speak_of_a_mistake(tmp_path: Path) -> None:
    """So that its silence means something, for a drop-in as well."""
    installed = _installed(tmp_path, UNIT, "gpu")
    (tmp_path / f"{UNIT.name}.d" / "gpu.conf").write_text("[Service]\nNoSuchThing=1\n", encoding="utf-8")

    assert "NoSuchThing" in _analyze("verify", "--man=no", str(installed)).stderr


@pytest.mark.parametrize("host", HOSTS)
def test_the_service_is_exposed_as_little_as_the_best(host: str, tmp_path: Path) -> None:
    """The score is a list of checks, not a proof."""
    unit, drop_ins, at_most = HOSTS[host]

    done = _analyze("security", "--offline=true", f"--threshold={at_most}", str(_whole(tmp_path, unit, *drop_ins)))

    assert 0 == done.returncode, done.stdout[-500:]


def _whole(folder: Path, unit: Path, *drop_ins: str) -> Path:
    """One file, since `security --offline` reads no drop-ins."""
    made = _installed(folder, unit)
    parts = [made, *(SYSTEMD / "drop-ins" / f"{name}.conf" for name in drop_ins)]
    made.write_text("\n".join(part.read_text(encoding="utf-8") for part in parts), encoding="utf-8")
    return made


def test_an_open_service_would_be_over_the_limit(tmp_path: Path) -> None:
    unit = tmp_path / "open.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")

    assert 0 != _analyze("security", "--offline=true", "--threshold=30", str(unit)).returncode


def test_the_unit_waits_as_long_as_the_settings_say() -> None:
    assert [f"{Settings.model_validate({}).agent.stop_timeout_s:g}"] == _values("TimeoutStopSec")


def test_the_units_watchdog_bears_the_usual_poll() -> None:
    (watchdog_s,) = _values("WatchdogSec")

    assert load(environ=ENOUGH | {"WATCHDOG_USEC": f"{int(watchdog_s) * 1_000_000}"}).settings


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    hopeless = [exit_codes.USAGE, exit_codes.CANT_CREATE, exit_codes.NO_PERMISSION, exit_codes.CONFIG]

    assert [" ".join(map(str, hopeless))] == _values("RestartPreventExitStatus")
    assert [f"{exit_codes.USAGE} {exit_codes.CONFIG}"] == _values("RestartPreventExitStatus", CONTROL_PLANE)
    assert ["on-failure"] * 2 == _values("Restart") + _values("Restart", CONTROL_PLANE)


def test_one_of_several_agents_differs_from_the_only_one_in_what_names_it() -> None:
    """Two files, since systemd knows no other way; one of them would be forgotten."""
    one, several = (
        [line for line in unit.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for unit in (UNIT, INSTANCE)
    )

    assert [line for line in one if line not in several] == [
        "Description=Overmind agent: pulls jobs and runs them on this host",
        "ExecStart=/opt/overmind-agent/bin/overmind-agent run",
        "LoadCredential=token:/etc/overmind-agent/token",
        "StateDirectory=overmind-agent",
    ]
    assert [line for line in several if line not in one] == [
        "Description=Overmind agent %i: pulls jobs and runs them on this host",
        "ExecStart=/opt/overmind-agent/bin/overmind-agent run --config /etc/overmind-agent/%i.toml",
        "LoadCredential=token:/etc/overmind-agent/%i.token",
        "StateDirectory=overmind-agents/%i",
        "Environment=OVERMIND_AGENT_AGENT__STATE_DIR=%S/overmind-agents/%i",
    ]


@pytest.mark.parametrize("unit", [UNIT, CONTROL_PLANE], ids=lambda unit: unit.stem)
def test_the_user_of_the_unit_is_the_one_that_is_made(unit: Path, tmp_path: Path) -> None:
    """`systemd-sysusers` makes it, for real, under a root of its own."""
    (tmp_path / "etc").mkdir()
    told = SYSTEMD / f"{unit.stem}.sysusers.conf"

    _run(_program("systemd-sysusers"), f"--root={tmp_path}", str(told))

    users = [line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text(encoding="utf-8").splitlines()]
    assert _values("User", unit) == users


def test_at_every_boot_secrets_are_shut(tmp_path: Path) -> None:
    """`systemd-tmpfiles` does it, for real, under a root of its own."""
    secrets = ("token", "reviews.token", "fast.key")
    folder = tmp_path / "etc" / "overmind-agent"
    folder.mkdir(parents=True)
    for name in (*secrets, "agent.toml"):
        (folder / name).touch(mode=0o644)

    as_root = ("unshare", "--user", "--map-root-user")
    told = SYSTEMD / "overmind-agent.tmpfiles.conf"
    _run(*as_root, _program("systemd-tmpfiles"), "--create", f"--root={tmp_path}", str(told))

    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {**dict.fromkeys(secrets, 0o600), "agent.toml": 0o644} == modes


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
