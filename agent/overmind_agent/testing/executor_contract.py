"""
What every executor has to hold, as tests: for authors of one, and run over ours.

    class TestWordCount(ExecutorContract):
        executor = WordCount()
        parameters = {"ignore_case": True}
        given = b"a line"

pytest collects such a class; each test gets a folder of its own. All runs are in this process: what the host makes
of a child that dies, of limits and of uploads, only a daemon shows.
"""

from __future__ import annotations

import copy
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, ClassVar, Final

from overmind_agent.testing.executor_bench import ExecutorBench
from overmind_executors.contract import Executor, InvalidParameters, ModelEndpoint, Result, WorkStopped

MOST_OUTCOME_BYTES: Final = 64 * 1024
UNKNOWN: Final = "a_parameter_that_nobody_knows"
# What tells on somebody who is to be pure.
_DEEDS: Final = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec")


class ExecutorContract:
    """
    A base class for the tests of one executor.

    Attributes:
        executor: whose work it is.
        parameters: of a job that goes well, with several steps if it can have them.
        given: the content of its input file; None for a job without one.
        models: the chat models that it asks.
    """

    executor: ClassVar[Executor[Any]]
    parameters: ClassVar[Mapping[str, Any]]
    given: ClassVar[bytes | None] = None
    models: ClassVar[Mapping[str, ModelEndpoint]] = {}

    def comparable(self, files: Mapping[str, bytes]) -> Any:
        """What two runs of the same job have in common: their names, if no author knows more of it."""
        return sorted(files)

    # ------------------------------------------------------------------------------------------ validate

    def test_its_type_is_a_plain_word(self) -> None:
        """It stands in entry points, metrics and addresses."""
        assert self.executor.job_type.isidentifier()
        assert isinstance(self.executor.is_resumable, bool)

    def test_validate_makes_the_same_task_each_time_and_leaves_what_it_was_given(self) -> None:
        """The agent and the child each call it."""
        given = copy.deepcopy(dict(self.parameters))

        first, second = self.executor.validate(given), self.executor.validate(given)

        assert first == second
        assert dict(self.parameters) == given

    def test_validate_asks_nobody(self) -> None:
        """It runs in the agent, and must neither wait nor start anything."""
        with _deeds_of_this_thread() as deeds:
            self.executor.validate(self.parameters)

        assert not deeds, deeds

    def test_an_unknown_parameter_is_refused_by_its_name(self) -> None:
        """A misspelt one that is left out silently costs its submitter a job."""
        try:
            self.executor.validate({**self.parameters, UNKNOWN: 1})
        except InvalidParameters as error:
            named = {problem.field for problem in error.problems}
        else:
            named = set()
        assert UNKNOWN in named

    # ------------------------------------------------------------------------------------------ run

    def test_a_result_is_one_that_the_host_takes(self, tmp_path: Path) -> None:
        """Plain files directly in the output folder, each named once; an outcome that fits into a record."""
        result = self._bench(tmp_path).run(self.parameters, given=self.given)

        assert len(set(result.files)) == len(result.files)
        assert all(PurePath(name).name == name for name in result.files), result.files
        assert set() == set(result.best_effort) - set(result.files)
        outcome = json.dumps(dict(result.outcome), allow_nan=False)
        assert len(outcome.encode()) <= MOST_OUTCOME_BYTES

    def test_progress_is_whole_numbers_that_do_not_go_back(self, tmp_path: Path) -> None:
        """Within a step of one name."""
        bench = self._bench(tmp_path)

        bench.run(self.parameters, given=self.given)

        reached: dict[str, int] = {}
        for step, total, name in bench.progress:
            assert type(step) is type(total) is int
            assert 0 <= step <= (total or step)
            assert reached.get(name, 0) <= step, bench.progress
            reached[name] = step

    def test_a_wish_to_stop_is_heard_and_the_next_start_makes_what_an_undisturbed_one_makes(
        self, tmp_path: Path
    ) -> None:
        """The wish comes with the first word of progress. Work that is over by then may end well."""
        undisturbed = self._made(tmp_path / "undisturbed")
        bench = self._bench(tmp_path / "stopped")
        try:
            bench.run(self.parameters, given=self.given, stop_after=1)
        except WorkStopped:
            pass
        else:
            assert len(bench.progress) <= 1, f"it went on for {len(bench.progress)} words of progress"

        assert undisturbed == self._files_of(bench, bench.run(self.parameters, given=self.given))

    def test_work_that_is_done_may_be_done_once_more(self, tmp_path: Path) -> None:
        """The agent may be killed between the work and its last word."""
        bench = self._bench(tmp_path)
        first = self._files_of(bench, bench.run(self.parameters, given=self.given))

        assert first == self._files_of(bench, bench.run(self.parameters, given=self.given))

    def _bench(self, folder: Path) -> ExecutorBench:
        folder.mkdir(exist_ok=True)
        return ExecutorBench(self.executor, folder, models=self.models)

    def _made(self, folder: Path) -> Any:
        bench = self._bench(folder)
        return self._files_of(bench, bench.run(self.parameters, given=self.given))

    def _files_of(self, bench: ExecutorBench, result: Result) -> Any:
        return self.comparable({name: (bench.output / name).read_bytes() for name in result.files})


class _Watch:
    """An audit hook cannot be taken back, so there is one, which listens only while it is asked to."""

    def __init__(self) -> None:
        self.here = threading.local()
        self._is_set = False

    def begin(self) -> list[str]:
        if not self._is_set:
            sys.addaudithook(self._hear)
            self._is_set = True
        self.here.deeds = []
        return self.here.deeds  # type: ignore[no-any-return]

    def end(self) -> None:
        self.here.deeds = None

    def _hear(self, event: str, _facts: tuple[Any, ...]) -> None:
        deeds = getattr(self.here, "deeds", None)
        if deeds is not None and event.startswith(_DEEDS):
            deeds.append(event)


_WATCH: Final = _Watch()


@contextmanager
def _deeds_of_this_thread() -> Iterator[list[str]]:
    try:
        yield _WATCH.begin()
    finally:
        _WATCH.end()
