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
