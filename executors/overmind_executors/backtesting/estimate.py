"""What a job will need before its first call, and the least that leads to a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.calls.forecast import Calls, Estimate, Range, forecast, of_answers, of_bodies
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import ModelEndpoint
from overmind_executors.inference.parameters import Prompt
from overmind_executors.inference.requests import MissingField, NotMessages, body_of
from overmind_executors.judge_scoring.estimate import of_judges
from overmind_executors.rows.rows import Row

Endpoints = Mapping[str, ModelEndpoint]


def estimate(
    task: BacktestingParameters, rows: Sequence[Row], endpoints: Endpoints, policy: RetryPolicy
) -> Estimate:
    """Everything that is asked; with a race at least its first look is, and typically half of the rest."""
    number = {name: _number(task, name, len(rows)) for name in task.asked}
    return _made_of(task, rows, endpoints, policy, number)


def least(task: BacktestingParameters, rows: Sequence[Row], endpoints: Endpoints, policy: RetryPolicy) -> Estimate:
    """What the fewest rows take that a verdict can be had for; its low figures are those that count."""
    calls = min(task.rule.min_rows, len(rows)) * task.repetitions
    return _made_of(task, rows, endpoints, policy, {name: Range(calls, calls, calls) for name in task.asked})


def _number(task: BacktestingParameters, name: str, rows: int) -> Range:
    most = rows * task.repetitions
    if task.racing is None or name == task.current_model:
        return Range(most, most, most)
    low = min(task.racing.first_rows, rows) * task.repetitions
    return Range(low, (low + most) / 2, most)


def _made_of(
    task: BacktestingParameters,
    rows: Sequence[Row],
    endpoints: Endpoints,
    policy: RetryPolicy,
    number: Mapping[str, Range],
) -> Estimate:
    inputs = {name: of_bodies(_bodies(rows, task.prompt_of(name))) for name in number}
    answers = {name: of_answers(task.prompt_of(name).max_tokens) for name in number}
    kinds = [Calls(endpoints[name], one, inputs[name], answers[name]) for name, one in number.items()]
    # Equal answers to one row are judged once, so all models may need one judgement of it.
    judged = Range(
        max((one.low for one in number.values()), default=0),
        sum(one.typical for one in number.values()),
        sum(one.ceiling or 0 for one in number.values()),
    )
    kinds += of_judges(
        task.judge,
        endpoints,
        judged,
        may_be_shut=any(one.gate for one in task.evaluators),
        said_tokens=max(inputs[name].typical + answers[name].typical for name in number),
    )
    return forecast(kinds, policy)


def _bodies(rows: Sequence[Row], prompt: Prompt) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        with suppress(MissingField, NotMessages):
            yield body_of(row, prompt)
