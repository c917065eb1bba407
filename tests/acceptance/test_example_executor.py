"""The executor of the docs, as its reader has it: a package, installed, tested, and run by the daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from host import Host, Submitter

from overmind_controlplane.command_line.client import JobClient
from server import ControlPlaneProcess

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "docs" / "examples" / "word_count"
NO_MODELS: Final = "http://127.0.0.1:1/v1"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's package, put there by pip."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *alone, str(EXAMPLE)], check=True, capture_output=True, timeout=120)
    return target


@pytest.fixture
def host(tmp_path: Path, plane: ControlPlaneProcess) -> Iterator[Host]:
    """A host that takes jobs of the example's type and no other; the package lies beside its environment."""
    more = 'job_types = ["word_count"]\njob_env = ["PYTHONPATH"]'
    made = Host(tmp_path / "host", plane.url, plane.agent_token, NO_MODELS, more=more)
    yield made
    made.stop_all()


def test_the_daemon_runs_a_job_of_an_installed_package(
    installed: Path, host: Host, plane: ControlPlaneProcess, submitter: Submitter, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The lamp hums.\nthe lamp flickers.\n")
    with JobClient(plane.url, plane.submit_token) as client:
        job_id = client.submit("@overmind:word_count", {"ignore_case": True}, text)

    agent = host.start("--once", PYTHONPATH=str(installed))

    assert 0 == agent.exit_code(), agent.raw
    assert "Completed" == submitter.history(job_id)[-1]
    assert b"word,count\r\nlamp,2\r\nthe,2\r\nflickers.,1\r\nhums.,1\r\n" == submitter.files(job_id)["words.csv"]


def test_its_own_tests_pass(installed: Path) -> None:
    """As its author runs them, over what is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-W", "error"]

    done = subprocess.run(
        [*command, str(EXAMPLE / "tests")],
        env={"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 0 == done.returncode, done.stdout
