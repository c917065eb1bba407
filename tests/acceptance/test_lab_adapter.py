"""The daemon with `control_plane.adapter = "overmind-lab"`: against a server of records alone, and against ours."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import Host, Submitter, inference, jsonl, reviews, wait_until

from lab_server import LOST, LabServer, Reply
from server import ControlPlaneProcess, start_control_plane
from zoo import Status, Zoo

IN_FLIGHT = 4  # the concurrency of the jobs below


@pytest.fixture
def lab() -> Iterator[LabServer]:
    """A server that has the Overmind Lab dialect and nothing else."""
    with LabServer() as running:
        yield running


def speaks_lab(host: Host) -> Host:
    """*host*, with the other adapter."""
    text = host.config.read_text()
    host.config.write_text(
        text.replace("[control_plane]\n", '[control_plane]\nadapter = "overmind-lab"\nheartbeat_s = 2\n')
    )
    return host


@pytest.fixture
def lab_host(tmp_path: Path, lab: LabServer, zoo: Zoo) -> Iterator[Host]:
    """A worker host of that server."""
    made = speaks_lab(Host(tmp_path / "lab-host", lab.url, lab.token, zoo.url))
    yield made
    made.stop_all()


def kept(host: Host, job_id: str) -> dict[str, bytes]:
    """The result files of a job on *host*."""
    return {path.name: path.read_bytes() for path in (host.state / "results" / job_id).iterdir()}


# ------------------------------------------------------------------------------------ records and nothing else


def test_a_job_is_completed_in_a_server_of_records_alone(lab_host: Host, lab: LabServer) -> None:
    """Outcome in the record, files on the host, and the record says where and with which digests."""
    parameters = inference(reviews(12))
    job_id = lab.submit(parameters)

    agent = lab_host.once()

    assert ("completed", 0) == (agent.summary["outcome"], agent.process.returncode), agent.raw
    record = lab.jobs[job_id]
    result = record["result"]
    assert "completed" == record["status"]
    assert (parameters, {"spans": 3}) == (result["parameters"], result["validation_stats"])
    assert 12 == result["accuracy"]["correct"]
    files = kept(lab_host, job_id)
    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == set(
        files
    )
    assert 12 == len(jsonl(files["output.jsonl"]))
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == {
        line["name"]: line["sha256"] for line in result["files"]
    }
    folder = lab_host.state / "results" / job_id
    assert {f"host:test host:{folder / name}" for name in files} == {line["ref"] for line in result["files"]}
    run = result["agent_run"]
    assert (1, "Completed", record["celery_task_id"]) == (run["attempt"], run["phase"], run["run_id"])
    assert run["started_at"] < run["finished_at"]


def test_nothing_but_that_api_is_asked_and_nothing_is_put(lab_host: Host, lab: LabServer) -> None:
    """The paths of the other dialects are not even tried."""
    lab.submit(inference(reviews(2)))

    lab_host.once()

    paths = {path.partition("?")[0].rpartition("/api/")[2].partition("/")[0] for _, path in lab.calls}
    assert {"auth", "jobs"} == paths
    assert {"GET", "PATCH"} == {method for method, _ in lab.calls}


def test_nothing_to_do_is_no_failure(lab_host: Host, lab: LabServer) -> None:
    """A job of a type that this host does not run is nothing to do, either."""
    job_id = lab.submit({}, job_type="something_else")

    agent = lab_host.once()

    assert (0, "no_job") == (agent.process.returncode, agent.summary["outcome"])
    assert [] == lab.written(job_id)


def test_a_cancel_is_noticed_by_reading(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """Nobody tells the agent; it looks at the record every two seconds."""
    zoo.close_gate(after=2)
    job_id = lab.submit(inference(reviews(6)))
    agent = lab_host.start("--once")
    zoo.wait_for_calls(2)

    lab.jobs[job_id]["status"] = "cancelled"

    assert 1 == agent.exit_code()
    assert "canceled" == agent.summary["outcome"]
    assert "cancelled" == lab.jobs[job_id]["status"]
    assert "errors" not in lab.jobs[job_id]["result"]
    assert [] == lab_host.children()


def test_a_job_that_another_run_took_over_is_dropped(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """What the window of the claim may let through: the last writer has the job, the other one says nothing."""
    zoo.close_gate(after=2)
    job_id = lab.submit(inference(reviews(6)))
    agent = lab_host.start("--once")
    zoo.wait_for_calls(2)

    lab.jobs[job_id] |= {"celery_task_id": "somebody else's"}
    agent.exit_code()

    assert "lost" == agent.summary["outcome"]
    assert "running" == lab.jobs[job_id]["status"]
    assert [] == lab_host.children()


def test_progress_is_in_the_record(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """Under the three names of the prompt-optimisation dialect."""
    zoo.close_gate(after=5)
    job_id = lab.submit(inference(reviews(20), concurrency=1))  # so that the first five rows are the five answered
    agent = lab_host.start("--once")
    zoo.wait_for_calls(5 + 1)

    wait_until(lambda: lab.jobs[job_id]["result"].get("progress", {}).get("step") == 5)
    progress = lab.jobs[job_id]["result"]["progress"]
    zoo.open_gate()

    assert 0 == agent.exit_code()
    assert (5, 20) == (progress["step"], progress["total_steps"])


def test_a_killed_agent_goes_on_as_the_same_attempt(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """`kill -9` among the rows: the record still names our run, and what was answered is not asked again."""
    zoo.close_gate(after=20)
    job_id = lab.submit(inference(reviews(40)))
    first = lab_host.start("--once")
    zoo.wait_for_calls(20 + IN_FLIGHT)
    run_id = lab.jobs[job_id]["celery_task_id"]
    first.signal(signal.SIGKILL)
    first.exit_code()
    zoo.open_gate()

    second = lab_host.once()

    assert ("completed", 1) == (second.summary["outcome"], second.summary["attempt"]), second.raw
    assert run_id == lab.jobs[job_id]["celery_task_id"]
    assert len([text for text, calls in zoo.calls.items() if calls > 1]) <= IN_FLIGHT
    assert 40 == len(jsonl(kept(lab_host, job_id)["output.jsonl"]))


def test_a_lost_answer_to_a_claim_is_found_in_the_record(lab_host: Host, lab: LabServer) -> None:
    """The write took effect: the record has our run and our key."""
    job_id = lab.submit(inference(reviews(2)))
    lab.script("PATCH", LOST)

    agent = lab_host.once()

    assert ("completed", 1) == (agent.summary["outcome"], agent.summary["attempt"]), agent.raw
    assert 1 == lab.jobs[job_id]["result"]["agent_run"]["attempt"]


def test_the_last_word_survives_an_outage(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """Nothing is asked twice for the sake of an answer that got lost."""
    zoo.close_gate(after=2)
    job_id = lab.submit(inference(reviews(4)))
    agent = lab_host.start("--once")
    zoo.wait_for_calls(2)
    lab.script(
        "PATCH", Reply(503), Reply(502, "<html>", "text/html"), LOST, Reply(500, {"detail": "…", "code": "x"})
    )
    zoo.open_gate()

    assert 0 == agent.exit_code(), agent.raw
    assert ("completed", "completed") == (agent.summary["outcome"], lab.jobs[job_id]["status"])
    assert {1} == set(zoo.calls.values())


def test_a_failed_job_says_why_in_its_record(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """A code for programs, a message for people, the parameters as they were."""
    zoo.fail("", Status(400))
    parameters = inference(reviews(2))
    job_id = lab.submit(parameters)

    agent = lab_host.once()

    (error,) = lab.jobs[job_id]["result"]["errors"]
    assert ("failed", 1) == (lab.jobs[job_id]["status"], agent.process.returncode)
    assert (agent.summary["reason"], agent.summary["message"]) == (error["code"], error["message"])
    assert parameters == lab.jobs[job_id]["result"]["parameters"]


@pytest.mark.parametrize("result", [None, "text"])
def test_a_record_without_parameters_fails_and_the_next_one_runs(
    lab_host: Host, lab: LabServer, result: Any
) -> None:
    """Whatever JSON stands there."""
    bad_id = lab.submit({}, result=result)
    good_id = lab.submit(inference(reviews(1)))
    agent = lab_host.start()

    agent.wait_for("outbox.delivered", job_id=good_id, status="Completed")

    (error,) = lab.jobs[bad_id]["result"]["errors"]
    assert ("failed", "invalid_input") == (lab.jobs[bad_id]["status"], error["code"])


def test_the_second_signal_gives_the_job_back(lab_host: Host, lab: LabServer, zoo: Zoo) -> None:
    """It is pending again, and the next claim is the second attempt, on the rows of the first."""
    zoo.close_gate(after=4)
    job_id = lab.submit(inference(reviews(10)))
    agent = lab_host.start()
    zoo.wait_for_calls(4 + IN_FLIGHT)
    agent.signal(signal.SIGTERM)
    agent.wait_for("agent.draining")
    agent.signal(signal.SIGTERM)
    agent.exit_code()
    between = lab.jobs[job_id]["status"]
    zoo.open_gate()

    after = lab_host.once()

    assert "pending" == between
    assert ("completed", 2) == (after.summary["outcome"], after.summary["attempt"]), after.raw
    assert len([text for text, calls in zoo.calls.items() if calls > 1]) <= IN_FLIGHT


def test_a_wrong_token_is_exit_code_77(lab_host: Host) -> None:
    """`auth/me/` says so before anything else is tried."""
    lab_host.write_token("ovr_wrong")

    assert 77 == lab_host.once().process.returncode


def test_the_host_is_ready(lab_host: Host) -> None:
    """`overmind-agent check` asks this server what this server has."""
    grades = lab_host.check()

    assert {"ok"} == {grades[code] for code in ("connection", "extensions", "token", "clock")}


def test_a_wrong_token_is_found_by_the_check(lab_host: Host) -> None:
    """By asking who it belongs to."""
    lab_host.write_token("ovr_wrong")

    assert "failed" == lab_host.check()["token"]


# ------------------------------------------------------------------------------------ our own control plane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlaneProcess]:
    """Ours, which writes down what it is asked for."""
    with start_control_plane(tmp_path, arguments=("--log-level", "debug")) as running:
        yield running


def test_a_job_is_completed_in_our_own_control_plane(
    host: Host, plane: ControlPlaneProcess, submitter: Submitter
) -> None:
    """Through the same dialect: its guards get in nobody's way, and the record reads as with the other adapter."""
    parameters = inference(reviews(6))
    job_id = submitter.submit(parameters)

    agent = speaks_lab(host).once()

    assert "completed" == agent.summary["outcome"], agent.raw
    assert "/api/v2/" not in plane.log
    record = submitter.record(job_id)
    assert ("completed", parameters) == (record["status"], record["result"]["parameters"])
    assert 6 == record["result"]["accuracy"]["correct"]
    assert set(kept(host, job_id)) == {line["name"] for line in record["result"]["files"]}
    assert "Completed" == submitter.history(job_id)[-1]


