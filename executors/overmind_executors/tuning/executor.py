"""The job type `prompt_tuning`; scipy and GEPA are loaded when a job runs, not when one is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import Context, InvalidParameters, Problem, Result
from overmind_executors.parameters import check
from overmind_executors.tuning.parameters import PromptTuningParameters


class PromptTuningExecutor:
    """Fills the port `Executor`. Resumable: the search is run again over the journal of paid calls."""

    job_type = "prompt_tuning"
    is_resumable = True

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy

    def validate(self, parameters: Mapping[str, Any]) -> PromptTuningParameters:
        """The parameters, typed; raises InvalidParameters naming every wrong field."""
        return check(PromptTuningParameters, parameters)

    def run(self, task: PromptTuningParameters, context: Context) -> Result:
        """Search and test; see the contract for what is raised."""
        try:
            from overmind_executors.tuning import job
        except ImportError as error:
            message = f"{error.name} is not installed; install overmind-agent[tuning] on this host"
            raise InvalidParameters(Problem("", message)) from error
        return job.run(task, context, self._policy)
