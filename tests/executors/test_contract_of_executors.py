"""The contract that the test kit ships for authors, over every executor of ours, and over some that break it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import small_jobs
from overmind_agent.testing import ExecutorContract
from overmind_executors import registry
from overmind_executors.contract import Context, Executor, InvalidParameters, ModelEndpoint, Problem, Result
from small_jobs import SmallJob
from zoo import Zoo


class OfOurs(ExecutorContract):
    """Over a small job of one type; its models are in a zoo."""

    job: ClassVar[SmallJob]

    def __init_subclass__(cls) -> None:
        cls.executor = registry.executor_for(cls.job.job_type)
        cls.parameters = cls.job.parameters

    @pytest.fixture(autouse=True)
    def _models(self) -> Iterator[None]:
        with Zoo(dict(self.job.models)) as zoo:
            type(self).models = {
                name: ModelEndpoint(name, zoo.url, name, max_concurrency=1, input_price=1.0, output_price=1.0)
                for name in self.job.models
            }
            yield

    def comparable(self, files: Mapping[str, bytes]) -> Any:
        return small_jobs.comparable(files, self.job.pictures, is_exact=False)


class TestInference(OfOurs):
    job = small_jobs.INFERENCE


class TestUploadedOutputs(OfOurs):
    job = small_jobs.UPLOADED_OUTPUTS


class TestJudgeScoring(OfOurs):
    job = small_jobs.JUDGE_SCORING


class TestPromptTuning(OfOurs):
    job = small_jobs.PROMPT_TUNING


class TestModelBacktesting(OfOurs):
    job = small_jobs.MODEL_BACKTESTING


def test_every_type_of_ours_is_there() -> None:
    tried = {one.job.job_type for one in OfOurs.__subclasses__()}

    assert set(registry.job_types()) == tried


# ------------------------------------------------------------------------------------------ does it bite?


class Good:
    """Writes a line for each of three steps."""

    job_type = "good"
    is_resumable = True

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := parameters.keys() - {"steps"}:
            raise InvalidParameters(*(Problem(name, "is unknown") for name in sorted(unknown)))
        return dict(parameters)

    def run(self, task: dict[str, Any], context: Context) -> Result:
        lines = []
        for step in range(1, task["steps"] + 1):
            context.report(step, task["steps"], "steps")
            lines.append(str(step))
        (context.output / "lines.txt").write_text("\n".join(lines))
        return Result(("lines.txt",), {"lines": len(lines)})


class Deaf(Good):
    """Does not hear that it is to stop: three words of progress after the wish."""


class Careless(Good):
    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return dict(parameters)


class Asking(Good):
    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        socket.getaddrinfo("127.0.0.1", 1)
        return super().validate(parameters)


class Greedy(Good):
    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        checked = super().validate(parameters)
        parameters.pop("steps")  # type: ignore[attr-defined]
        return checked


class Backward(Good):
    def run(self, task: dict[str, Any], context: Context) -> Result:
        context.report(3, 3, "steps")
        return super().run(task, context)


class Endless(Good):
    def run(self, task: dict[str, Any], context: Context) -> Result:
        return Result(super().run(task, context).files, {"score": float("nan")})


class Deep(Good):
    def run(self, task: dict[str, Any], context: Context) -> Result:
        (context.output / "a").mkdir()
        (context.output / "a" / "b").write_text("")
        return Result(("a/b",))


class Forgetful(Good):
    """Makes another file each time."""

    def run(self, task: dict[str, Any], context: Context) -> Result:
        number = len(list(context.state.iterdir()))
        (context.state / str(number)).touch()
        (context.output / f"file-{number}").touch()
        return Result((f"file-{number}",))


RESULT = "test_a_result_is_one_that_the_host_takes"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Deaf, "test_a_wish_to_stop_is_heard_and_the_next_start_makes_what_an_undisturbed_one_makes"),
        (Careless, "test_an_unknown_parameter_is_refused_by_its_name"),
        (Asking, "test_validate_asks_nobody"),
        (Greedy, "test_validate_makes_the_same_task_each_time_and_leaves_what_it_was_given"),
        (Backward, "test_progress_is_whole_numbers_that_do_not_go_back"),
        (Endless, RESULT),
        (Deep, RESULT),
        (Forgetful, "test_work_that_is_done_may_be_done_once_more"),
    ],
)
def test_an_executor_that_breaks_it_is_found(kind: Callable[[], Executor[Any]], name: str, tmp_path: Path) -> None:
    suite = ExecutorContract()
    suite.executor, suite.parameters = kind(), {"steps": 3}  # type: ignore[misc]
    test: Any = getattr(suite, name)

    with pytest.raises((AssertionError, ValueError, InvalidParameters, KeyError)):
        test(tmp_path) if "tmp_path" in test.__annotations__ else test()
