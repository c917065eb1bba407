"""Which of the host's chat models a job may use: the host's owner decides that by the type of the job."""

from __future__ import annotations

from collections.abc import Iterable

from overmind_executors.contract import Context, ExecutionFailed


def refuse_barred(names: Iterable[str], context: Context) -> None:
    """Raise ExecutionFailed with `model_not_allowed` if one of *names* is a model that this job may not use."""
    barred = [name for name in names if name in context.barred_models]
    if barred:
        raise ExecutionFailed(
            f"model {barred[0]!r} is not for jobs of this type here: policy.models of the host; "
            f"it allows {', '.join(sorted(context.models)) or 'none'}",
            reason="model_not_allowed",
        )
