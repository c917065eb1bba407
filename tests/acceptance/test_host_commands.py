"""The person who runs the host, beside a daemon at work: a look, a pause, a cancel, a new configuration, an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from host import COMMAND, TIMEOUT_S, Host, Submitter, inference, reviews, wait_until

from server import ControlPlaneProcess

# A program that does to the agent what a job must not do, and then takes its time.
SPY = """read -r row
{command} drain --state-dir {state} >&2 2>&1
setsid {command} pause --state-dir {state} >&2 2>&1
printf 'evil \\033]0;title\\007\\n' >&2
exec sleep 600
"""


def ask(host: Host, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command on *host*."""
    command = [COMMAND, *words, "--config", str(host.config)]
    clean = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def told(host: Host, *words: str) -> dict[str, Any]:
    """The document of a command that goes well."""
    code, out, err = ask(host, *words, "--json")
    assert 0 == code, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def spied_on(host: Host, tmp_path: Path) -> Host:
    """A host with the program."""
    script = tmp_path / "spy.sh"
    script.write_text(SPY.format(command=COMMAND, state=host.state))
    more = f'\n[sandbox]\nuse = "off"\n\n[functions.commands]\nspy = ["/bin/sh", "{script}"]\n'
    host.config.write_text(host.config.read_text() + more)
    return host


def test_a_person_may_what_a_job_may_not(spied_on: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """One daemon from its start to its drain, for each start costs seconds."""
    host = spied_on
    agent = host.start()
    agent.wait_for("agent.started")

    # A pause holds until it is ended.
    assert 0 == ask(host, "pause")[0]
    task = {"items": [{"id": "1", "input": "x"}], "target": {"kind": "command", "command": "spy"}}
    job_id = submitter.submit(task)
    assert told(host, "status")["paused_at"] is not None
    assert [] == told(host, "jobs")["jobs"]
    assert {"was_paused": True} == told(host, "resume")

    # The job's own process and one that has left its session are both refused.
    agent.wait_for("control.refused", times=2)
    (job,) = told(host, "jobs")["jobs"]
    assert (job_id, "Running", None) == (job["job_id"], job["status"], job["stop_reason"])
    assert not told(host, "status")["is_draining"]
    wait_until(lambda: "evil" in ask(host, "logs", job_id[:8])[1])
    assert r"evil \x1b]0;title\x07" in ask(host, "logs", job_id)[1]

    # Canceled here, the job is canceled for its submitter.
    assert 0 == ask(host, "cancel", job_id[:8])[0]
    wait_until(lambda: submitter.record(job_id)["status"] == "cancelled")
    assert "canceled on the host that ran it" == submitter.job(job_id)["status_history"][-1]["message"]

    # Without a server it is told at once what is the matter.
    plane.kill()
    wait_until(lambda: told(host, "status")["contact"]["trouble"] is not None)

    assert 0 == ask(host, "drain")[0]
    assert 0 == agent.exit_code(), agent.raw
    assert (3, True) == (lambda code, _out, err: (code, "no agent is running" in err))(*ask(host, "status"))


def test_a_reload_under_load_loses_no_job(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """Good and wrong configurations in turn, by command and by signal, and a new token, while jobs run."""
    good = host.config.read_text()
    jobs = [submitter.submit(inference(reviews(3))) for _ in range(8)]
    agent = host.start("--log-level", "debug")
    agent.wait_for("job.claimed")

    for turn in range(1, 4):
        host.config.write_text(good.replace("grace_s", f'slots = {turn}\nlabels = ["round-{turn}"]\ngrace_s'))
        assert ["agent.slots", "agent.labels"][turn == 1 :] == told(host, "reload")["applied"]
        host.config.write_text(good.replace("grace_s", "slots = 0\ngrace_s"))
        agent.signal(signal.SIGHUP)
        agent.wait_for("config.refused", times=turn)
        host.write_token(plane.agent_token)
    agent.wait_for("job.completed", times=len(jobs))
    status = told(host, "status")
    agent.signal(signal.SIGTERM)

    assert 0 == agent.exit_code(), agent.raw
    once = ["Pending", "Claimed", "Validating", "Running", "Uploading", "Completed"]
    assert [once] * len(jobs) == [submitter.history(job_id) for job_id in jobs]
    assert (3, 3) == (status["slots"], status["free_slots"])
    assert [] == [line for line in agent.lines if line["event"] in ("loop.failed", "config.not_reloaded")]
