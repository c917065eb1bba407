"""
Five things that were measured to go wrong in a worker of this kind, done to ours.

A  a job's time runs out while a process that it started works on
B  the first report of a finished job is answered 502
C  one slow call to the control plane
D  a job prints its environment
E  the control plane has forgotten the worker
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crash_points import AGENT, PYTHON_PATH
from host import Agent, Host, Submitter, wait_until
from plane_files import make_jobs

from overmind_agent.testing.fault_proxy import FaultProxy, Scripted
from server import ControlPlaneProcess

LEASE_S = 3.0
TOO_MUCH_FOR_THE_LAST_WORD = 300_000
KEY = "OVERMIND_AGENT_CONTROL_PLANE__TOKEN"


class Scene:
    """A host behind a proxy, and jobs for it."""

    def __init__(self, folder: Path, plane: ControlPlaneProcess, submitter: Submitter, proxy: FaultProxy) -> None:
        self.folder = folder
        self.plane = plane
        self.submitter = submitter
        self.proxy = proxy
        self.plan = Scripted()
        proxy.plan = self.plan
        self.host = Host(folder / "host", proxy.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT)

    def submit(self, number: int = 1, **parameters: Any) -> list[str]:
        """Jobs with these parameters."""
        told = {"ledger": str(self.folder / "ledger"), **parameters}
        url, token = self.plane.url, self.submitter.token
        return make_jobs(url, token, b"", "input.txt", told, job_type="ledger", number=number)

    def start(self, *arguments: str, **environment: str) -> Agent:
        """The agent."""
        return self.host.start(*arguments, PYTHONPATH=str(PYTHON_PATH), **environment)


@pytest.fixture
def scene(tmp_path: Path, plane: ControlPlaneProcess, submitter: Submitter) -> Iterator[Scene]:
    with FaultProxy(plane.url, slow_s=2 * LEASE_S) as proxy:
        made = Scene(tmp_path, plane, submitter, proxy)
        yield made
        made.host.stop_all()


def test_a_nothing_of_a_job_works_on_when_its_time_is_over(scene: Scene) -> None:
    """Not even a process in a session of its own that does not listen to signals."""
    config = scene.host.config.read_text()
    scene.host.config.write_text(config.replace("grace_s = 2", "grace_s = 0\njob_timeout_s = 0.5"))
    stray = scene.folder / "stray"
    (job_id,) = scene.submit(work_s=4, stray=str(stray))

    agent = scene.start("--once")

    assert 1 == agent.exit_code(), agent.raw
    assert ("failed", "timeout") == (agent.summary["outcome"], agent.summary["reason"])
    assert "Failed" == scene.submitter.history(job_id)[-1]
    assert [] == scene.host.children()
    assert not stray.exists()


def test_b_a_report_that_met_an_error_is_made_again(scene: Scene) -> None:
    """Five of five results are there, though the first report was answered 502."""
    job_ids = scene.submit(5)
    scene.plan.next("/reports", "bad_gateway")
    agent = scene.start()

    agent.wait_for("outbox.delivered", times=5, status="Completed")

    assert ["Completed"] * 5 == [scene.submitter.history(job_id)[-1] for job_id in job_ids]
    assert 1 == scene.proxy.faults["bad_gateway"]


def test_c_a_slow_call_holds_up_no_heartbeat(scene: Scene) -> None:
    """A file takes twice as long as the lease; the lease is kept meanwhile, and the first attempt is the last."""
    scene.plane.stop()
    scene.plane.lease_s = LEASE_S
    scene.plane.restart()
    scene.plan.next("/artifacts", "delayed")
    (job_id,) = scene.submit(size_bytes=TOO_MUCH_FOR_THE_LAST_WORD)

    agent = scene.start("--once")

    assert 0 == agent.exit_code(), agent.raw
    assert 1 == scene.proxy.faults["delayed"]
    assert 1 == scene.submitter.history(job_id).count("Claimed")


def test_d_a_job_sees_no_key_of_the_agents(scene: Scene) -> None:
    """Neither in what it prints nor in what is kept of that."""
    (job_id,) = scene.submit(tells=True)

    agent = scene.start("--once", **{KEY: scene.plane.agent_token, "SECRET_OF_THE_HOST": "canary of the host"})

    assert 0 == agent.exit_code(), agent.raw
    log = scene.submitter._session.get(f"{scene.plane.url}/api/v2/jobs/{job_id}/logs", timeout=10).text
    assert "OVERMIND_JOB_ID" in log
    assert [] == [word for word in (scene.plane.agent_token, "canary of the host") if word in log]


def test_e_a_forgotten_agent_makes_itself_known_again(scene: Scene) -> None:
    """The control plane has lost its record of agents; the next job is taken all the same."""
    agent = scene.start()
    agent.wait_for("agent.started")
    scene.plane.stop()
    with closing(sqlite3.connect(scene.plane.data / "control-plane.db")) as db, db:
        db.execute("DELETE FROM agent_events")
        db.execute("DELETE FROM agents")
    scene.plane.restart()

    (job_id,) = scene.submit()

    wait_until(lambda: scene.submitter.history(job_id)[-1] == "Completed")
    agent.wait_for("agent.registered_again")
