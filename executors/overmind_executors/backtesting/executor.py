"""The job type `model_backtesting`; numpy and scipy are loaded when a job runs, not when one is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import Context, InvalidParameters, Problem, Result
from overmind_executors.parameters import check


class BacktestingExecutor:
    """Fills the port `Executor`. Resumable: what was answered is in the journal of paid calls."""

    job_type = "model_backtesting"
    is_resumable = True

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy

    def validate(self, parameters: Mapping[str, Any]) -> BacktestingParameters:
        """The parameters, typed; raises InvalidParameters naming every wrong field."""
        return check(BacktestingParameters, parameters)

    def run(self, task: BacktestingParameters, context: Context) -> Result:
        """Ask, score, decide; see the contract for what is raised."""
        try:
            from overmind_executors.backtesting import job
        except ImportError as error:
            message = f"{error.name} is not installed; install overmind-agent[stats] on this host"
            raise InvalidParameters(Problem("", message)) from error
        return job.run(task, context, self._policy)
