"""The models of a job as this host has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overmind_executors.calls.allowed_models import named_models
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Problem
from overmind_executors.tuning.parameters import PromptTuningParameters


@dataclass(frozen=True)
class Endpoints:
    """The models of a job: who answers, who writes, who judges; each opened once, however many parts it has."""

    named: Mapping[str, ModelEndpoint]
    target: str
    analyzer: str
    judges: tuple[str, ...]


def endpoints_of(task: PromptTuningParameters, context: Context) -> Endpoints:
    """Raises InvalidParameters naming every model that this host does not offer, or that has no price."""
    chats = [name for name, model in context.models.items() if model.kind == "chat"]
    only = chats[0] if len(chats) == 1 else ""
    target = task.target.model or only
    wanted = {
        "target.model": [target],
        "analyzer_model": [task.analyzer_model or target],
        "judge.models": task.judge.models if task.judge else [],
    }
    named = named_models(wanted, context, task.budget)
    if task.constraints.max_usd_per_request is not None and prices_of(named[target]) is None:
        raise InvalidParameters(
            Problem("constraints.max_usd_per_request", f"the price of model {target} is not known on this host")
        )
    return Endpoints(named, target, task.analyzer_model or target, tuple(wanted["judge.models"]))
