"""What a host's settings come to for the programs of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overmind_agent.children.program_sandbox import sandbox_of
from overmind_config.settings import Settings
from overmind_executors.sandbox.levels import Level


def _settings(folder: Path, *, reads: list[str], **sandbox: Any) -> Settings:
    return Settings.model_validate(
        {
            "agent": {"state_dir": str(folder / "state")},
            "control_plane": {"token_file": str(folder / "keys" / "token")},
            "models": {
                "fast": {"base_url": "https://a.example", "model": "m", "api_key_file": str(folder / "model")}
            },
            "functions": {"code_roots": [str(folder)]},
            "sandbox": {"reads": [str(folder / name) for name in reads], **sandbox},
        }
    )


@pytest.mark.parametrize(
    ("reads", "shown"),
    [("", "state"), ("state", "state"), ("keys", "keys/token"), ("keys/token", "keys/token"), ("model", "model")],
)
def test_programs_are_shown_nothing_of_the_agents(tmp_path: Path, reads: str, shown: str) -> None:
    """A sandbox that did that would be none."""
    found = sandbox_of(_settings(tmp_path, reads=["tool", reads], use="required"))

    assert found.refuses("any")
    assert f"and {tmp_path / shown} lies in it; name only what programs need" in found.why


def test_limits_are_as_the_owner_wrote_them(tmp_path: Path) -> None:
    given = {"use": "off", "exempt": ["upper"], "memory_bytes": 1 << 30, "processes": 10, "disk_bytes": 1 << 20}

    found = sandbox_of(_settings(tmp_path, reads=["tool"], **given))

    assert (Level.NONE, (tmp_path / "tool",), frozenset({"upper"})) == (found.level, found.reads, found.exempt)
    assert (1 << 30, 10, 1 << 20) == (found.memory_bytes, found.processes, found.disk_bytes)


def test_a_host_without_programs_tries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even whether there is a bubblewrap."""
    monkeypatch.setenv("PATH", str(tmp_path))

    found = sandbox_of(Settings.model_validate({"sandbox": {"use": "required"}}))

    assert (Level.NONE, False) == (found.level, found.refuses("any"))
