"""The models of a job as this host has them, and what is known about them before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from overmind_executors.backtesting.parameters import BacktestingParameters, base_and_effort
from overmind_executors.backtesting.rule import Reason
from overmind_executors.calls.allowed_models import refuse_barred, refused
from overmind_executors.calls.families import family_of
from overmind_executors.calls.prices import price_note, prices_of
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Problem


@dataclass(frozen=True)
class Hosted:
    """
    Attributes:
        endpoints: by the name that the job gave.
        guards: what is to be said of a candidate because of its judge.
        identities: of every model: the provider's id, its family, its price and where that is from.
    """

    endpoints: Mapping[str, ModelEndpoint]
    guards: Mapping[str, frozenset[Reason]]
    identities: Mapping[str, Any]


def hosted(task: BacktestingParameters, context: Context) -> Hosted:
    """
    Find every model of *task*.

    Raises:
        InvalidParameters: the host does not have one, or its price is needed for the budget and not known.
        ExecutionFailed: the host's owner keeps one from jobs of this type.
    """
    judges = task.judge.models if task.judge else []
    asked = [task.model_of(name) for name in task.asked]
    refuse_barred((base_and_effort(name)[0] for name in (*asked, *judges)), context)
    places = [("models", name) for name in task.models]
    if not task.is_recorded:
        places.insert(0, ("current_model", task.current_model))
    places += [("judge.models", name) for name in judges]
    problems: list[Problem] = []
    endpoints = {}
    for field, name in places:
        key = task.model_of(name) if field != "judge.models" else name
        known = key if key in context.models else base_and_effort(key)[0]
        endpoint = context.models.get(known)
        if endpoint is None or endpoint.kind != "chat":
            where = f"settings.{name}.model" if key != name else field
            problems.append(Problem(where, refused(key if endpoint is None else known, context)))
        elif task.budget.max_usd is not None and prices_of(endpoint) is None:
            problems.append(Problem("budget.max_usd", f"the price of model {name} is not known on this host"))
        else:
            endpoints[name] = endpoint
    if problems:
        raise InvalidParameters(*problems)
    identities: dict[str, Any] = {name: _identity(endpoints[name]) for name in endpoints}
    for name, one in task.settings.items():
        if name in identities:
            said = one.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"model"})
            identities[name]["settings"] = said
    if task.is_recorded:
        identities[task.current_model] = {"model": None, "family": None, "prices": None, "recorded": True}
    return Hosted(endpoints, _guards(task, endpoints), identities)


def _guards(task: BacktestingParameters, endpoints: Mapping[str, ModelEndpoint]) -> dict[str, frozenset[Reason]]:
    """With a judge the quality is its word alone: no labels stand beside it here, and it may be kin."""
    if task.judge is None:
        return {}
    judges = {family_of(endpoints[name].model) for name in task.judge.models}
    return {
        name: frozenset(
            {Reason.JUDGE_UNCALIBRATED}
            | ({Reason.JUDGE_SAME_FAMILY} if judges == {family_of(endpoints[name].model)} else set())
        )
        for name in task.models
    }


def _identity(endpoint: ModelEndpoint) -> dict[str, Any]:
    note = price_note(endpoint)
    return {
        "model": endpoint.model,
        "family": family_of(endpoint.model),
        "prices": None if note is None else asdict(note),
    }
