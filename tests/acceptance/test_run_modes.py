"""`run` with an end: one named job, so many jobs, or until there is nothing more to do."""

from __future__ import annotations

import signal

import pytest
from host import Host, Submitter, inference, reviews


def test_one_named_job_and_no_other(host: Host, submitter: Submitter) -> None:
    other = submitter.submit(inference(reviews(2)))
    wanted = submitter.submit(inference(reviews(2)))

    agent = host.start("--job", wanted)

    assert 0 == agent.exit_code(), agent.raw
    assert ("completed", wanted) == (agent.summary["outcome"], agent.summary["job_id"])
    assert "pending" == submitter.record(other)["status"]


def test_so_many_jobs_over_all_slots(host: Host, submitter: Submitter) -> None:
    """The third waits for the next start; one that failed makes the exit code 1."""
    first = submitter.submit(inference(reviews(2)))
    broken = submitter.submit({"items": []})
    third = submitter.submit(inference(reviews(2)))

    agent = host.start("--max-jobs", "2", "--slots", "2")

    assert 1 == agent.exit_code(), agent.raw
    told = agent.summary
    assert ("done", {"completed": 1, "failed": 1}) == (told["outcome"], told["counts"])
    assert {first, broken} == {job["job_id"] for job in told["jobs"]}
    assert "pending" == submitter.record(third)["status"]


def test_until_there_is_nothing_more_to_do(host: Host, submitter: Submitter) -> None:
    ids = {submitter.submit(inference(reviews(2))) for _ in range(3)}

    agent = host.start("--idle-timeout", "1", "--slots", "2")

    assert 0 == agent.exit_code(), agent.raw
    assert ids == {job["job_id"] for job in agent.summary["jobs"]}


@pytest.mark.parametrize("arguments", [["--max-uptime", "0.5"], ["--idle-timeout", "0"]])
def test_without_a_job_it_ends_and_says_so(host: Host, arguments: list[str]) -> None:
    agent = host.start(*arguments)

    assert 0 == agent.exit_code(), agent.raw
    assert {"outcome": "no_job", "counts": {}, "jobs": []} == agent.summary


def test_a_hangup_and_a_question_end_nothing(host: Host) -> None:
    agent = host.start(OVERMIND_AGENT_CONTROL_PLANE__POLL_WAIT_S="0")
    agent.wait_for("worker.no_job")

    agent.signal(signal.SIGHUP)
    agent.wait_for("config.reloaded")
    agent.signal(signal.SIGUSR1)
    stacks = agent.wait_for("agent.stacks")["stacks"]
    agent.signal(signal.SIGTERM)

    assert 0 == agent.exit_code()
    assert {"MainThread", "worker-1", "heartbeat", "delivery"} <= set(stacks)