def test_the_rows_of_a_dataset_are_read(host: Host, submitter: Submitter, plane: ControlPlaneProcess) -> None:
    """Through the same dialect; a row keeps its datapoint's id."""
    about = {"name": "shop", "slug": "shop", "project": plane.tokens.project_id}
    target = submitter.call("POST", "/api/agents/", json=about)["id"]
    points = [{"input": row["input"], "expected_output": row["expected_output"]} for row in reviews(60)]
    dataset = submitter.call("POST", "/api/datasets/", json={"agent": target, "datapoints": points})
    parameters = {key: value for key, value in inference([]).items() if key != "items"}
    job_id = submitter.submit({**parameters, "dataset_id": dataset["id"]})

    agent = speaks_lab(host).once()

    assert "completed" == agent.summary["outcome"], agent.raw
    rows = jsonl(kept(host, job_id)["output.jsonl"])
    assert [point["id"] for point in dataset["datapoints"]] == [row["custom_id"] for row in rows]


def test_a_cancel_in_our_own_control_plane_is_noticed(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """Written in the one dialect or the other."""
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(6)))
    agent = speaks_lab(host).start("--once")
    zoo.wait_for_calls(2)

    submitter.call("PATCH", f"/api/jobs/{job_id}/", json={"status": "cancelled"})

    assert 1 == agent.exit_code()
    assert ("canceled", "cancelled") == (agent.summary["outcome"], submitter.record(job_id)["status"])
