"""An installation without the packages that only some job types need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[2]
LEFT_OUT = (
    "scipy",
    "numpy",
    "statsmodels",
    "pandas",
    "gepa",
    "sqlalchemy",
    "fastapi",
    "prometheus_client",
    "opentelemetry",
)


@pytest.fixture
def light(tmp_path: Path) -> dict[str, str]:
    """A Python that has everything but what the extras `stats`, `tuning` and `controlplane` bring."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(LEFT_OUT) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    roots = [str(ROOT / name) for name in ("agent", "executors", "config", "controlplane")]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([*roots, str(packages)])}


def _told(light: dict[str, str], tmp_path: Path, *more: str) -> str:
    command = [
        sys.executable,
        "-S",
        "-m",
        "overmind_agent",
        "check",
        "--config",
        str(tmp_path / "agent.toml"),
        *more,
    ]
    ended = subprocess.run(command, env=light, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


def _configured(tmp_path: Path, job_types: str) -> None:
    (tmp_path / "agent.toml").write_text(
        f'[control_plane]\nurl = "http://127.0.0.1:1"\ntoken_file = "{tmp_path}/token"\n'
        f'[agent]\nstate_dir = "{tmp_path}/state"\n{job_types}\n'
    )
    (tmp_path / "token").write_text("ovr_" + "a" * 40)
    (tmp_path / "token").chmod(0o600)


def test_the_daemon_is_there_without_any_extra(light: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import overmind_agent.service"], env=light, capture_output=True, timeout=60
    )

    assert (0, b"") == (done.returncode, done.stderr)


def test_a_daemon_without_any_extra_tells_how_it_is_and_what_to_install(
    light: dict[str, str], tmp_path: Path
) -> None:
    _configured(tmp_path, '[telemetry]\nlisten = "127.0.0.1:0"\notlp_endpoint = "http://127.0.0.1:1"')
    command = [sys.executable, "-S", "-m", "overmind_agent", "run", "--config", str(tmp_path / "agent.toml")]
    with subprocess.Popen(command, env=light, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        said = []
        for line in daemon.stdout:
            said.append(json.loads(line))
            if said[-1]["event"] == "telemetry.listening":
                break
        url = f"http://127.0.0.1:{said[-1]['port']}"
        answers = [requests.get(f"{url}/{path}", timeout=60) for path in ("livez", "metrics")]
        daemon.kill()

    hints = {"metrics": "pip install 'overmind-agent[metrics]'", "traces": "pip install 'overmind-agent[otlp]'"}
    missing = [(f"telemetry.no_{what}", hint) for what, hint in hints.items()]
    assert [*missing, ("telemetry.listening", None)] == [(line["event"], line.get("hint")) for line in said]
    assert [200, 503] == [answer.status_code for answer in answers]
    assert "overmind-agent[metrics]" in answers[1].json()["error"]


def test_types_that_nobody_asked_for_are_left_out_and_the_check_says_how_to_have_them(
    light: dict[str, str], tmp_path: Path
) -> None:
    _configured(tmp_path, "")

    told = _told(light, tmp_path)

    assert "Traceback" not in told
    assert "not model_backtesting, prompt_tuning" in " ".join(told.split())
    assert "overmind-agent[tuning]" in told


def test_a_type_that_was_asked_for_by_name_is_a_problem_of_the_configuration(
    light: dict[str, str], tmp_path: Path
) -> None:
    _configured(tmp_path, 'job_types = ["prompt_tuning"]')

    told = " ".join(_told(light, tmp_path).split())

    assert "'prompt_tuning' needs more than is installed here" in told
    assert "pip install 'overmind-agent[tuning]'" in told


def test_a_control_plane_without_its_extra_says_what_to_install(light: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-S",
        "-m",
        "overmind_controlplane.cli",
        "project",
        "create",
        "demo",
        "--data",
        str(tmp_path),
    ]

    ended = subprocess.run(command, env=light, capture_output=True, text=True, timeout=60, check=False)

    assert 78 == ended.returncode
    assert "overmind-control-plane: the control plane needs more: pip install 'overmind-agent[controlplane]'\n" == (
        ended.stderr
    )
