"""`overmind-agent run --once`, installed, from a submitted job to uploaded files and an exit code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from host import Host, Submitter, inference, jsonl, reviews

from server import ControlPlaneProcess
from zoo import Status, Zoo

WHOLE_LIFE = ["Pending", "Claimed", "Validating", "Running", "Uploading", "Completed"]


def test_a_submitted_job_becomes_uploaded_files(host: Host, submitter: Submitter) -> None:
    """The main path: submitted in one dialect, its outcome read there, its files read in the other."""
    rows = reviews(20)
    job_id = submitter.submit(inference(rows))

    agent = host.once()

    assert 0 == agent.process.returncode, agent.raw
    assert "completed" == agent.summary["outcome"]
    assert WHOLE_LIFE == submitter.history(job_id)[-6:]
    record = submitter.record(job_id)
    assert "completed" == record["status"]
    assert inference(rows) == record["result"]["parameters"]
    assert 20 == record["result"]["accuracy"]["correct"]
    files = submitter.files(job_id)
    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == set(
        files
    )
    assert [row["id"] for row in rows] == [line["custom_id"] for line in jsonl(files["output.jsonl"])]
    assert {"positive", "negative"} == {line["x_overmind"]["output"] for line in jsonl(files["output.jsonl"])}
    assert b"" == files["errors.jsonl"]


def test_the_manifest_names_every_file_with_its_digest(host: Host, submitter: Submitter) -> None:
    """Whoever has the files can tell that they are whole, without the control plane."""
    job_id = submitter.submit(inference(reviews(3)))

    agent = host.once()

    files = submitter.files(job_id)
    declared = {line["name"]: line["sha256"] for line in json.loads(files["manifest.json"])["files"]}
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert declared == {name: digest for name, digest in found.items() if name != "manifest.json"}
    assert found == {line["name"]: line["sha256"] for line in agent.summary["files"]}


def test_an_input_file_is_downloaded_and_read(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """A job made in the agent-pull dialect has its rows in its model's file and its parameters in its own."""
    from plane_files import make_job

    content = b"".join(json.dumps(row).encode() + b"\n" for row in reviews(5))
    parameters = {key: value for key, value in inference([]).items() if key != "items"}
    job_id = make_job(plane.url, plane.submit_token, content, "rows.jsonl", parameters)

    agent = host.once()

    assert "completed" == agent.summary["outcome"], agent.raw
    assert 5 == len(jsonl(submitter.files(job_id)["output.jsonl"]))
    assert "inference" == submitter.record(job_id)["job_type"]


def test_nothing_to_do_is_no_failure(host: Host) -> None:
    """A script that runs the agent from a timer must not fail for want of work."""
    agent = host.once()

    assert (0, "no_job") == (agent.process.returncode, agent.summary["outcome"])


def test_it_waits_for_a_job_as_long_as_it_is_told_to(host: Host, submitter: Submitter) -> None:
    """`--wait` ends with the job, not with the time."""
    agent = host.start("--once", "--wait", "60")
    agent.wait_for("agent.started")
    submitter.submit(inference(reviews(2)))

    assert 0 == agent.exit_code()
    assert "completed" == agent.summary["outcome"]


def test_a_job_that_fails_is_exit_code_1(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """No output at all is a failed job; its reason is for programs, its message for people."""
    zoo.fail("", Status(400))
    job_id = submitter.submit(inference(reviews(2)))

    agent = host.once()

    assert (1, "failed") == (agent.process.returncode, agent.summary["outcome"])
    assert "failed" == submitter.record(job_id)["status"]
    assert agent.summary["reason"] == submitter.job(job_id)["status_history"][-1]["detail"]["reason"]


def test_a_malformed_job_fails_by_name_and_the_next_one_runs(host: Host, submitter: Submitter) -> None:
    """The fields are named, all of them at once, and the agent goes on."""
    broken = inference(reviews(1))
    broken["target"]["modell"] = broken["target"].pop("model")
    bad_id = submitter.submit(broken)
    good_id = submitter.submit(inference(reviews(1)))
    agent = host.start()

    agent.wait_for("outbox.delivered", job_id=good_id, status="Completed")

    last = submitter.job(bad_id)["status_history"][-1]
    assert ("Failed", "invalid_input") == (last["name"], last["detail"]["reason"])
    assert "target.model: " in last["message"]
    assert "target.modell: unknown key" in last["message"]
    assert "completed" == submitter.record(good_id)["status"]


def test_a_wrong_token_is_exit_code_77_and_one_line(host: Host) -> None:
    """The operator reads one line and knows which file to look at."""
    host.write_token("ovr_wrong")

    agent = host.once()

    assert 77 == agent.process.returncode
    assert 1 == len(agent.raw)
    assert "token" in agent.raw[0]


def test_a_control_plane_out_of_reach_is_exit_code_69(host: Host, plane: ControlPlaneProcess) -> None:
    """Nothing listens: said once more than the retries."""
    plane.kill()

    agent = host.once()

    assert 69 == agent.process.returncode
    assert "cannot be reached" in agent.raw[-1]


def test_a_state_folder_in_use_is_exit_code_73(host: Host) -> None:
    """Two daemons on one journal would both go on with the same jobs."""
    first = host.start()
    first.wait_for("agent.started")

    second = host.once()

    assert 73 == second.process.returncode
    assert "another overmind-agent works on" in second.raw[-1]


def test_a_wrong_configuration_is_exit_code_78_and_names_the_key(host: Host) -> None:
    """Every problem at once, with the nearest known key."""
    host.config.write_text(host.config.read_text().replace("grace_s", "grase_s"))

    agent = host.once()

    assert 78 == agent.process.returncode
    assert any("grase_s" in line and "grace_s" in line for line in agent.raw)


@pytest.mark.parametrize("arguments", [["--onec"], ["--wait", "soon"], ["--wait", "-1", "--once"], ["--wait", "3"]])
def test_wrong_usage_is_exit_code_64(host: Host, arguments: list[str]) -> None:
    """Also for a flag that would have no effect."""
    agent = host.start(*arguments)

    assert 64 == agent.exit_code()
    assert any("--help" in line for line in agent.raw)


def test_the_agents_key_and_the_hosts_environment_stay_outside(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """The child is asked while it works: neither its environment nor a file of its folder holds the token."""
    zoo.close_gate(after=0)
    submitter.submit(inference(reviews(1)))
    agent = host.start("--once")
    zoo.wait_for_calls(1)
    token = (host.folder / "token").read_bytes()

    (child,) = host.children()
    environment = Path(f"/proc/{child}/environ").read_bytes()
    kept = b"".join(path.read_bytes() for path in host.state.rglob("*") if path.is_file())
    zoo.open_gate()

    assert 0 == agent.exit_code()
    assert b"SECRET_OF_THE_HOST" not in environment
    assert token not in environment + kept
