"""What a crash, an outage and a signal leave: nothing lost, nothing paid twice, nothing uploaded twice."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

from host import Host, Submitter, inference, jsonl, reviews, wait_until

from server import ControlPlaneProcess
from zoo import Zoo

IN_FLIGHT = 4  # the concurrency of the jobs below


def test_a_killed_agent_finishes_the_job_as_the_same_attempt(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """`kill -9` among the rows: what was answered is not asked again, and no child outlives its agent."""
    rows = reviews(40)
    zoo.close_gate(after=20)
    job_id = submitter.submit(inference(rows))
    first = host.start("--once")
    zoo.wait_for_calls(20 + IN_FLIGHT)
    first.signal(signal.SIGKILL)
    first.exit_code()
    zoo.open_gate()

    second = host.once()

    assert ("completed", 1) == (second.summary["outcome"], second.summary["attempt"]), second.raw
    assert 1 == submitter.history(job_id).count("Claimed")
    asked_again = {text: calls for text, calls in zoo.calls.items() if calls > 1}
    assert set(zoo.calls) == {row["input"] for row in rows}
    assert len(asked_again) <= IN_FLIGHT
    assert 40 == len(jsonl(submitter.files(job_id)["output.jsonl"]))
    assert [] == host.children()


def test_a_child_dies_with_its_agent(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """Nothing goes on spending money when nobody can receive the result."""
    zoo.close_gate(after=0)
    submitter.submit(inference(reviews(4)))
    agent = host.start("--once")
    zoo.wait_for_calls(1)

    agent.signal(signal.SIGKILL)
    agent.exit_code()

    wait_until(lambda: host.children() == [])


def test_a_killed_agent_uploads_no_file_twice(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """Killed at each file's upload, one after the other: each run goes on behind what is stored."""
    too_much_for_the_last_word = [{**row, "expected_output": "!" * 80_000} for row in reviews(4)]
    job_id = submitter.submit(inference(too_much_for_the_last_word))
    kills = 0
    for _ in range(3):
        agent = host.start("--once")
        agent.wait_for("job.file_uploaded")
        agent.signal(signal.SIGKILL)
        kills += agent.exit_code() == -signal.SIGKILL

    last = host.once()

    names = set(submitter.files(job_id))  # refuses two files of one name
    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == names
    assert "completed" == submitter.record(job_id)["status"]
    assert 0 == last.process.returncode
    assert kills > 0


