"""`overmind-agent support-bundle`: one file of the owner's alone, with what helps and without what is secret."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from agent_parts import a_claim
from overmind_agent import cli
from overmind_agent.control.server import ControlServer
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

TOKEN = "ovr_" + "s" * 40
KEY = "k3y-of-a-provider"
ROW = "a row of somebody's data"
CONFIG = """
[control_plane]
url = "http://127.0.0.1:9"
token_file = "token"
proxy = "http://user:hunter22-hunter@127.0.0.1:9"
[agent]
state_dir = "state"
[models.fast]
base_url = "http://127.0.0.1:9/v1"
model = "m"
api_key_file = "key"
"""
FILES = ["README.txt", "about", "check", "config", "status", "diagnosis", "health", "journal", "files"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A host that has worked: a job in its journal, and a row in a job's folder and in its words."""
    for name, secret in (("token", TOKEN), ("key", KEY)):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(secret)
    job = tmp_path / "state" / "jobs" / a_claim().job.id
    (job / "out").mkdir(parents=True)
    (job / "log.txt").write_text(ROW)
    (job / "out" / f"{ROW}.jsonl").write_text(ROW)
    (tmp_path / "state").chmod(0o700)
    journal = SqliteJournal(tmp_path / "state" / "journal.sqlite")
    journal.intend(a_claim().job, "key")
    journal.hold(a_claim())
    journal.post(a_claim(), Status.FAILED, message=ROW)
    journal.close()
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    return path


@contextmanager
def daemon(state: Path) -> Iterator[None]:
    """One whose words have secrets in them, which none of ours has."""
    told = base64.b64encode(f"xx{KEY}".encode()).decode()
    verbs = {
        "status": lambda _said: {"contact": {"trouble": f"token {TOKEN}"}},
        "diagnosis": lambda _said: {"stacks": {"main": ["a.py:1 wait"]}, "recent": [f"{told} {KEY}", "last line"]},
    }
    server = ControlServer(state, verbs, structlog.get_logger(), refusal=lambda _peer: None)
    with capture_logs():
        server.open()
        try:
            yield
        finally:
            server.close()


def _texts(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {member.name.rpartition("/")[2]: archive.extractfile(member) for member in archive}
        return {name: file.read().decode() for name, file in found.items() if file is not None}


def test_it_has_what_helps_and_no_secret_and_no_row(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "told.tar.gz"

    with daemon(tmp_path / "state"):
        code = cli.main(["support-bundle", "--config", str(config), "-o", str(bundle)])

    texts = _texts(bundle)
    told: dict[str, Any] = {name: json.loads(text) for name, text in texts.items() if name.endswith(".json")}
    assert (0, 0o600) == (code, stat.S_IMODE(bundle.stat().st_mode))
    assert str(bundle) in capsys.readouterr().out
    assert FILES == [name.removesuffix(".json") for name in texts]
    everything = "".join(texts.values())
    spelt = base64.b64encode(f"xx{KEY}".encode()).decode()
    secrets = [TOKEN, KEY, "hunter22", spelt, ROW]
    assert [] == [secret for secret in secrets if secret in everything]
    assert {"journal", "tls", "poll", "model.fast"} <= {finding["code"] for finding in told["check.json"]}
    assert "last line" == told["diagnosis.json"]["recent"][-1]
    assert ["Failed"] == [line["status"] for line in told["journal.json"]["outbox"]]
    (folder,) = [one for one in told["files.json"] if "/jobs/" in one["path"]]
    assert (2, 2 * len(ROW)) == (folder["files"], folder["size_bytes"])


def test_a_host_on_which_all_is_wrong_gets_one_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No daemon, no journal, and a configuration that cannot be read."""
    config, bundle = tmp_path / "agent.toml", tmp_path / "told.tar.gz"
    config.write_text("[agent\n")

    code = cli.main(
        [
            "support-bundle",
            "--config",
            str(config),
            "--state-dir",
            str(tmp_path / "none"),
            "-o",
            str(bundle),
            "--json",
        ]
    )

    said = capsys.readouterr()
    texts = _texts(bundle)
    assert (0, str(bundle)) == (code, json.loads(said.out)["file"])
    assert "only what looks like a key is masked" in said.err
    assert "config_refused" == json.loads(texts["check.json"])["code"]
    assert "not_running" == json.loads(texts["status.json"])["code"]


def test_it_takes_the_place_of_no_file(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "there"
    bundle.write_text("mine")

    code = cli.main(["support-bundle", "--config", str(config), "-o", str(bundle)])

    assert (73, "mine") == (code, bundle.read_text())
    assert "cannot be made: File exists; name a new file with --output" in capsys.readouterr().err
