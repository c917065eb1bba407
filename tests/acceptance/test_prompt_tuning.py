"""A prompt is tuned, from a request to its outcome: in the prompt-optimisation dialect, and over Lab's REST."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from host import Host, wait_until

from lab_server import LOST, LabServer, Reply
from server import ControlPlaneProcess
from zoo import Zoo
from zoo_writers import Writer, rows, tuned

VERSION = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
PROMPT = "Say right or wrong. worth=0.3"
MODELS = """
[models.tuned]
base_url = "{url}"
model = "tuned"

[models.writer]
base_url = "{url}"
model = "writer"
"""
PARAMETERS: dict[str, Any] = {
    "prompt": PROMPT,
    "target": {"model": "tuned", "temperature": 0.0},
    "analyzer_model": "writer",
    "num_iterations": 1,
    "candidates_per_iteration": 1,
}


@pytest.fixture
def writer() -> Writer:
    """Writes texts that make the model right; `texts` may be exchanged."""
    return Writer(["Say right or wrong, after some thought. worth=0.99"])


@pytest.fixture
def zoo(writer: Writer) -> Iterator[Zoo]:
    """A model that is tuned, and one that writes prompts for it."""
    with Zoo({"tuned": tuned, "writer": writer}) as running:
        yield running


def tuning_host(folder: Path, url: str, token: str, zoo: Zoo) -> Host:
    """A host that takes jobs of this type."""
    made = Host(folder, url, token, zoo.url, more='job_types = ["prompt_tuning"]')
    made.config.write_text(made.config.read_text() + MODELS.format(url=zoo.url))
    return made


def api(plane: ControlPlaneProcess, method: str, path: str, body: Any = None) -> Any:
    """What the control plane answers the submitter."""
    headers = {"Authorization": f"Bearer {plane.submit_token}"}
    answer = requests.request(method, f"{plane.url}{path}", json=body, headers=headers, timeout=20)
    assert answer.ok, answer.text
    return answer.json()


def request_tuning(plane: ControlPlaneProcess) -> str:
    """Ask for a better prompt over a new dataset; the path of the job."""
    project_id = plane.tokens.project_id
    told = {"name": "reviews", "slug": "reviews", "project": project_id}
    agent = api(plane, "POST", "/api/agents/", told)
    points = [{"input": row["input"], "expected_output": row["expected_output"]} for row in rows(40)]
    dataset = api(plane, "POST", "/api/datasets/", {"agent": agent["id"], "datapoints": points})
    root = f"/api/v2/projects/{project_id}/prompt-optimization-jobs"
    body = {"prompt_template_version_id": VERSION, "dataset_id": dataset["id"], "parameters": PARAMETERS}
    made = api(plane, "POST", root, body)
    return f"{root}/{made['job_id']}"


@pytest.mark.parametrize(("worth", "is_better"), [(0.99, True), (0.3, False)])
def test_a_request_ends_with_a_new_version_only_where_there_is_a_gain(
    plane: ControlPlaneProcess, zoo: Zoo, writer: Writer, tmp_path: Path, worth: float, is_better: bool
) -> None:
    """A version that is no better has no id, and the summary says why; the job is completed all the same."""
    writer.change([f"Say right or wrong, after some thought. worth={worth}"])
    job = request_tuning(plane)
    host = tuning_host(tmp_path / "tuning-host", plane.url, plane.agent_token, zoo)

    agent = host.once()

    assert "completed" == agent.summary["outcome"], agent.raw
    document = api(plane, "GET", job)
    job_id = document["job_id"]
    record = api(plane, "GET", f"/api/jobs/{job_id}/")
    assert ("completed", VERSION) == (document["status"], document["original_version_id"])
    assert is_better is (document["optimized_version_id"] is not None)
    assert document["changes_summary"].startswith("Promoted: " if is_better else "Not ")
    assert document["progress"]["step"] == document["progress"]["total_steps"]
    assert (0, 40) == (
        document["data_sources_used"]["human_labels_count"], document["data_sources_used"]["rows_total"]
    )  # fmt: skip
    assert is_better is (record["improvement"] > 0)
    assert (record["best_agent_code"] != PROMPT) is is_better
    assert record["report_markdown"].startswith("# Prompt tuning")
    steps = [(step["iteration_name"], step["status"]) for step in record["iterations"]]
    assert [("baseline", "keep"), ("i01c1", "keep"), ("holdout", "keep")] == steps or not is_better
    assert "baseline" == steps[0][0]
    assert "iterations" not in record["result"]


def test_the_steps_are_seen_while_the_search_goes_on_and_once_each_after_a_kill(
    plane: ControlPlaneProcess, zoo: Zoo, tmp_path: Path
) -> None:
    """The first life is killed amid the search; the second one tells its steps again."""
    job = request_tuning(plane)
    job_id = job.rpartition("/")[2]
    host = tuning_host(tmp_path / "killed-host", plane.url, plane.agent_token, zoo)
    text = host.config.read_text()
    host.config.write_text(text.replace("[control_plane]\n", "[control_plane]\nheartbeat_s = 1\n"))

    def names() -> list[str]:
        return [step["iteration_name"] for step in api(plane, "GET", f"/api/jobs/{job_id}/")["iterations"]]

    zoo.close_gate(after=22)  # the baseline takes 20
    first = host.start("--once")
    wait_until(lambda: "baseline" in names())
    status = api(plane, "GET", job)["status"]
    first.signal(signal.SIGKILL)
    first.exit_code()
    zoo.open_gate()
    second = host.once()

    assert ("running", "completed") == (status, second.summary["outcome"]), second.raw
    assert ["baseline", "i01c1", "holdout"] == names()


def test_the_iterations_are_listed_once_in_a_server_of_records(zoo: Zoo, tmp_path: Path) -> None:
    """An answer that is lost makes the last word be said again, not an iteration be listed twice."""
    with LabServer() as lab:
        job_id = lab.submit({**PARAMETERS, "items": rows(40)}, job_type="prompt_tuning")
        lab.script("POST", LOST)
        host = tuning_host(tmp_path / "lab-host", lab.url, lab.token, zoo)
        text = host.config.read_text()
        adapter = '[control_plane]\nadapter = "overmind-lab"\nheartbeat_s = 2\n'
        host.config.write_text(text.replace("[control_plane]\n", adapter))

        agent = host.once()

        record = lab.jobs[job_id]
        assert "completed" == record["status"], agent.raw
        names = [step["iteration_name"] for step in record["iterations"]]
        assert ["baseline", "i01c1", "holdout"] == names
        assert record["improvement"] > 0


def test_no_iteration_is_lost_or_listed_twice_when_three_posts_of_ten_fail(zoo: Zoo, tmp_path: Path) -> None:
    """Some are refused, some take effect and their answer is lost; what is listed is read before each."""
    of_ten = (_served, Reply(503), _served, LOST, _served, _served, Reply(503), _served, _served, _served)
    drafts = [f"Think {n} times. worth=0.9{n}" for n in range(8)]
    with LabServer() as lab:
        parameters = {**PARAMETERS, "items": rows(40), "search": "best_of_n", "num_iterations": 8, "drafts": drafts}
        job_id = lab.submit(parameters, job_type="prompt_tuning")
        lab.script("POST", *of_ten * 20)
        host = tuning_host(tmp_path / "lab-host", lab.url, lab.token, zoo)
        text = host.config.read_text()
        adapter = '[control_plane]\nadapter = "overmind-lab"\nheartbeat_s = 1\n'
        host.config.write_text(text.replace("[control_plane]\n", adapter))

        agent = host.once()

        record = lab.jobs[job_id]
        posts = sum(method == "POST" for method, _ in lab.calls)
    assert "completed" == record["status"], agent.raw
    names = [step["iteration_name"] for step in record["iterations"]]
    assert ["baseline", *(f"i{n:02}c1" for n in range(1, 9)), "holdout"] == names
    assert posts >= len(names) + 2, "refused ones are sent again"


def _served() -> None:
    """The request is served as any other."""
