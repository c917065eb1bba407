"""The daemon against a control plane that speaks only what the published client speaks: `serve --plain`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from host import Host, Submitter, inference, jsonl, reviews, wait_until
from plane_files import make_job

from overmind_agent.testing.fault_proxy import FaultProxy, Scripted
from server import ControlPlaneProcess, start_control_plane
from zoo import Zoo

IN_FLIGHT = 4  # the concurrency of the jobs below
WHOLE_LIFE = ["Pending", "Claimed", "Validating", "Running", "Uploading", "Completed"]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlaneProcess]:
    """A plain control plane with leases that would run out soon, if there were any."""
    with start_control_plane(tmp_path, lease_s=1.0, arguments=("--plain", "--log-level", "debug")) as running:
        yield running


def said(submitter: Submitter, job_id: str) -> list[dict[str, Any]]:
    """The job's history."""
    found: list[dict[str, Any]] = submitter.job(job_id)["status_history"]
    return found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/capabilities"),
        ("GET", "/api/v2/agents/a/job?wait_s=1"),
        ("POST", "/api/v2/agents/a/heartbeat"),
        ("PUT", "/api/v2/jobs/a/logs?offset=0"),
        ("GET", "/api/v2/jobs/a/logs"),
        ("GET", "/api/v2/tokens/multipart-upload"),
    ],
)
def test_a_plain_control_plane_has_no_extension(plane: ControlPlaneProcess, method: str, path: str) -> None:
    """Not even for whoever may use it elsewhere."""
    headers = {"Authorization": f"Bearer {plane.admin_token}"}

    answer = requests.request(method, plane.url + path, headers=headers, json={}, timeout=10)

    assert (404, {"detail": "Not Found"}) == (answer.status_code, answer.json())


def test_a_plain_control_plane_shows_no_key_of_an_extension(
    plane: ControlPlaneProcess, submitter: Submitter, host: Host
) -> None:
    """A client that looks at the answers could not tell that there is more."""
    job_id = submitter.submit(inference(reviews(1)))
    host.once()

    job = submitter.job(job_id)
    listed = submitter.call("GET", "/api/v2/jobs")["items"][0]

    ours = {"attempt", "lease", "limits", "priority", "labels", "input"}
    assert set() == ours & set(job) == ours & set(listed)
    assert set() == {"attempt", "detail"} & {name for line in job["status_history"] for name in line}


@pytest.mark.parametrize(("role", "grade"), [("agent", "ok"), ("submit", "failed")])
def test_the_check_tells_an_agents_token(host: Host, plane: ControlPlaneProcess, role: str, grade: str) -> None:
    """Without an extension to ask; that there is none is worth a warning."""
    host.write_token(getattr(plane.tokens, role))

    grades = host.check()

    assert ("ok", "warning", grade) == (grades["connection"], grades["extensions"], grades["token"])


