"""Which of the host's models a job has: those that it names, if they are there and its type may use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from overmind_executors.calls.budget import Limits
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    ModelEndpoint,
    ModelKind,
    Problem,
)
from overmind_executors.parameters import nearest


def refuse_barred(names: Iterable[str], context: Context) -> None:
    """Raise ExecutionFailed with `model_not_allowed` if one of *names* is a model that this job may not use."""
    barred = [name for name in names if name in context.barred_models]
    if barred:
        raise ExecutionFailed(
            f"model {barred[0]!r} is not for jobs of this type here: policy.models of the host; "
            f"it allows {', '.join(sorted(context.models)) or 'none'}",
            reason="model_not_allowed",
        )


def refused(name: str, context: Context, kind: ModelKind = "chat") -> str:
    """Why there is no model *name* for a job that needs one of *kind*; empty when there is."""
    found = context.models.get(name)
    if found is not None and found.kind != kind:
        return f"model {name!r} is one for {found.kind} on this host, and one for {kind} is needed"
    offered = [known for known, one in context.models.items() if one.kind == kind]
    known = ", ".join(sorted(offered)) or "none"
    return "" if found else f"no model {name!r} on this host{nearest(name, offered)}; it offers {known}"


def named_models(
    wanted: Mapping[str, Sequence[str]], context: Context, budget: Limits, kind: ModelKind = "chat"
) -> dict[str, ModelEndpoint]:
    """
    The models that a job names, each once, in the order of naming.

    Args:
        wanted: names, by the field that has them.
        kind: what they are asked for.

    Raises:
        InvalidParameters: names every one that the host does not offer, or for something else; or a price is
            needed for *budget* and not known.
        ExecutionFailed: the host's owner keeps one from jobs of this type.
    """
    names = list(dict.fromkeys(name for group in wanted.values() for name in group))
    refuse_barred(names, context)
    problems = [
        Problem(where, why)
        for where, group in wanted.items()
        for name in group
        if (why := refused(name, context, kind))
    ]
    if not problems and budget.max_usd is not None:
        unpriced = [name for name in names if prices_of(context.models[name]) is None]
        problems = [
            Problem("budget.max_usd", f"the price of model {name} is not known on this host") for name in unpriced
        ]
    if problems:
        raise InvalidParameters(*problems)
    return {name: context.models[name] for name in names}
