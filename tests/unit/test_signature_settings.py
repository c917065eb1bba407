"""What a host's owner writes about signatures: all of it is looked at before the agent starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overmind_agent.configuration.checked import read
from overmind_agent.configuration.keys import HostKeys
from overmind_config.problems import SettingsError
from overmind_config.settings import Policy, Settings

SECRET = "a-shared-secret-of-many-letters-0123456789"
PLANE = {"control_plane.url": "http://127.0.0.1:9", "control_plane.token": "ovr_x"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration beside its key file."""
    (tmp_path / "shared").write_text(SECRET)
    (tmp_path / "shared").chmod(0o600)
    path = tmp_path / "agent.toml"
    path.write_text('[policy]\nsignatures = "block"\n[policy.signing_keys]\nours = "shared"\n')
    return path


def problems(flags: dict[str, Any], config: Path) -> list[str]:
    """What is wrong with the configuration."""
    with pytest.raises(SettingsError) as caught:
        read({**PLANE, **flags}, config)
    return [str(problem) for problem in caught.value.problems]


def test_a_key_file_is_named_from_where_the_configuration_lies(config: Path) -> None:
    settings = read(PLANE, config)

    assert {"ours": config.parent / "shared"} == settings.policy.signing_keys


def test_what_would_refuse_every_job_is_refused_at_the_start(config: Path) -> None:
    (config.parent / "shared").chmod(0o644)

    told = problems({"control_plane.adapter": "overmind-lab"}, config)

    assert [
        "policy.signatures: Overmind Lab's records have no place for a signature, so every job would be refused",
        f"policy.signing_keys.ours: {config.parent}/shared is open to other users (mode 0644)",
    ] == [line.partition("; ")[0] for line in told]


def test_signatures_without_a_key_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[policy]\nsignatures = "warn"\n')

    assert ["policy.signing_keys: there is none to check signatures by; name a public key"] == problems({}, config)


def test_where_nothing_is_asked_no_key_is_looked_at(config: Path) -> None:
    (config.parent / "shared").unlink()

    assert "off" == read({**PLANE, "policy.signatures": "off"}, config).policy.signatures


def test_a_shared_secret_is_masked(config: Path) -> None:
    """Whoever reads it can sign."""
    policy = Policy(signing_keys={"ours": config.parent / "shared", "gone": config.parent / "gone"})
    told: list[str] = []

    HostKeys(Settings(policy=policy), told.append)

    assert [SECRET] == told
