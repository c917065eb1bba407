"""
The client that `overclaw` 0.2.2 carries, at work on the jobs REST, in a process of its own.

First as its optimiser uses it, by the functions of `overclaw.client`, which swallow every error: what they made is
read back. Then every call of its generated classes, which do not.

Called as `python overclaw_session.py PROJECT_ID`, with `OVERMIND_API_URL` and `OVERMIND_API_TOKEN` in the
environment; prints one JSON object of what it saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from uuid import UUID

from overclaw import client as overclaw
from overclaw.openapi_client.exceptions import ApiException
from overclaw.openapi_client.models.agent_request import AgentRequest
from overclaw.openapi_client.models.job_iteration_request import JobIterationRequest
from overclaw.openapi_client.models.job_iteration_status_enum import JobIterationStatusEnum
from overclaw.openapi_client.models.job_request import JobRequest
from overclaw.openapi_client.models.patched_agent_request import PatchedAgentRequest
from overclaw.openapi_client.models.patched_job_iteration_request import PatchedJobIterationRequest
from overclaw.openapi_client.models.patched_job_request import PatchedJobRequest
from overclaw.openapi_client.models.status1b7_enum import Status1b7Enum

SPEC = {
    "agent_description": "sorts reviews",
    "input_schema": {"text": {"type": "string"}},
    "output_fields": {"label": {"type": "enum", "values": ["good", "bad"]}},
    "structure_weight": 20,
    "total_points": 100,
    "tool_config": {"tools": []},
    "optimizable_elements": ["prompt"],
    "fixed_elements": ["model"],
}
CASES = [{"input": {"text": "x"}, "expected_output": {"label": "good"}}]
NOBODY = UUID("00000000-0000-4000-8000-000000000000")


def main(project_id: str) -> None:
    seen = as_the_optimiser(project_id) | asyncio.run(every_call(UUID(project_id)))
    sys.stdout.write(json.dumps(seen))


def as_the_optimiser(project_id: str) -> dict[str, Any]:
    """A whole run of `overclaw optimize`, without the models."""
    client = overclaw.get_client()
    assert client is not None
    made = overclaw.upsert_agent(client, project_id, "agents/triage/main.py", SPEC, CASES, {"rule": "be kind"})
    again = overclaw.upsert_agent(client, project_id, "agents/triage/main.py", SPEC | {"total_points": 90}, CASES)
    spec, cases, agent_id = overclaw.fetch_agent_spec_and_dataset(client, "agents/triage/main.py", project_id) or (
        {},
        [],
        "",
    )
    reporter = overclaw.ApiReporter.create(agent_id, "m-1", 2, 3)
    assert reporter is not None
    reporter.on_baseline(61.5)
    overclaw.flush_pending_api_updates()
    reporter.on_iteration(1, 70.5, "keep", "code", "better", {"label": 0.5})
    reporter.on_iteration(2, 60.0, "discard", "worse code", "worse")
    overclaw.flush_pending_api_updates()
    reporter.on_complete(70.5, 61.5, "# Report", "code", {"m-2": {"score": 1.5}})
    overclaw.flush_pending_api_updates()
    overclaw.flush_pending_api_updates()  # the first wait is for threads that start what the second is for
    return {
        "same_agent": str(made.id) == str(again.id) == agent_id,
        "points": spec["total_points"],
        "cases": cases == CASES,
        "job": reporter._job_id,
    }


async def every_call(project_id: UUID) -> dict[str, Any]:
    """Each call of the generated classes, once."""
    client = overclaw.get_client()
    assert client is not None
    seen: dict[str, Any] = {}
    new = AgentRequest(name="Other", slug="other", project=project_id, description="d")
    agent = await client.agents_create(new)
    seen["agent"] = [
        agent.slug,
        (await client.agents_partial_update(agent.id, PatchedAgentRequest(model="m"))).model,
    ]
    seen["agent"].append((await client.agents_update(agent.id, new)).name)
    seen["eval_spec"] = (await client.agents_eval_spec_retrieve(agent.id)).agent_description
    seen["agents"] = (await client.agents_list(project=project_id, search="other", ordering="slug")).count
    job = await client.jobs_create(JobRequest(agent=agent.id, status=Status1b7Enum.PENDING, data_source="dataset"))
    patched = await client.jobs_partial_update(job.id, PatchedJobRequest(best_score=7, improvement=0.5))
    put = await client.jobs_update(job.id, JobRequest(agent=agent.id, num_iterations=4))
    seen["jobs"] = [job.status.value, patched.best_score, put.num_iterations, put.best_score]
    seen["listed"] = [str(one.id) == str(job.id) for one in (await client.jobs_list(agent=agent.id)).results]
    told = JobIterationRequest(
        job=job.id, iteration_name="first", avg_score=1.5, status=JobIterationStatusEnum.KEEP
    )
    step = await client.job_iterations_create(told)
    patch = PatchedJobIterationRequest(description="because")
    seen["iteration"] = (await client.job_iterations_partial_update(str(step.id), patch)).description
    seen["put"] = (await client.job_iterations_update(str(step.id), told)).iteration_name
    seen["read"] = str((await client.job_iterations_retrieve(str(step.id))).job) == str(job.id)
    seen["steps"] = [one.iteration_name for one in (await client.job_iterations_list(search="first")).results]
    seen["with_steps"] = [one.iteration_name for one in (await client.jobs_retrieve(job.id)).iterations]
    await client.job_iterations_destroy(str(step.id))
    await client.jobs_destroy(job.id)
    await client.agents_destroy(agent.id)
    seen["refusals"] = [
        await refusal(call) for call in (client.jobs_retrieve(job.id), client.agents_retrieve(NOBODY))
    ]
    await client.api_client.close()
    return seen


async def refusal(call: Any) -> str:
    """What the client makes of a no."""
    try:
        await call
    except ApiException as error:
        return f"{type(error).__name__} {error.status}"
    return "none"


if __name__ == "__main__":
    main(*sys.argv[1:])
