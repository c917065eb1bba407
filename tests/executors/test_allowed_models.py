"""A model that the host has, and not for jobs of this type, is told apart from one that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overmind_executors import registry
from overmind_executors.contract import Context, ExecutionFailed

ROWS = [{"id": "a", "input": "x", "output": "y"}]
JOBS: dict[str, dict[str, Any]] = {
    "inference": {"target": {"model": "kept"}, "items": ROWS},
    "prompt_tuning": {"target": {"model": "echo"}, "analyzer_model": "kept", "prompt": "Say {{input}}"},
    "judge_scoring": {"judge": {"models": ["echo", "kept"], "criteria": ["It is fine."]}, "items": ROWS},
}


@pytest.mark.parametrize("job_type", JOBS)
def test_a_barred_model_has_a_reason_of_its_own(make_context: Callable[..., Context], job_type: str) -> None:
    executor = registry.executor_for(job_type)
    context = make_context(barred_models=frozenset({"kept"}))

    with pytest.raises(ExecutionFailed, match=r"'kept'.*it allows echo, sentiment") as failed:
        executor.run(executor.validate(JOBS[job_type]), context)

    assert "model_not_allowed" == failed.value.reason
