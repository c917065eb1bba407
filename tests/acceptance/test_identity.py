"""One agent is one process over one state folder; who it is, and that it ends, is known to the control plane."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import requests
from host import Host, Submitter, inference, reviews, wait_until

from server import ControlPlaneProcess
from zoo import Zoo


def test_of_two_agents_on_copies_of_a_state_folder_the_older_one_drains(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo, tmp_path: Path
) -> None:
    """As after a machine was cloned. The job that the older one holds is finished, and by that one alone."""
    host.once()
    clone = Host(tmp_path / "clone", plane.url, plane.agent_token, zoo.url)
    shutil.copytree(host.state, clone.state)
    zoo.close_gate(after=1)
    job_id = submitter.submit(inference(reviews(3)))
    older = host.start()
    zoo.wait_for_calls(2)

    newer = clone.start()
    drained = older.wait_for("agent.draining")
    zoo.open_gate()
    code = older.exit_code()
    second_id = submitter.submit(inference(reviews(2)))
    ended = newer.wait_for("job.completed")
    clone.stop_all()

    assert "copy of this state folder" in drained["why"]
    assert (0, "completed") == (code, submitter.record(job_id)["status"])
    assert 1 == submitter.history(job_id).count("Claimed")
    assert second_id == ended["job_id"]


def test_an_idle_agent_hears_of_a_copy_of_itself(
    host: Host, plane: ControlPlaneProcess, zoo: Zoo, tmp_path: Path
) -> None:
    host.once()
    clone = Host(tmp_path / "clone", plane.url, plane.agent_token, zoo.url)
    shutil.copytree(host.state, clone.state)
    older = host.start()
    older.wait_for("agent.started")

    clone.start()
    drained = older.wait_for("agent.draining")
    code = older.exit_code()
    clone.stop_all()

    assert "copy of this state folder" in drained["why"]
    assert 0 == code


def test_an_agent_that_ends_says_so(host: Host, plane: ControlPlaneProcess) -> None:
    agent = host.start()
    agent_id = agent.wait_for("agent.started")["agent_id"]
    agent.signal(signal.SIGTERM)

    wait_until(lambda: _is_draining(agent_id, plane))

    assert 0 == agent.exit_code()


def _is_draining(agent_id: str, plane: ControlPlaneProcess) -> bool:
    told = {"Authorization": f"Bearer {plane.agent_token}"}
    found = requests.get(f"{plane.url}/api/v2/agents/{agent_id}", headers=told, timeout=10)
    return bool(found.json()["draining"])
