"""One record, three dialects: what is made in any of them reads the same in the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from plane_calls import Project

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane import dialects
from overmind_controlplane.dialects import Dialect

# Every status, and how it is written in agent-pull, in Overmind Lab and in prompt optimisation.
WORDS = [
    (Status.CREATED, "Created", "pending", "pending"),
    (Status.PENDING, "Pending", "pending", "pending"),
    (Status.CLAIMED, "Claimed", "running", "running"),
    (Status.VALIDATING, "Validating", "running", "running"),
    (Status.RUNNING, "Running", "running", "running"),
    (Status.UPLOADING, "Uploading", "running", "running"),
    (Status.COMPLETED, "Completed", "completed", "completed"),
    (Status.FAILED, "Failed", "failed", "failed"),
    (Status.CANCELED, "Canceled", "cancelled", "cancelled"),
]


def test_every_status_that_can_be_written_has_a_word_in_every_dialect() -> None:
    table = {status: tuple(dialects.word(status, dialect) for dialect in Dialect) for status, *_ in WORDS}

    assert {status: tuple(words) for status, *words in WORDS} == table
    assert set(LIFECYCLE) - {Status.UNKNOWN} == set(table)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_every_word_leads_back_to_all_its_statuses(dialect: Dialect) -> None:
    place = 1 + list(Dialect).index(dialect)

    for said in {row[place] for row in WORDS}:
        assert {row[0] for row in WORDS if row[place] == said} == dialects.statuses(said, dialect)


def test_a_word_of_another_dialect_is_no_word() -> None:
    """`canceled` has one l in the ten names and two in the five words; neither stands in for the other."""
    assert frozenset() == dialects.statuses("Canceled", Dialect.LAB)
    assert frozenset() == dialects.statuses("canceled", Dialect.LAB)
    assert frozenset() == dialects.statuses("cancelled", Dialect.PULL)
    assert frozenset() == dialects.statuses("", Dialect.LAB)
    assert "cancelled" == dialects.OTHER_SPELLINGS["canceled"]


def test_what_is_written_in_five_words_is_read_back_as_the_same_word() -> None:
    read = {said: dialects.word(status, Dialect.LAB) for said, status in dialects.WRITTEN.items()}

    assert {said: said for said in {row[2] for row in WORDS}} == read


# ------------------------------------------------------------------------------- over a real server

PROMPT = "Say whether the review is positive or negative."
PARAMETERS = {"prompt": PROMPT, "num_iterations": 2, "run_test_after_optimization": False}
OUTCOME = {
    "baseline_score": 61.5,
    "best_score": 70.0,
    "improvement": 8.5,
    "optimized_version_id": "7a5e6f3c-1f4f-4d5a-9f57-3c8a4f0a7f11",
    "changes_summary": "names both labels",
    "data_sources_used": {"human_labels_count": 3, "customer_feedback_count": 0},
}


@dataclass(frozen=True)
class Seen:
    """One job as the three dialects show it."""

    pull: dict[str, Any]
    lab: dict[str, Any]
    optimisation: dict[str, Any]


def root(project: Project) -> str:
    """Where the prompt-optimisation jobs of a project are."""
    return f"/api/v2/projects/{project.tokens.project_id}/prompt-optimization-jobs"


def see(project: Project, job_id: str) -> Seen:
    """Read a job in every dialect."""
    api = project.submit
    return Seen(
        api.job(job_id), api.read("GET", f"/api/jobs/{job_id}/"), api.read("GET", f"{root(project)}/{job_id}")
    )


def make_dataset(project: Project) -> str:
    """A dataset of two datapoints; its id."""
    told = {"name": "reviews", "slug": "reviews", "project": project.tokens.project_id}
    agent = project.submit.read("POST", "/api/agents/", told, status=201)
    points = [{"input": {"text": "good"}, "expected_output": "positive"}, {"input": {"text": "bad"}}]
    body = {"agent": agent["id"], "datapoints": points}
    made: str = project.submit.read("POST", "/api/datasets/", body, status=201)["id"]
    return made


def make_in_pull(project: Project) -> str:
    made: str = project.submit.make_job(PARAMETERS, "@overmind:prompt_tuning")["id"]
    return made


def make_in_lab(project: Project) -> str:
    body = {"job_type": "prompt_tuning", "status": "pending", "result": {"parameters": PARAMETERS}}
    made: str = project.submit.read("POST", "/api/jobs/", body, status=201)["id"]
    return made


def make_in_optimisation(project: Project) -> str:
    body = {
        "prompt_template_version_id": "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e",
        "dataset_id": make_dataset(project),
        "run_test_after_optimization": False,
        "parameters": {"prompt": PROMPT, "num_iterations": 2},
    }
    made: str = project.submit.read("POST", root(project), body, status=202)["job_id"]
    return made


MAKERS: dict[Dialect, Callable[[Project], str]] = {
    Dialect.PULL: make_in_pull,
    Dialect.LAB: make_in_lab,
    Dialect.OPTIMISATION: make_in_optimisation,
}

made_in = pytest.mark.parametrize("maker", list(MAKERS))


@made_in
def test_a_job_made_in_one_dialect_is_the_same_job_in_the_others(project: Project, maker: Dialect) -> None:
    job_id = MAKERS[maker](project)

    seen = see(project, job_id)

    assert (job_id, job_id, job_id) == (seen.pull["id"], seen.lab["id"], seen.optimisation["job_id"])
    assert ("@overmind:prompt_tuning", "prompt_tuning") == (seen.pull["function"]["name"], seen.lab["job_type"])
    parameters = seen.lab["result"]["parameters"]
    assert PARAMETERS == {name: parameters[name] for name in PARAMETERS}
    content = project.agent.get_blob(seen.pull["file"]["revisions"][-1]["content_token"]["sha"])
    assert f'"prompt": "{PROMPT}"'.encode() in content
    assert seen.optimisation["run_test_after_optimization"] is False
    assert seen.lab["created_at"] == seen.optimisation["created_at"]
    lists = [
        {job["id"] for job in project.submit.read("GET", "/api/v2/jobs")["items"]},
        {job["id"] for job in project.submit.read("GET", "/api/jobs/")["results"]},
        {job["job_id"] for job in project.submit.read("GET", root(project))["data"]},
    ]
    assert [{job_id}] * 3 == lists


@made_in
def test_every_status_is_read_in_every_dialect(project: Project, maker: Dialect) -> None:
    agent_id = project.agent.register()
    expected, read = [], []

    for status, *words in WORDS[1:]:
        job_id = MAKERS[maker](project)
        if status in (Status.FAILED, Status.CANCELED):
            project.agent.walk(job_id, agent_id, "Running")
            project.agent.say(job_id, status.value, agent_id)
        elif status is not Status.PENDING:
            project.agent.walk(job_id, agent_id, status.value)
        seen = see(project, job_id)
        expected.append(tuple(words))
        read.append((seen.pull["status_history"][-1]["name"], seen.lab["status"], seen.optimisation["status"]))
        if maker is Dialect.OPTIMISATION:
            break_slug(project)

    assert expected == read


def break_slug(project: Project) -> None:
    """Let the next dataset have a target agent of the same name."""
    for agent in project.submit.read("GET", "/api/agents/")["results"]:
        project.submit.call("DELETE", f"/api/agents/{agent['id']}/")


@made_in
def test_progress_and_outcome_are_read_in_every_dialect(project: Project, maker: Dialect) -> None:
    job_id = MAKERS[maker](project)
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Running")
    line = {"step": 2, "total_steps": 6, "step_name": "iteration 1 of 2"}

    figures = {"usd": 0.41, "eta_s": 310.0}

    project.agent.heartbeat(agent_id, (job_id, 1), progress=line | figures)
    running = see(project, job_id)
    project.agent.say(job_id, "Uploading", agent_id)
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": OUTCOME}})
    done = see(project, job_id)

    assert (line | figures, line) == (running.lab["result"]["progress"], running.optimisation["progress"])
    ended = {"step": 6, "total_steps": 6, "step_name": "done"}
    assert (ended | {"usd": 0.41}, ended) == (done.lab["result"]["progress"], done.optimisation["progress"])
    assert OUTCOME == done.pull["status_history"][-1]["detail"]["outcome"]
    scores = ("baseline_score", "best_score", "improvement")
    assert {name: OUTCOME[name] for name in scores} == {name: done.lab[name] for name in scores}
    assert OUTCOME == {name: done.lab["result"][name] for name in OUTCOME}
    told = set(OUTCOME) - set(scores)
    assert {name: OUTCOME[name] for name in told} == {name: done.optimisation[name] for name in told}
    assert done.lab["result"]["agent_run"]["finished_at"] == done.optimisation["completed_at"]


@made_in
def test_a_failure_is_read_in_every_dialect(project: Project, maker: Dialect) -> None:
    job_id = MAKERS[maker](project)
    agent_id = project.agent.register()
    project.agent.say(job_id, "Claimed", agent_id)

    body = {"message": "no room on the disk", "detail": {"reason": "no_room"}}
    project.agent.say(job_id, "Failed", agent_id, body=body)
    seen = see(project, job_id)

    assert "no room on the disk" == seen.pull["status_history"][-1]["message"]
    assert [("no_room", "no room on the disk")] == [
        (error["code"], error["message"]) for error in seen.lab["result"]["errors"]
    ]
    assert "no room on the disk" == seen.optimisation["error_message"]


def cancel_in_pull(project: Project, job_id: str) -> int:
    return project.submit.cancel(job_id).status_code


def cancel_in_lab(project: Project, job_id: str) -> int:
    return project.submit.call("PATCH", f"/api/jobs/{job_id}/", {"status": "cancelled"}).status_code


def cancel_in_optimisation(project: Project, job_id: str) -> int:
    return project.submit.call("POST", f"{root(project)}/{job_id}/cancel").status_code


@made_in
@pytest.mark.parametrize("cancel", [cancel_in_pull, cancel_in_lab, cancel_in_optimisation])
@pytest.mark.parametrize("is_held", [False, True])
def test_a_cancel_in_any_dialect_is_read_in_all_and_by_the_holder(
    project: Project, maker: Dialect, cancel: Callable[[Project, str], int], is_held: bool
) -> None:
    job_id = MAKERS[maker](project)
    agent_id = project.agent.register("lease")
    if is_held:
        project.agent.walk(job_id, agent_id, "Running")

    answered = cancel(project, job_id)
    seen = see(project, job_id)

    assert 200 == answered
    assert ("Canceled", "cancelled", "cancelled") == (
        seen.pull["status_history"][-1]["name"],
        seen.lab["status"],
        seen.optimisation["status"],
    )
    assert None is seen.optimisation["error_message"]
    assert seen.optimisation["completed_at"] is not None
    directive = project.agent.heartbeat(agent_id, (job_id, 1))["jobs"][0]["directive"]
    assert ("cancel" if is_held else "superseded") == directive
