"""A function of the host on a model file, asked for with the published client, run by the installed command."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from host import Host, Submitter, wait_until

from server import ControlPlaneProcess

SESSION: Final = Path(__file__).with_name("istari_function.py")
MODULE: Final = """#!{python}
import json, pathlib, sys, time
given = json.loads(pathlib.Path(sys.argv[1]).read_text())
print("counting", flush=True)
if given["do"]["value"] == "hang":
    time.sleep(600)
words = pathlib.Path(given["model"]["value"]).read_text().split()
made = pathlib.Path(sys.argv[3]) / "count.json"
made.write_text(json.dumps({{"words": len(words)}}))
pathlib.Path(sys.argv[2]).write_text(json.dumps([{{"name": "result", "type": "file", "path": str(made)}}]))
"""
MANIFEST: Final[dict[str, Any]] = {
    "module_name": "@acme:words",
    "module_version": "1.0.0",
    "functions": {
        "@acme:count": [
            {
                "entrypoint": "count",
                "run_command": "{entrypoint} {input_file} {output_file} {temp_dir}",
                "function_schema": {
                    "inputs": {"model": {"type": "user_model"}, "do": {"type": "parameter"}},
                    "outputs": [{"name": "result", "type": "file", "required": True, "upload_as": "model"}],
                },
            }
        ]
    },
}


@pytest.fixture
def words(host: Host) -> Host:
    """A host that has the module."""
    folder = host.folder / "modules" / "words"
    folder.mkdir(parents=True)
    (folder / "module_manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "count").write_text(MODULE.format(python=sys.executable))
    (folder / "count").chmod(stat.S_IRWXU)
    host.config.write_text(host.config.read_text() + '\n[functions]\nmodules = ["modules"]\n')
    return host


def _ask(plane: ControlPlaneProcess, folder: Path, do: str = "count") -> str:
    model = folder / "words;-rf.txt"
    model.write_text("one two three four")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, str(SESSION), plane.url, plane.submit_token, str(model), do]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=True)
    return ended.stdout


def test_a_function_that_the_published_client_asks_for_makes_an_artifact(
    words: Host, submitter: Submitter, plane: ControlPlaneProcess, tmp_path: Path
) -> None:
    job_id = _ask(plane, tmp_path)

    agent = words.once("--wait", "20")

    assert "completed" == agent.summary["outcome"], agent.raw
    files = submitter.files(job_id)
    assert {"count.json", "summary.json", "report.md", "report.html", "manifest.json"} == set(files)
    assert {"words": 4} == json.loads(files["count.json"])
    models = submitter.call("GET", "/api/v2/models")["items"]
    made = [
        model["file"]["revisions"][-1] for model in models if "count.json" == model["file"]["revisions"][-1]["name"]
    ]
    assert [[("Job", job_id)]] == [
        [(source["resource_type"], source["resource_id"]) for source in revision["sources"]] for revision in made
    ]


def test_a_cancel_leaves_nothing_of_a_function(
    words: Host, submitter: Submitter, plane: ControlPlaneProcess, tmp_path: Path
) -> None:
    job_id = _ask(plane, tmp_path, "hang")
    agent = words.start("--once", "--wait", "20")
    agent.wait_for("job.started")
    wait_until(lambda: len(words.children()) >= 2)

    submitter.cancel(job_id)

    assert 1 == agent.exit_code()
    assert [] == words.children()
    assert "Canceled" == submitter.history(job_id)[-1]


def test_a_host_without_the_module_is_not_offered_the_job(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, tmp_path: Path
) -> None:
    job_id = _ask(plane, tmp_path)

    agent = host.once()

    assert "no_job" == agent.summary["outcome"]
    assert ["Pending"] == submitter.history(job_id)[-1:]


def test_a_host_that_asks_for_a_sandbox_and_has_none_takes_no_function(
    words: Host, submitter: Submitter, plane: ControlPlaneProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its own check fails."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no namespaces here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words.config.write_text(words.config.read_text() + '\n[sandbox]\nuse = "required"\n')
    job_id = _ask(plane, tmp_path)

    grade = words.check()["sandbox"]
    agent = words.once()

    assert "failed" == grade
    assert "no_job" == agent.summary["outcome"]
    assert ["Pending"] == submitter.history(job_id)[-1:]


def test_an_agent_that_is_killed_takes_its_functions_with_it(
    words: Host, plane: ControlPlaneProcess, tmp_path: Path
) -> None:
    _ask(plane, tmp_path, "hang")
    agent = words.start("--once", "--wait", "20")
    agent.wait_for("job.started")
    wait_until(lambda: len(words.children()) >= 2)

    agent.process.kill()

    wait_until(lambda: not words.children())