def test_a_job_goes_its_whole_life(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """Polled for, claimed, reported without numbers, its files uploaded; no extension is tried a second time."""
    job_id = submitter.submit(inference(reviews(20)))

    agent = host.once()

    assert ("completed", 0) == (agent.summary["outcome"], agent.process.returncode), agent.raw
    assert WHOLE_LIFE == submitter.history(job_id)[-6:]
    files = submitter.files(job_id)
    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == set(
        files
    )
    assert 20 == len(jsonl(files["output.jsonl"]))
    assert "/heartbeat" not in plane.log
    assert "/logs" not in plane.log


def test_an_input_file_is_downloaded_and_read(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """A model of its own is the job's input; one that only repeats the parameters is none."""
    content = b'{"id": "one", "input": "a great buy", "expected_output": "positive"}\n'
    parameters = {key: value for key, value in inference([]).items() if key != "items"}
    job_id = make_job(plane.url, plane.submit_token, content, "rows.jsonl", parameters)

    agent = host.once()

    assert "completed" == agent.summary["outcome"], agent.raw
    assert ["one"] == [line["custom_id"] for line in jsonl(submitter.files(job_id)["output.jsonl"])]


def test_a_cancel_is_noticed_by_reading(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """Nobody tells the agent; it reads the job every two seconds."""
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(6)))
    agent = host.start("--once")
    zoo.wait_for_calls(2)

    submitter.cancel(job_id)

    assert 1 == agent.exit_code()
    assert ("canceled", "Canceled") == (agent.summary["outcome"], submitter.history(job_id)[-1])
    assert [] == host.children()


def test_a_killed_agent_goes_on_as_the_same_attempt(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """Without leases the job stays with its agent, however long that was away."""
    zoo.close_gate(after=20)
    job_id = submitter.submit(inference(reviews(40)))
    first = host.start("--once")
    zoo.wait_for_calls(20 + IN_FLIGHT)
    first.signal(signal.SIGKILL)
    first.exit_code()
    zoo.open_gate()

    second = host.once()

    assert ("completed", 1) == (second.summary["outcome"], second.summary["attempt"]), second.raw
    assert 1 == submitter.history(job_id).count("Claimed")
    assert len([text for text, calls in zoo.calls.items() if calls > 1]) <= IN_FLIGHT
    assert 40 == len(jsonl(submitter.files(job_id)["output.jsonl"]))


@pytest.mark.parametrize("call", ["Claimed", "Validating", "Running", "Uploading", "Completed", "POST artifacts"])
def test_a_lost_answer_changes_nothing(
    tmp_path: Path, plane: ControlPlaneProcess, submitter: Submitter, zoo: Zoo, call: str
) -> None:
    """The server did what it was asked for, and is asked again: each status and each file is there once."""
    job_id = submitter.submit(inference(reviews(2)))
    plan = Scripted()
    plan.next("/artifacts" if call == "POST artifacts" else f"status_name={call}", "reset_after")
    with FaultProxy(plane.url, plan) as proxy:
        host = Host(tmp_path / "behind", proxy.url, plane.agent_token, zoo.url)

        agent = host.once()

    assert {"reset_after": 1} == proxy.faults
    assert 6 == len(submitter.files(job_id))  # refuses two of one name
    assert ("completed", 1) == (agent.summary["outcome"], agent.summary["attempt"]), agent.raw
    assert WHOLE_LIFE == submitter.history(job_id)[-6:]


def test_a_claim_whose_answer_never_came_is_gone_on_with(
    tmp_path: Path, plane: ControlPlaneProcess, submitter: Submitter, zoo: Zoo
) -> None:
    """The agent was killed before it could ask again; the next start finds in its journal what it wanted."""
    job_id = submitter.submit(inference(reviews(2)))
    plan = Scripted()
    plan.next("status_name=Claimed", "reset_after")
    with FaultProxy(plane.url, plan) as proxy:
        host = Host(tmp_path / "behind", proxy.url, plane.agent_token, zoo.url)
        first = host.start("--once")
        wait_until(lambda: proxy.faults.total() > 0)
        first.signal(signal.SIGKILL)
        first.exit_code()

        second = host.once()

    assert ("completed", 1) == (second.summary["outcome"], second.summary["attempt"]), second.raw
    assert 1 == submitter.history(job_id).count("Claimed")


def test_an_agent_that_is_stopped_at_once_fails_its_job(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """There is no way to give a job back, and one that stays Running for ever would be worse."""
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(6)))
    agent = host.start()
    zoo.wait_for_calls(2)
    agent.signal(signal.SIGTERM)
    agent.wait_for("agent.draining")
    agent.signal(signal.SIGTERM)

    code = agent.exit_code()

    last = said(submitter, job_id)[-1]
    assert (0, "Failed") == (code, last["name"])
    assert last["message"].startswith("agent_stopping: ")
    assert [] == host.children()


def test_a_failed_job_says_why_in_its_message(host: Host, submitter: Submitter) -> None:
    """The reason stands before the message, since there is no other place for it."""
    job_id = submitter.submit({"target": {}})

    host.once()

    last = said(submitter, job_id)[-1]
    assert "Failed" == last["name"]
    assert last["message"].startswith("invalid_input: ")


def test_an_outage_only_delays_a_job(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """Statuses that were not taken are said again, in order."""
    zoo.close_gate(after=5)
    job_id = submitter.submit(inference(reviews(12)))
    agent = host.start("--once")
    zoo.wait_for_calls(5 + IN_FLIGHT)
    plane.kill()
    zoo.open_gate()
    agent.wait_for("control_plane.retry_scheduled")
    agent.wait_for("job.uploading")

    plane.restart()

    assert 0 == agent.exit_code(), agent.raw
    assert WHOLE_LIFE == submitter.history(job_id)[-6:]
    assert {1} == set(zoo.calls.values())


def test_a_job_that_failed_elsewhere_is_dropped(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """Somebody with a right to ended it under the agent's own name: its next look says so."""
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(6)))
    agent = host.start("--once")
    zoo.wait_for_calls(2)
    agent_id = submitter.job(job_id)["agent_id"]

    requests.put(
        f"{plane.url}/api/v2/jobs/{job_id}/status",
        params={"status_name": "Failed", "agent_id": agent_id},
        headers={"Authorization": f"Bearer {plane.admin_token}"},
        timeout=10,
    ).raise_for_status()
    agent.exit_code()

    assert "lost" == agent.summary["outcome"]
    assert "Failed" == submitter.history(job_id)[-1]
    wait_until(lambda: host.children() == [])
