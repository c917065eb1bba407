"""What is built and installed, and what a quick command does not load."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {
    "overmind_agent": "agent",
    "overmind_executors": "executors",
    "overmind_config": "config",
    "overmind_controlplane": "controlplane",
}
COMMANDS: Final = {
    "overmind-agent": "overmind_agent.cli:main",
    "overmind-control-plane": "overmind_controlplane.cli:main",
    "overmind-local-model": "overmind_executors.local_model:main",
    "overmind-recount": "overmind_executors.recount:main",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    first_parts = {name.partition("/")[0] for name in wheel.namelist()}
    (metadata,) = [part for part in first_parts if part.endswith(".dist-info")]

    assert {*PACKAGES, metadata} == first_parts


def test_the_wheel_holds_every_module_and_no_test(wheel: zipfile.ZipFile) -> None:
    expected = {
        str(path.relative_to(ROOT / folder))
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*.py")
    }

    assert expected == {name for name in wheel.namelist() if name.endswith(".py")}
    assert [] == [name for name in wheel.namelist() if name.rpartition("/")[2].startswith(("test_", "conftest"))]


def test_the_wheel_brings_what_the_page_is_made_of(wheel: zipfile.ZipFile) -> None:
    page = "overmind_controlplane/page/"

    assert {f"{page}static/live.js", f"{page}static/page.css", f"{page}templates/job.html"} <= set(wheel.namelist())


def test_each_package_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_the_wheel_brings_its_licence(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_installs_the_three_commands(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    parsed = configparser.ConfigParser()
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(wheel.read(name).decode())

    assert COMMANDS == dict(parsed["console_scripts"])


LOADED = """
import json, sys
from overmind_agent.cli import main
sys.argv = ["overmind-agent", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    code = end.code or 0
else:
    code = 0
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
HEAVY: Final = {
    "requests",
    "urllib3",
    "pydantic",
    "pydantic_settings",
    "apscheduler",
    "structlog",
    "rich",
    "asyncio",
}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["version"], ["run", "--help"]], ids=" ".join)
def test_a_quick_command_loads_nothing_heavy(arguments: list[str]) -> None:
    """Counted in modules, since seconds depend on the neighbours."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(arguments)], capture_output=True, text=True, timeout=60
    )

    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert 0 == code
    assert done.stdout.strip()
    assert set() == HEAVY & set(modules)


def test_every_command_is_there_and_answers() -> None:
    """Installed, in the same environment as the tests."""
    for command in COMMANDS:
        program = Path(sys.executable).with_name(command)
        done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)

        assert 0 == done.returncode, f"{command}: {done.stderr}"
        assert "usage:" in done.stdout


def test_reading_the_settings_loads_no_network() -> None:
    code = "import json, sys, overmind_config.load; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert set() == {"requests", "urllib3", "apscheduler", "rich"} & set(json.loads(done.stdout))
