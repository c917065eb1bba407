"""A provider that takes calls and answers none is given up as a whole; one that is slow and well is not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import small_jobs
from overmind_executors.calls.answers import Kind
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.silence import Silence
from overmind_executors.contract import Context, ExecutionFailed, ModelEndpoint, Result
from overmind_executors.inference import InferenceExecutor
from overmind_executors.registry import executor_for
from small_jobs import SmallJob
from zoo import Drip, Fault, Hang, Zoo

Make = Callable[..., Context]
ITEMS = [{"id": f"r{n}", "input": f"text {n}"} for n in range(40)]
SILENT_S = 0.4
# What a model that never answers may do in place of it.
WAYS: dict[str, Fault] = {
    "says nothing": Hang(),
    "drips the body": Drip(),
    "drips the head": Drip(headers=True),
    "stops after the head": Hang(after_head=True),
}


def _run(context: Context, **parameters: Any) -> Result:
    executor = InferenceExecutor(RetryPolicy(base_s=0.001, cap_s=0.002))
    given = {"target": {"model": "echo"}, "items": ITEMS, "concurrency": 16, **parameters}
    return executor.run(executor.validate(given), context)


def _models(zoo: Zoo, **changes: Any) -> dict[str, ModelEndpoint]:
    fields = {"max_concurrency": 16, "silence_s": SILENT_S, **changes}
    return {"echo": ModelEndpoint("echo", zoo.url, "echo", **fields)}


def _outcomes(context: Context) -> list[str]:
    lines = (context.output / "output.jsonl").read_text().splitlines()
    return [json.loads(line)["x_overmind"]["outcome"] for line in lines]


@pytest.mark.parametrize("fault", WAYS.values(), ids=WAYS)
def test_a_model_that_takes_calls_and_answers_none_is_given_up_with_a_clear_word(
    make_context: Make, zoo: Zoo, fault: Fault
) -> None:
    """Long before any call has had its time, though its server lists its models all the while."""
    zoo.fail("", fault)
    began = time.monotonic()

    with pytest.raises(ExecutionFailed) as failed:
        _run(make_context(models=_models(zoo)))

    assert time.monotonic() - began < 20
    assert "provider_unavailable" == failed.value.reason
    assert "the server of model echo took calls and answered nothing for" in str(failed.value)
    assert "set models.echo.timeout_s" in str(failed.value)
    assert zoo.total <= 8, "as many as are sent before the first answer"


@pytest.mark.parametrize("kind", [small_jobs.JUDGE_SCORING, small_jobs.MODEL_BACKTESTING, small_jobs.PROMPT_TUNING])
def test_every_type_that_asks_models_ends_so(make_context: Make, kind: SmallJob) -> None:
    executor = executor_for(kind.job_type)
    with Zoo(kind.models) as zoo:
        zoo.fail("", Hang())
        models = {
            name: ModelEndpoint(name, zoo.url, name, silence_s=SILENT_S, input_price=1.0, output_price=1.0)
            for name in kind.models
        }

        with pytest.raises(ExecutionFailed) as failed:
            executor.run(executor.validate(kind.parameters), make_context(models=models))

    assert "provider_unavailable" == failed.value.reason
    assert "took calls and answered nothing for" in str(failed.value)


def test_rows_that_waited_for_a_silent_model_are_asked_again_when_the_job_goes_on(
    make_context: Make, zoo: Zoo
) -> None:
    """And can be submitted again as they are: nothing that is known of them stands."""
    zoo.close_gate(after=0)
    context = make_context(models=_models(zoo))
    with pytest.raises(ExecutionFailed):
        _run(context)
    waited = zoo.total
    again = [json.loads(line) for line in (context.output / "errors.jsonl").read_text().splitlines()]
    zoo.open_gate()

    result = _run(make_context(models=_models(zoo, silence_s=30.0)))

    assert ITEMS == again
    assert 0 < waited <= 8
    assert {"ok"} == set(_outcomes(context))
    assert (40, waited + 40) == (result.outcome["counts"]["ok"], result.outcome["usage"]["model_calls"])


def test_a_model_that_stops_answering_leaves_what_was_answered(make_context: Make, zoo: Zoo) -> None:
    """Once it has answered, it may be silent for as long as its host says that a call may take."""
    zoo.close_gate(after=10)
    context = make_context(models=_models(zoo, silence_s=1.5, timeout_s=1.5))

    result = _run(context, stop_after_errors=0)

    assert "provider_unavailable" == result.outcome["termination_reason"]
    assert (10, 40) == (result.outcome["counts"]["ok"], result.outcome["counts"]["total"])


def test_a_model_whose_first_answer_takes_long_is_waited_for_where_its_host_says_so(
    make_context: Make, zoo: Zoo
) -> None:
    zoo.limit(_Everything(), latency_s=2 * SILENT_S)

    result = _run(make_context(models=_models(zoo, silence_s=30.0)), items=ITEMS[:2])

    assert 2 == result.outcome["counts"]["ok"]


class _Everything:
    """A limit that takes all."""

    def takes(self, _inside: int) -> bool:
        """Yes."""
        return True


def test_only_a_whole_answer_breaks_a_silence_and_each_begins_anew() -> None:
    silent = threading.Event()
    watched = Silence(first_s=0.2, later_s=0.3, on_silent=silent.set)
    with watched.call():
        watched.broken()
    assert watched.lasted_s is None

    with watched.call():
        assert silent.wait(10)

    assert watched.lasted_s is not None
    assert 0.3 <= watched.lasted_s < 10


def test_nobody_is_given_up_while_nobody_asks() -> None:
    silent = threading.Event()
    watched = Silence(first_s=0.05, later_s=0.05, on_silent=silent.set)

    with watched.call():
        watched.broken()

    assert not silent.wait(0.2)
    watched.close()


def test_a_silence_is_told_once_and_seen_though_there_was_no_thread_left_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told = threading.Semaphore(0)
    watched = Silence(first_s=0.1, later_s=0.1, on_silent=told.release)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with watched.call():
            pass

    with watched.call():
        assert told.acquire(timeout=10)

    with watched.call():
        assert not told.acquire(timeout=0.2)


def test_time_between_calls_is_no_silence() -> None:
    """One that broke off is not taken for an hour without an answer by the next one."""
    silent = threading.Event()
    watched = Silence(first_s=0.3, later_s=0.3, on_silent=silent.set)
    with suppress(OSError), watched.call():
        raise ConnectionResetError

    assert not silent.wait(0.5)
    with watched.call():
        assert not silent.wait(0.1)

    assert watched.lasted_s is None
    watched.close()


def test_an_outcome_of_a_silent_model_is_a_call_that_ran_out_of_time() -> None:
    """So that it counts in no score, and in no mean."""
    assert not Kind.TIMEOUT.has_output
