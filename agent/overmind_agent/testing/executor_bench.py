"""
For the author of an executor: runs of a job's work in this process, over folders that a job would have.

    bench = ExecutorBench(WordCount(), tmp_path)
    result = bench.run({"ignore_case": True}, given=b"a line")
    assert {"words": 2} == result.outcome

A second `run` is the next start of the same job: `state` is as the first left it, `output` is empty again. What a
child process, limits and uploads make of it a test with a daemon and a control plane shows.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from overmind_executors.contract import Context, Executor, ModelEndpoint, Result
from overmind_executors.stopping import StopFlag


class ExecutorBench:
    """
    Args:
        folder: where `output`, `state` and the input are made.
        models: the chat models that the host offers.

    Attributes:
        output: where the executor writes its files.
        progress: what it reported, in order: (step, total_steps, step_name).
    """

    def __init__(
        self, executor: Executor[Any], folder: Path, *, models: Mapping[str, ModelEndpoint] | None = None
    ) -> None:
        self._executor = executor
        self._folder = folder
        self._models = dict(models or {})
        self._attempt = 0
        self.output = folder / "output"
        self.progress: list[tuple[int, int, str]] = []

    def run(
        self, parameters: Mapping[str, Any], *, given: bytes | None = None, stop_after: int | None = None
    ) -> Result:
        """
        Validate and run, as an attempt of the same job does.

        Args:
            given: the content of the job's input file; None for a job without one.
            stop_after: the wish to stop comes with this report, counted from 1 in this run.

        Raises:
            InvalidParameters, ExecutionFailed, WorkStopped: as the executor raised it.
            AssertionError: `Result.files` names a file that is not in `output`.
        """
        stop = StopFlag()
        reports = 0

        def report(step: int, total_steps: int, step_name: str) -> None:
            nonlocal reports
            reports += 1
            self.progress.append((step, total_steps, step_name))
            if reports == stop_after:
                stop.set()

        task = self._executor.validate(parameters)
        result = self._executor.run(task, self._context(given, report, stop))
        missing = [name for name in result.files if not (self.output / name).is_file()]
        assert not missing, f"the result names files that are not in the output folder: {missing}"  # noqa: S101 - what a test sees of it
        return result

    def _context(self, given: bytes | None, report: Any, stop: StopFlag) -> Context:
        shutil.rmtree(self.output, ignore_errors=True)
        for folder in (self.output, self._folder / "state"):
            folder.mkdir(parents=True, exist_ok=True)
        input_file = None
        if given is not None:
            input_file = self._folder / "input"
            input_file.write_bytes(given)
        self._attempt += 1
        return Context(
            job_id="job-1",
            attempt=self._attempt,
            input_file=input_file,
            input_name=input_file.name if input_file else None,
            output=self.output,
            state=self._folder / "state",
            models=self._models,
            data_roots=(),
            report=report,
            stop=stop,
            log=structlog.get_logger(),
        )
