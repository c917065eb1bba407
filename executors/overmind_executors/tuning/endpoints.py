"""The models of a job as this host has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overmind_executors.calls.allowed_models import refuse_barred
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Problem
from overmind_executors.parameters import nearest
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
    only = next(iter(context.models), "") if len(context.models) == 1 else ""
    target = task.target.model or only
    wanted = {
        "target.model": [target],
        "analyzer_model": [task.analyzer_model or target],
        "judge.models": task.judge.models if task.judge else [],
    }
    refuse_barred((name for group in wanted.values() for name in group), context)
    offered = ", ".join(sorted(context.models)) or "none"
    problems = [
        Problem(where, f"no such model on this host{nearest(name, context.models)}; it offers {offered}")
        for where, names in wanted.items()
        for name in names
        if name not in context.models
    ]
    if problems:
        raise InvalidParameters(*problems)
    names = dict.fromkeys(name for group in wanted.values() for name in group)
    unpriced = [name for name in names if prices_of(context.models[name]) is None]
    if task.budget.max_usd is not None and unpriced:
        raise InvalidParameters(
            Problem("budget.max_usd", f"the price of model {unpriced[0]} is not known on this host")
        )
    named = {name: context.models[name] for name in names}
    return Endpoints(named, target, task.analyzer_model or target, tuple(wanted["judge.models"]))
