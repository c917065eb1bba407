"""The executor of one registered function: lay out, run, judge, collect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overmind_executors.commands import CommandLimits, Ended, NotStarted, run
from overmind_executors.contract import Context, ExecutionFailed, Result
from overmind_executors.functions.exchange import Folders, collect, lay_out, parameters_for
from overmind_executors.functions.manifest import Function, values_of


class FunctionExecutor:
    """
    Fills the port `Executor` for one function of the host.

    Not resumable: nobody knows what a command that was cut off has done already.
    """

    is_resumable = False

    def __init__(self, function: Function) -> None:
        self.job_type = function.name
        self._function = function

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters by their keys; raises InvalidParameters naming every wrong one."""
        return parameters_for(self._function, parameters)

    def run(self, task: dict[str, Any], context: Context) -> Result:
        """See the contract. Success is an exit code of 0 and an output file with every required output."""
        function, folders = self._function, Folders(context.output.parent / "function")
        folders.make()
        lay_out(function, task, folders, model=context.input_file, model_name=context.input_name)
        command = values_of(
            function,
            {"input_file": folders.input_file, "output_file": folders.output_file, "temp_dir": folders.temp},
        )
        context.report(0, 1, "function")
        limits = CommandLimits(function.timeout_s, file_bytes=function.most_output_bytes)
        try:
            ended = run(command, cwd=folders.temp, limits=limits, stop=context.stop)
        except NotStarted as error:
            raise ExecutionFailed(
                f"the function cannot be started: {error}", reason="function_not_started"
            ) from error
        _judge(ended, function)
        names = collect(function, folders, context.output)
        context.report(1, 1, "function")
        return Result(names, {"function": function.name, "module_version": function.module_version})


def _judge(ended: Ended, function: Function) -> None:
    if ended.ended_by == "timeout":
        raise ExecutionFailed(f"the function took longer than {function.timeout_s:g} s", reason="function_timeout")
    if ended.code < 0:
        raise ExecutionFailed(f"the function was ended by signal {-ended.code}", reason="function_killed")
    if ended.code != 0:
        raise ExecutionFailed(f"the function's exit code is {ended.code}; see the log", reason="function_exit_code")