def test_an_agent_that_is_killed_after_its_last_word_sends_it_with_its_files(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """The next start has nothing to run: the word is in its journal, the files are in the job's folder."""
    job_id = submitter.submit(inference(reviews(4)))
    zoo.close_gate(after=0)
    agent = host.start("--once")
    zoo.wait_for_calls(1)
    plane.kill()
    zoo.open_gate()
    agent.wait_for("job.completed")
    agent.signal(signal.SIGKILL)
    agent.exit_code()
    plane.restart()

    again = host.once()

    assert 1 == submitter.history(job_id).count("Running")
    assert "completed" == submitter.record(job_id)["status"]
    names = set(submitter.files(job_id))  # refuses two files of one name
    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == names
    assert 0 == again.process.returncode
    assert {1} == set(zoo.calls.values())


def test_an_outage_only_delays_a_job(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """The control plane goes away among the rows and comes back when the agent has tried in vain for a while."""
    zoo.close_gate(after=5)
    job_id = submitter.submit(inference(reviews(20)))
    agent = host.start("--once")
    zoo.wait_for_calls(5 + IN_FLIGHT)
    plane.kill()
    zoo.open_gate()
    agent.wait_for("control_plane.retry_scheduled")
    agent.wait_for("job.uploading")

    plane.restart()

    assert 0 == agent.exit_code(), agent.raw
    assert ("completed", True) == (agent.summary["outcome"], agent.summary["delivered"])
    assert "completed" == submitter.record(job_id)["status"]
    assert 1 == submitter.history(job_id).count("Claimed")
    assert {1} == set(zoo.calls.values())


def test_a_lost_lease_gives_the_job_back_and_nothing_is_asked_twice(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """
    An agent that was dead for longer than its lease claims the job anew, as the second attempt, and finds in the
    job's folder what the first one paid for.
    """
    plane.stop()
    plane.lease_s = 2.0
    plane.start(int(plane.url.rpartition(":")[2]))
    zoo.close_gate(after=10)
    job_id = submitter.submit(inference(reviews(20)))
    first = host.start("--once")
    zoo.wait_for_calls(10 + IN_FLIGHT)
    first.signal(signal.SIGKILL)
    first.exit_code()
    zoo.open_gate()
    wait_until(lambda: submitter.history(job_id)[-1] == "Pending")

    second = host.once("--wait", "20")

    assert ("completed", 2) == (second.summary["outcome"], second.summary["attempt"]), second.raw
    assert len([text for text, calls in zoo.calls.items() if calls > 1]) <= IN_FLIGHT


def test_the_first_signal_lets_the_job_end(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """SIGTERM drains: the job at hand is finished and reported, the next one is not taken, the exit code is 0."""
    zoo.close_gate(after=2)
    first_id = submitter.submit(inference(reviews(6)))
    second_id = submitter.submit(inference(reviews(6)))
    agent = host.start()
    zoo.wait_for_calls(2)
    agent.signal(signal.SIGTERM)
    agent.wait_for("agent.draining")
    zoo.open_gate()

    assert 0 == agent.exit_code()
    assert "completed" == submitter.record(first_id)["status"]
    assert ["Pending"] == submitter.history(second_id)[-1:]
    assert "Claimed" not in submitter.history(second_id)


def test_the_second_signal_gives_the_job_back(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """
    The job is released, not failed, and to be had a second later at most; the agent that takes it next, here the
    same one, goes on with its rows.
    """
    zoo.close_gate(after=4)
    job_id = submitter.submit(inference(reviews(10)))
    agent = host.start()
    zoo.wait_for_calls(4 + IN_FLIGHT)
    agent.signal(signal.SIGTERM)
    agent.wait_for("agent.draining")
    agent.signal(signal.SIGTERM)

    code = agent.exit_code()
    released = _moment(agent.wait_for("job.released")["timestamp"])
    waits_again = _moment(submitter.job(job_id)["status_history"][-1]["created"])
    zoo.open_gate()
    after = host.once()

    assert 0 == code
    assert (waits_again - released).total_seconds() < 1
    assert ["Pending", "Claimed"] == _around_release(submitter.history(job_id))
    assert ("completed", 2) == (after.summary["outcome"], after.summary["attempt"])
    assert len([text for text, calls in zoo.calls.items() if calls > 1]) <= IN_FLIGHT


def test_a_canceled_job_stops_and_is_no_failure(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """A person cancels among the rows: the child ends, and the job carries no error text."""
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(6)))
    agent = host.start("--once")
    zoo.wait_for_calls(2)

    submitter.cancel(job_id)

    assert 1 == agent.exit_code()
    assert "canceled" == agent.summary["outcome"]
    assert "cancelled" == submitter.record(job_id)["status"]
    assert [] == host.children()


def test_an_idle_daemon_leaves_at_once(host: Host) -> None:
    """A poll that is held open does not hold up the end."""
    agent = host.start()
    agent.wait_for("agent.started")
    agent.signal(signal.SIGTERM)

    assert 0 == agent.exit_code()
    assert json.loads(agent.out[-1])["event"] == "agent.stopped"


def test_a_new_token_is_used_without_a_restart(
    host: Host, plane: ControlPlaneProcess, submitter: Submitter
) -> None:
    """A rotated key is read from its file; the daemon goes on."""
    agent = host.start()
    agent.wait_for("agent.started")
    host.write_token(plane.admin_token)
    job_id = submitter.submit(inference(reviews(2)))

    agent.wait_for("outbox.delivered", job_id=job_id, status="Completed")

    assert "completed" == submitter.record(job_id)["status"]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _around_release(history: list[str]) -> list[str]:
    """The release and what follows it."""
    last = len(history) - 1 - history[::-1].index("Pending")
    return history[last : last + 2]


def test_a_refused_token_costs_no_job(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    """The token is revoked among the rows; with a new one in its file the same attempt is finished."""
    zoo.close_gate(after=4)
    job_id = submitter.submit(inference(reviews(10)))
    agent = host.start()
    zoo.wait_for_calls(4 + IN_FLIGHT)
    host.write_token("ovr_revoked")
    agent.wait_for("control_plane.token_refused")
    host.write_token(plane.agent_token)
    zoo.open_gate()

    agent.wait_for("outbox.delivered", job_id=job_id, status="Completed")

    assert 1 == submitter.history(job_id).count("Claimed")
