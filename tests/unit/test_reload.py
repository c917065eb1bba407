"""The configuration read anew: all of it or nothing, and what needs a restart is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from overmind_agent.configuration.in_force import InForce
from overmind_agent.configuration.keys import HostKeys
from overmind_agent.configuration.reload import Reload
from overmind_agent.control.line import Refusal
from overmind_config.changes import LIVE, changed_keys, is_live, live_part
from overmind_config.keys import known_keys
from overmind_config.load import load
from overmind_config.settings import Settings

FIRST = """
[control_plane]
url = "http://127.0.0.1:1"
token_file = "token"
[agent]
name = "host-1"
state_dir = "state"
slots = 2
[models.small]
base_url = "http://127.0.0.1:2/v1"
model = "small"
[logging]
level = "info"
"""


class Host:
    """A configuration file, and the settings that are in force."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "agent.toml"
        self.write_token(folder / "token", "ovr_first_token")
        self.file.write_text(FIRST)
        self.in_force = self.read()
        self.reload = Reload(
            read_again=self.read, in_force=lambda: self.in_force, apply=self._apply, log=structlog.get_logger()
        )

    @staticmethod
    def write_token(path: Path, token: str) -> None:
        """A file that only its owner may read."""
        path.touch(mode=0o600)
        path.write_text(token)

    def read(self) -> Settings:
        """As it is written now."""
        return load({}, config=self.file, environ={}).settings

    def _apply(self, settings: Settings) -> None:
        self.in_force = settings

    def change(self, before: str, after: str) -> None:
        """Edit the file."""
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with a good configuration."""
    return Host(tmp_path)


CHANGES: dict[str, tuple[str, str, list[str], list[str]]] = {
    "nothing": ("slots = 2", "slots = 2", [], []),
    "a number": ("slots = 2", "slots = 5", ["agent.slots"], []),
    "back to a default": ("slots = 2", "", ["agent.slots"], []),
    "the log's level": ('level = "info"', 'level = "debug"', ["logging.level"], []),
    "what needs a restart": ('name = "host-1"', 'name = "host-2"', [], ["agent.name"]),
    "both at once": (
        'name = "host-1"\nstate_dir = "state"\nslots = 2',
        'name = "host-2"\nstate_dir = "state"\nslots = 3\nlabels = ["gpu"]',
        ["agent.slots", "agent.labels"],
        ["agent.name"],
    ),
    "a model's address": (":2/v1", ":3/v1", ["models.small.base_url"], []),
    "a policy": ("[logging]", "[policy]\nmax_calls = 7\n[logging]", ["policy.max_calls"], []),
    "the way to the server": ("127.0.0.1:1", "127.0.0.1:9", [], ["control_plane.url"]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_reload_names_what_is_in_force_and_what_needs_a_restart(host: Host, what: str) -> None:
    before, after, applied, needs_restart = CHANGES[what]
    host.change(before, after)

    with capture_logs() as logs:
        told = host.reload()

    assert {"applied": applied, "needs_restart": needs_restart} == told
    assert [("config.reloaded", applied)] == [(line["event"], line["applied"]) for line in logs]


def test_what_needs_a_restart_stays_as_it_is(host: Host) -> None:
    host.change('name = "host-1"', 'name = "host-2"')
    host.change("slots = 2", "slots = 3")

    host.reload()

    assert ("host-1", 3) == (host.in_force.agent.name, host.in_force.agent.slots)
    assert ["agent.name"] == host.reload()["needs_restart"]  # it is said again, as long as it is so


def test_a_wrong_configuration_changes_nothing_and_every_problem_is_named(host: Host) -> None:
    before = host.in_force
    host.change("slots = 2", 'slots = 99\nlabel = ["gpu"]\ndrain_s = 200')
    host.change('"http://127.0.0.1:1"', '"http://example.com"')

    with capture_logs() as logs, pytest.raises(Refusal) as caught:
        host.reload()

    assert before is host.in_force
    assert "config_refused" == caught.value.code
    assert {"agent.slots", "agent.label", "control_plane.url"} == {p.split(" ")[0] for p in caught.value.problems}
    assert [("config.refused", list(caught.value.problems))] == [(line["event"], line["problems"]) for line in logs]


@pytest.mark.parametrize(
    "text", ["[agent", "\xff", "[agent]\nslots = 1"], ids=["no TOML", "a stray letter", "no url"]
)
def test_a_file_that_cannot_be_used_changes_nothing(host: Host, text: str) -> None:
    before = host.in_force
    host.file.write_bytes(text.encode("latin-1"))

    with pytest.raises(Refusal):
        host.reload()

    assert before is host.in_force


def test_a_file_that_is_gone_changes_nothing(host: Host) -> None:
    host.file.unlink()

    with pytest.raises(Refusal):
        host.reload()


def test_a_model_that_comes_or_goes_is_told_by_its_keys(host: Host) -> None:
    host.change("[models.small]", "[models.large]")

    applied = host.reload()["applied"]

    assert {key.split(".")[1] for key in applied} == {"small", "large"}
    assert {"large"} == set(host.in_force.models)


def test_every_live_key_is_a_key() -> None:
    assert set() == LIVE - {"control_plane.token"} - set(known_keys())


def test_whatever_nobody_has_said_is_live_needs_a_restart() -> None:
    expected = {"control_plane.url", "agent.state_dir", "agent.name", "logging.format", "telemetry.listen"}

    assert set() == {key for key in expected if is_live(key)}


def test_two_equal_configurations_differ_in_nothing(host: Host) -> None:
    assert () == changed_keys(host.in_force, host.read())
    assert host.in_force == live_part(host.in_force, host.read())


def test_a_token_in_another_file_is_used_and_masked(host: Host, tmp_path: Path) -> None:
    masked: list[str] = []
    keys = HostKeys(host.in_force, masked.append)
    host.write_token(tmp_path / "other", "ovr_second_token")
    host.change('"token"', '"other"')

    told = host.reload()
    keys.take(host.in_force)

    assert ["control_plane.token_file"] == told["applied"]
    assert "ovr_second_token" == keys.token()
    assert "ovr_second_token" in masked


def test_a_rotated_token_is_no_change_of_the_configuration(host: Host, tmp_path: Path) -> None:
    host.write_token(tmp_path / "token", "ovr_second_token")

    assert {"applied": [], "needs_restart": []} == host.reload()


def _follows(settings: Settings, environ: Mapping[str, str]) -> InForce:
    return InForce.of(
        settings,
        environment_of=lambda names: {name: environ[name] for name in names if name in environ},
        key_of=lambda _name: "",
    )


def test_what_follows_from_the_settings_is_made_anew_with_them(host: Host) -> None:
    before = _follows(host.in_force, {"LICENCE": "x"})
    host.change(
        "slots = 2", 'slots = 3\nlabels = ["gpu"]\njob_env = ["LICENCE"]\njob_types = ["inference"]\nnice = 7'
    )
    host.change("[logging]", "[policy]\nmax_calls = 7\nmax_input_bytes = 9\nprojects = ['ours']\n[logging]")

    host.reload()
    after = _follows(host.in_force, {"LICENCE": "x"})

    assert (("label:gpu", "model:small", "project:ours"), 3) == (after.offer.capabilities, after.offer.slots)
    assert ("inference",) == after.job_types == after.offer.job_types
    assert ({"LICENCE": "x"}, 7) == (after.children.environment, after.children.nice)
    assert {"max_calls": 7} == after.children.spend_limits
    assert 9 == after.sizes.max_input_bytes
    assert ({}, 5) == (before.children.environment, before.children.nice)  # for the jobs that run


@pytest.mark.parametrize(
    ("said", "expected"), [("", (120, 50)), ("timeout_s = 180", (180, 180)), ("timeout_s = 30", (30, 50))]
)
def test_a_model_that_its_host_calls_slow_may_be_silent_as_long(
    host: Host, said: str, expected: tuple[float, float]
) -> None:
    host.change('model = "small"', f'model = "small"\n{said}')

    (model,) = _follows(host.read(), {}).children.models

    assert expected == (model.timeout_s, model.silence_s)


def test_a_bug_in_a_reload_ends_nothing(host: Host) -> None:
    def broken(_settings: Settings) -> Any:
        raise KeyError("bug")

    reload = Reload(read_again=host.read, in_force=lambda: host.in_force, apply=broken, log=structlog.get_logger())

    with capture_logs() as logs:
        reload._quietly()

    assert ["config.not_reloaded"] == [line["event"] for line in logs]
