"""Which jobs suit which agents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import bindparam, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from overmind_agent.jobs import FUNCTION_SCOPE, job_type_of
from overmind_controlplane.dialects import JOB_TYPES
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.tables import Agent, Demand, Job

EXECUTORS: Final = ("@overmind:executors", "1.0.0")
"""The module that every `@overmind:` function belongs to."""

JOB_TYPE_CAPABILITY: Final = "job_type:"
"""An agent that says `job_type:inference`, and the like, is offered no other types than those that it says."""

LABEL_CAPABILITY: Final = "label:"
"""An agent that says `label:gpu` is offered jobs with the label `gpu` too."""

MODEL_CAPABILITY: Final = "model:"
"""An agent that says `model:fast`, and the like, is offered no jobs that name other chat models."""

PROJECT_CAPABILITY: Final = "project:"
"""An agent that says `project:<id>`, and the like, is offered jobs of no other projects."""


_SAME: Final = select(Demand).where(
    Demand.project_id == bindparam("project_id"), Demand.digest == bindparam("digest")
)
_OF_PROJECTS: Final = select(Demand).where(
    Demand.project_id.in_(bindparam("project_ids", expanding=True)),
    or_(Demand.assigned_agent_id.is_(None), Demand.assigned_agent_id == bindparam("agent_id")),
)


def job_type(function_name: str) -> str | None:
    """Which of the five job types a function is, None for any other function."""
    if not function_name.startswith(FUNCTION_SCOPE):
        return None
    name = job_type_of(function_name)
    return name if name in JOB_TYPES else None


def module_of(function_name: str, function_version: str | None) -> tuple[str, str | None]:
    """
    The module that a function belongs to: name and version, None for any version.

    A registered function is a module by its own name, in whatever version the host has, unless one is asked for.
    """
    return EXECUTORS if function_name.startswith(FUNCTION_SCOPE) else (function_name, function_version)


def models_of(session: Session, job: Job) -> Sequence[str]:
    """The chat models that a job which is on the board needs."""
    return session.scalars(select(Demand.models).where(Demand.number == job.demand)).one()


def demand_of(session: Session, job: Job, models: Collection[str]) -> Demand:
    """What *job*, which names *models*, asks of an agent; made when it is the first job that asks so."""
    asked = (job.function_name, job.module_name, job.module_version, job.labels, job.assigned_agent_id)
    digest = idempotency.digest(*asked, *([sorted(models)] if models else []))
    same = {"project_id": job.project_id, "digest": digest}
    if (demand := session.scalar(_SAME, same)) is not None:
        return demand
    made = Demand(
        project_id=job.project_id,
        digest=digest,
        function_name=job.function_name,
        module_name=job.module_name,
        module_version=job.module_version,
        labels=job.labels,
        models=sorted(models),
        assigned_agent_id=job.assigned_agent_id,
    )
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # another server was quicker
        return session.scalars(_SAME, same).one()
    return made


def met_by(
    session: Session, agent: Agent, project_ids: Collection[str], job_types: frozenset[str] | None = None
) -> list[int]:
    """The numbers of the demands of these projects that *agent* meets: for jobs of *job_types*, None for all."""
    asked = {"project_ids": list(_welcome(agent.capabilities, project_ids)), "agent_id": agent.id}
    return [
        demand.number
        for demand in session.scalars(_OF_PROJECTS, asked)
        if (job_types is None or job_type_of(demand.function_name) in job_types)
        and meets(agent.modules, agent.capabilities, demand)
    ]


def meets(modules: Sequence[Sequence[str]], capabilities: Sequence[str], demand: Demand) -> bool:
    """
    Whether an agent can run jobs of *demand*.

    Args:
        modules: `[[name, version], …]`; an agent that reported none at all can run any.
    """
    said = frozenset(capabilities)
    return (
        _has_module(modules, demand)
        and _has_job_type(said, demand)
        and said.issuperset(LABEL_CAPABILITY + label for label in demand.labels)
        and _has_models(said, demand)
    )


def _welcome(capabilities: Sequence[str], project_ids: Collection[str]) -> Collection[str]:
    """Those of *project_ids* whose jobs the agent takes."""
    named = {said.removeprefix(PROJECT_CAPABILITY) for said in capabilities if said.startswith(PROJECT_CAPABILITY)}
    return named.intersection(project_ids) if named else project_ids


def _has_module(modules: Sequence[Sequence[str]], demand: Demand) -> bool:
    versions = [version for name, version in modules if name == demand.module_name]
    return not modules or demand.module_version in versions or (demand.module_version is None and bool(versions))


def _has_job_type(said: frozenset[str], demand: Demand) -> bool:
    is_bound = any(name.startswith(JOB_TYPE_CAPABILITY) for name in said)
    if not is_bound or demand.module_name != EXECUTORS[0]:
        return True
    return JOB_TYPE_CAPABILITY + job_type_of(demand.function_name) in said


def _has_models(said: frozenset[str], demand: Demand) -> bool:
    tells = any(name.startswith(MODEL_CAPABILITY) for name in said)
    return not tells or said.issuperset(MODEL_CAPABILITY + name for name in demand.models)
