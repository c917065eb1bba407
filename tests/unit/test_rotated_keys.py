"""Keys that change while the agent runs: jobs get the new one, and it is masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_parts import a_claim
from overmind_agent.children.order import ChildSettings
from overmind_agent.ports import Workspace
from overmind_config import host
from overmind_config.redaction import MASK, Redactor
from overmind_config.secret_files import RotatingSecret
from overmind_executors.contract import ModelEndpoint


def test_a_job_gets_the_key_that_its_file_has_when_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("the-first-key")
    redactor = Redactor(["the-first-key"])
    key = RotatingSecret("the-first-key", file, redactor.add)
    settings = ChildSettings(
        models=[ModelEndpoint("fast", "http://127.0.0.1:1", "m"), ModelEndpoint("free", "http://127.0.0.1:1", "m")],
        data_roots=(),
        environment={},
        grace_s=1,
        nice=0,
        owner="test",
        key_of=lambda name: key.current() if name == "fast" else "",
    )
    workspace = Workspace(tmp_path, tmp_path / "in", None, *[tmp_path / "x"] * 5)

    before = json.loads(settings.order_for(a_claim(), {}, workspace))["models"]
    file.write_text("the-second-key-of-it")
    after = json.loads(settings.order_for(a_claim(), {}, workspace))["models"]

    assert ["the-first-key", ""] == [model["api_key"] for model in before]
    assert ["the-second-key-of-it", ""] == [model["api_key"] for model in after]
    assert f"{MASK} {MASK}" == redactor.text("the-first-key the-second-key-of-it")


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("HF_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("PGPASSWORD", True),
        ("npm_config__auth", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", True),
        ("CUDA_VISIBLE_DEVICES", False),
        ("LANG", False),
    ],
)
def test_a_variable_of_jobs_is_secret_by_its_name(name: str, is_secret: bool) -> None:
    assert (["value"] if is_secret else []) == host.secrets_in({name: "value"})
