"""The reference configuration and the sidecar: files that people copy, so they have to be right."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from overmind_agent.command_line import grammar
from overmind_config.keys import known_keys
from overmind_config.load import load
from overmind_config.settings import Settings

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "config" / "agent.toml"
TOKEN: Final = "control_plane.token"  # never written into a file
EXAMPLE_URL: Final = "control_plane.url"  # the only key that has a value and no default
SETTING: Final = re.compile(r"^(# )?([a-z_]+) = .+$")
TABLE: Final = re.compile(r"^(# )?\[([a-z_.]+)\]$")


def _reference() -> list[tuple[str, str]]:
    """Every key of the reference file, commented out or not, with the line before it."""
    found = []
    table, before = "", ""
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if match := TABLE.match(line):
            table = match[2].replace("models.local", "models.<name>")
        elif match := SETTING.match(line):
            found.append((f"{table}.{match[2]}", before))
        before = line
    return found


def _uncommented(text: str) -> str:
    return re.sub(r"^# (?=(\[[a-z_.]+\]|[a-z_]+ = .+)$)", "", text, flags=re.MULTILINE)


def test_the_reference_lists_every_setting_and_nothing_else() -> None:
    keys = [key for key, _ in _reference()]

    assert sorted(key for key in known_keys() if key != TOKEN) == sorted(keys)


def test_every_setting_in_the_reference_is_explained() -> None:
    assert [] == [key for key, before in _reference() if not before.startswith("# ") or SETTING.match(before)]


def test_the_reference_gives_the_defaults() -> None:
    written = Settings.model_validate(tomllib.loads(REFERENCE.read_text(encoding="utf-8")))
    defaults = Settings.model_validate({"control_plane": {"url": written.control_plane.url}})

    assert defaults.model_dump() == written.model_dump()


def test_the_reference_loads_as_it_is() -> None:
    loaded = load(config=REFERENCE, environ={"OVERMIND_API_KEY": "ovr_test"})

    assert "http://127.0.0.1:8470" == loaded.settings.control_plane.url


def test_what_is_commented_out_fits_too() -> None:
    tree = tomllib.loads(_uncommented(REFERENCE.read_text(encoding="utf-8")))

    settings = Settings.model_validate(tree)

    assert {"local"} == set(settings.models)
    assert "host-1" == settings.agent.name


@pytest.fixture(scope="module")
def sidecar() -> dict[str, Any]:
    """The agent's part of the compose file."""
    compose = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text(encoding="utf-8"))
    service: dict[str, Any] = compose["services"]["overmind-agent"]
    assert set(service["secrets"]) <= set(compose["secrets"])
    return service


def test_the_sidecar_may_do_next_to_nothing(sidecar: dict[str, Any]) -> None:
    assert sidecar["read_only"]
    assert ["ALL"] == sidecar["cap_drop"]
    assert ["no-new-privileges:true"] == sidecar["security_opt"]


def test_the_sidecar_is_given_the_time_that_it_needs(sidecar: dict[str, Any]) -> None:
    assert f"{Settings.model_validate({}).agent.stop_timeout_s:g}s" == sidecar["stop_grace_period"]


def test_the_sidecars_environment_is_understood(sidecar: dict[str, Any], tmp_path: Path) -> None:
    """Every variable has a key; the token's file is another one here."""
    token = tmp_path / "token"
    token.write_text("ovr_test", encoding="utf-8")
    token.chmod(0o600)
    environ = {name: str(value) for name, value in sidecar["environment"].items()}
    environ["OVERMIND_API_URL"] = "https://overmind.example"
    environ["OVERMIND_AGENT_CONTROL_PLANE__TOKEN_FILE"] = str(token)

    loaded = load(environ=environ)

    assert (Path("/data"),) == loaded.settings.agent.data_roots


def test_the_images_environment_is_understood() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    environ = dict(re.findall(r"(OVERMIND_AGENT_[A-Z_]+)=(\S+)", text))

    loaded = load(environ=environ | {"OVERMIND_API_URL": "https://o.example", "OVERMIND_API_KEY": "ovr_test"})

    assert 2 == len(environ)
    assert ("json", Path("/var/lib/overmind-agent")) == (
        loaded.settings.logging.format,
        loaded.settings.agent.state_dir,
    )


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    """The documents of the Kubernetes manifest, by their kind."""
    documents = yaml.safe_load_all((ROOT / "config" / "kubernetes.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(kubernetes: dict[str, Any]) -> dict[str, Any]:
    """What its pods are."""
    found: dict[str, Any] = kubernetes["StatefulSet"]["spec"]["template"]["spec"]
    return found


def test_a_pod_may_do_next_to_nothing(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    expected = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }

    assert expected == container["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert not pod["automountServiceAccountToken"]


def test_a_pod_is_given_the_time_that_it_needs(pod: dict[str, Any]) -> None:
    assert Settings.model_validate({}).agent.stop_timeout_s == pod["terminationGracePeriodSeconds"]


def test_the_commands_of_a_pod_are_commands_of_ours(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    asked = [container[f"{when}Probe"]["exec"]["command"] for when in ("startup", "liveness", "readiness")]
    asked.append(container["lifecycle"]["preStop"]["exec"]["command"])

    options = [grammar.parser().parse_args(words[1:]) for words in asked]

    assert {"overmind-agent"} == {words[0] for words in asked}
    assert ["health", "health", "health", "drain"] == [told.command for told in options]
    assert "run" == grammar.parser().parse_args(container["args"]).command


def test_a_pods_configuration_is_understood(
    kubernetes: dict[str, Any], pod: dict[str, Any], tmp_path: Path
) -> None:
    (container,) = pod["containers"]
    environ = {env["name"]: env.get("value", "a-name") for env in container["env"]}
    config = tmp_path / "agent.toml"
    config.write_text(kubernetes["ConfigMap"]["data"]["agent.toml"], encoding="utf-8")

    loaded = load(config=config, environ=environ)

    assert ("a-name", (Path("/data"),)) == (loaded.settings.agent.name, loaded.settings.agent.data_roots)


def test_every_mount_of_a_pod_has_its_volume(kubernetes: dict[str, Any], pod: dict[str, Any]) -> None:
    claimed = [claim["metadata"]["name"] for claim in kubernetes["StatefulSet"]["spec"]["volumeClaimTemplates"]]
    volumes = [volume["name"] for volume in pod["volumes"]] + claimed

    assert sorted(volumes) == sorted(mount["name"] for mount in pod["containers"][0]["volumeMounts"])


def test_the_health_check_of_the_image_is_a_command_of_ours() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (words,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.MULTILINE)

    program, *arguments = json.loads(words)

    assert ("overmind-agent", "health") == (program, grammar.parser().parse_args(arguments).command)
