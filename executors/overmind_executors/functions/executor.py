"""The executor of one registered function: lay out, run, judge, collect."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overmind_executors.contract import Context, ExecutionFailed, Result
from overmind_executors.functions import account
from overmind_executors.functions.exchange import Folders, collect, lay_out, parameters_for
from overmind_executors.functions.manifest import Function, values_of
from overmind_executors.programs.commands import CommandLimits, Ended, NotStarted, run
from overmind_executors.sandbox.bubblewrap import View
from overmind_executors.sandbox.enclosing import Enclosure, enclosure, files_among

# The limits that end a function, each with the job's reason and what its owner is told.
_BY_LIMIT = {
    "timeout": ("function_timeout", "took longer than {timeout_s:g} s"),
    "memory": ("function_memory_limit", "took more memory than programs may here"),
    "processes": ("function_process_limit", "started more processes than programs may here"),
    "disk": ("function_disk_limit", "wrote more than {most_output_bytes} bytes"),
}


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
        function = self._function
        # Where the agent removes everything with the job's processes, however they end.
        temporary = context.output.parent / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=temporary) as secret:
            folders = Folders(context.output.parent / "function", Path(secret))
            folders.make()
            ran = self._carry_out(task, folders, context)
        try:
            _judge(ran.ended, function)
            made = collect(function, folders, context.output)
        except ExecutionFailed as failed:
            # Of the files of a job that failed these say most.
            facts = account.facts_of(function, task, context, ran, reason=failed.reason)
            account.write(facts, context.output, [path.name for path in context.output.iterdir()])
            raise
        context.report(1, 1, "function")
        names = tuple(one.name for one in made)
        facts = account.facts_of(function, task, context, ran, made=made)
        told = account.write(facts, context.output, names)
        models = tuple(one.name for one in made if one.is_model)
        return Result((*names, *told), account.outcome_of(facts), as_models=models)

    def _carry_out(self, task: dict[str, Any], folders: Folders, context: Context) -> account.Ran:
        """Lay out and run."""
        function = self._function
        lay_out(function, task, folders, model=context.input_file, model_name=context.input_name)
        command = values_of(
            function,
            {"input_file": folders.input_file, "output_file": folders.output_file, "temp_dir": folders.temp},
        )
        enclosed = enclosure(function.name, _view(function, command, folders), context)
        context.report(0, 1, "function")
        began = time.monotonic()
        try:
            ended = run(
                command, cwd=folders.temp, limits=_limits(function, enclosed), stop=context.stop, box=enclosed.box
            )
        except NotStarted as error:
            raise ExecutionFailed(
                f"the function cannot be started: {error}", reason="function_not_started"
            ) from error
        return account.Ran(ended, time.monotonic() - began, enclosed.level)


def _view(function: Function, command: list[str], folders: Folders) -> View:
    """Everything at its own place, for the command line and the input file name these places."""
    shown = files_among([word for word in command if not Path(word).is_relative_to(folders.root)])
    if function.folder is not None:
        shown[function.folder] = function.folder
    given = {folder: folder for folder in (folders.given, folders.secret)}
    return View({**shown, **given}, (folders.temp,), folders.temp)


def _limits(function: Function, enclosed: Enclosure) -> CommandLimits:
    return CommandLimits(
        function.timeout_s,
        file_bytes=function.most_output_bytes,
        memory_bytes=enclosed.memory_bytes,
        processes=enclosed.processes,
        folder_bytes=None if enclosed.disk_bytes is None else function.most_output_bytes,
    )


def _judge(ended: Ended, function: Function) -> None:
    if ended.ended_by:
        reason, what = _BY_LIMIT[ended.ended_by]
        raise ExecutionFailed(f"the function {what.format(**dict(function))}", reason=reason)
    if ended.code < 0:
        raise ExecutionFailed(f"the function was ended by signal {-ended.code}", reason="function_killed")
    if ended.code != 0:
        raise ExecutionFailed(f"the function's exit code is {ended.code}; see the log", reason="function_exit_code")
