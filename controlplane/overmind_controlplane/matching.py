"""Which jobs suit which agents."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, false, or_, true

from overmind_agent.jobs import FUNCTION_SCOPE, job_type_of
from overmind_controlplane.tables import Agent, Job

JOB_TYPES: Final = ("inference", "uploaded_outputs_setup", "judge_scoring", "prompt_tuning", "model_backtesting")
EXECUTORS: Final = ("@overmind:executors", "1.0.0")
"""The module that every `@overmind:` function belongs to."""

JOB_TYPE_CAPABILITY: Final = "job_type:"
"""An agent that says `job_type:inference`, and the like, is offered no other types than those that it says."""


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


def suits(agent: Agent) -> ColumnElement[bool]:
    """The condition that *agent* can run a job; one that reported no module at all can run any."""
    return and_(_has_module(agent), _has_job_type(agent))


def _has_module(agent: Agent) -> ColumnElement[bool]:
    if not agent.modules:
        return true()
    fits: ColumnElement[bool] = false()
    for name, version in agent.modules:
        in_version = or_(Job.module_version.is_(None), Job.module_version == version)
        fits = or_(fits, and_(Job.module_name == name, in_version))
    return fits


def _has_job_type(agent: Agent) -> ColumnElement[bool]:
    said = [name for name in agent.capabilities if name.startswith(JOB_TYPE_CAPABILITY)]
    if not said:
        return true()
    functions = [FUNCTION_SCOPE + name.removeprefix(JOB_TYPE_CAPABILITY) for name in said]
    return or_(Job.module_name != EXECUTORS[0], Job.function_name.in_(functions))
