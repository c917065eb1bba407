"""The steps of a search come with an outcome, and are the job's iterations from then on."""

from __future__ import annotations

from typing import Any

from plane_calls import Project

TOLD: list[Any] = [
    "no object",
    {"iteration_name": 5},
    {"iteration_name": "listed already", "order": 0},
    {"iteration_name": "a\0b", "order": -1, "avg_score": "high", "status": "running", "dimension_scores": []},
    {"iteration_name": "i01c1", "order": 1, "avg_score": 61.5, "status": "discard", "description": "DISCARD_WORSE",
     "agent_code": "Say it.", "dimension_scores": {"n": 20}},
]  # fmt: skip


def test_what_is_an_iteration_is_listed_and_the_rest_is_left_out(project: Project) -> None:
    """An agent's word is taken as far as it can be read; what a person has listed is not listed twice."""
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    told = {"job": job_id, "iteration_name": "listed already", "order": 0}
    project.submit.read("POST", "/api/job-iterations/", told, status=201)
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Uploading")

    project.agent.say(
        job_id, "Completed", agent_id, body={"detail": {"outcome": {"iterations": TOLD, "best_score": 1.0}}}
    )

    record = project.submit.read("GET", f"/api/jobs/{job_id}/")
    shown = {step["iteration_name"]: step for step in record["iterations"]}
    assert ["a\ufffdb", "i01c1", "listed already"] == sorted(shown)
    assert ("keep", 0, 0.0) == tuple(shown["a\ufffdb"][name] for name in ("status", "order", "avg_score"))
    assert {**TOLD[-1], "job": job_id} == {name: shown["i01c1"][name] for name in (*TOLD[-1], "job")}
    assert (1.0, False) == (record["best_score"], "iterations" in record["result"])


def steps_of(project: Project, job_id: str) -> list[tuple[str, float | None]]:
    """The name and the score of each iteration of the job."""
    record = project.submit.read("GET", f"/api/jobs/{job_id}/")
    return [(step["iteration_name"], step["avg_score"]) for step in record["iterations"]]


def a_step(number: int, score: float) -> dict[str, Any]:
    """A step of a search as an agent tells it."""
    return {"iteration_name": f"i{number:02d}c1", "order": number, "avg_score": score}


def test_a_step_is_listed_while_the_search_goes_on_and_only_once(project: Project) -> None:
    """A heartbeat may come twice, may hold anything, and the outcome tells the steps once more."""
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Running")
    first, second = a_step(1, 40.0), a_step(2, 60.0)

    for _ in range(2):
        project.agent.heartbeat(agent_id, (job_id, 1), iterations=[first, {"order": 3}, first])
    running = steps_of(project, job_id)
    project.agent.say(job_id, "Uploading", agent_id, attempt=1)
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": {"iterations": [first, second]}}})

    assert [("i01c1", 40.0)] == running
    assert [("i01c1", 40.0), ("i02c1", 60.0)] == steps_of(project, job_id)


def test_an_attempt_that_was_given_up_leaves_no_steps_to_the_next_one(project: Project) -> None:
    """What a person listed before it stays; a word of the old attempt lists nothing."""
    job_id = project.submit.make_job({}, "@overmind:prompt_tuning")["id"]
    told = {"job": job_id, "iteration_name": "by hand", "order": 0}
    project.submit.read("POST", "/api/job-iterations/", told, status=201)
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Running")
    project.agent.heartbeat(agent_id, (job_id, 1), iterations=[a_step(1, 40.0)])
    project.agent.say(job_id, "Pending", agent_id, attempt=1)

    project.agent.say(job_id, "Claimed", agent_id, key="again")
    project.agent.heartbeat(agent_id, (job_id, 1), iterations=[a_step(2, 50.0)])
    project.agent.heartbeat(agent_id, (job_id, 2), iterations=[a_step(1, 70.0)])

    assert {"by hand", "i01c1"} == {name for name, _ in steps_of(project, job_id)}
    assert 70.0 == dict(steps_of(project, job_id))["i01c1"]
