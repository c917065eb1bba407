"""What a job will need before its first call, and the least that makes sense of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from overmind_executors.calls.forecast import (
    FEWEST,
    MESSAGE_TOKENS,
    TYPICAL,
    Calls,
    Estimate,
    Range,
    forecast,
    of_answers,
    of_bodies,
)
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.inference.requests import MissingField, NotMessages, body_of
from overmind_executors.judge_scoring.estimate import of_judges
from overmind_executors.scoring.texts import as_text
from overmind_executors.tuning.endpoints import Endpoints
from overmind_executors.tuning.feedback import MOST_SAID
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.proposing import FRAME, MOST_LETTERS
from overmind_executors.tuning.splitting import Case, Split
from overmind_executors.tuning.texts import target_with, texts_of

# Of a letter in UTF-8, and in JSON, where a control character takes six.
_MOST_BYTES: Final = 6
# A row's label or a customer's word, and what an evaluator or a judge says; letters.
_FEEDBACK_LETTERS: Final = 700


def estimate(task: PromptTuningParameters, parts: Split, endpoints: Endpoints, policy: RetryPolicy) -> Estimate:
    """
    Low, when nothing is found and so nothing is tested; typical, when every second candidate is tried on all
    validation rows; and at most.
    """
    baseline, tested = len(parts.train) + len(parts.validation), _tested(task, len(parts.held_out))
    candidates = task.num_iterations * task.candidates_per_iteration
    shown = min(task.examples_per_candidate, len(parts.train))
    trials = Range(
        baseline,
        baseline + candidates * (shown + len(parts.validation) / 2) + tested,
        baseline + candidates * (2 * shown + len(parts.validation)) + tested,
    )
    texts = 1 if task.search == "gepa" else len(task.tuned)
    asked = max(0, candidates - len(task.drafts))
    written = Range(0, asked * texts, 2 * asked * texts)
    return _made_of(task, parts, endpoints, policy, trials=trials, written=written)


def least(task: PromptTuningParameters, parts: Split, endpoints: Endpoints, policy: RetryPolicy) -> Estimate:
    """What the baseline, one candidate and the test take; its low figures are those that count."""
    trials = len(parts.train) + 2 * len(parts.validation) + _tested(task, len(parts.held_out))
    asked = 0 if task.drafts else 1
    number, one = Range(trials, trials, trials), Range(asked, asked, asked)
    return _made_of(task, parts, endpoints, policy, trials=number, written=one)


def _made_of(
    task: PromptTuningParameters,
    parts: Split,
    endpoints: Endpoints,
    policy: RetryPolicy,
    *,
    trials: Range,
    written: Range,
) -> Estimate:
    cases = [*parts.train, *parts.validation, *parts.held_out]
    models = endpoints.named
    inputs, answers = _inputs(task, cases), of_answers(task.target.max_tokens)
    judging = of_judges(
        task.judge,
        models,
        trials,
        may_be_shut=any(one.gate for one in task.evaluators),
        said_tokens=inputs.typical + answers.typical,
    )
    kinds = [
        Calls(models[endpoints.target], trials, inputs, answers),
        Calls(models[endpoints.analyzer], written, _questions(task, cases), of_answers(task.analyzer_max_tokens)),
        *judging,
    ]
    return forecast(kinds, policy)


def _tested(task: PromptTuningParameters, held_out: int) -> int:
    return 2 * task.times * held_out if task.run_test_after_optimization else 0


def _inputs(task: PromptTuningParameters, cases: Sequence[Case]) -> Range:
    """Of a call with a row; a candidate may be any text of at most the length that is allowed."""
    texts = texts_of(task.prompt)
    bodies = []
    for case in cases:
        try:
            bodies.append(body_of(case.row, target_with(task.target, task.prompt, texts)))
        except (MissingField, NotMessages):
            continue
    found = of_bodies(bodies)
    length = sum(map(len, texts.values()))
    longest = (found.ceiling or 0) + _MOST_BYTES * task.max_prompt_characters
    return Range(max(0, found.low - length // FEWEST - 1), found.typical, longest)


def _questions(task: PromptTuningParameters, cases: Sequence[Case]) -> Range:
    """Of a call to the model that writes."""
    prompt = sum(map(len, texts_of(task.prompt).values()))
    around = len(FRAME) + len(task.user_instructions or "")
    letters = [len(as_text(case.row.input)) + len(as_text(case.row.expected)) for case in cases]
    examples = min(task.examples_per_candidate, len(cases))
    fields = task.feedback
    sources = MOST_SAID + len(fields.labels) + len(fields.customer_feedback) + len(fields.recorded_scores)
    example = 3 * (MOST_LETTERS + 100) + _FEEDBACK_LETTERS * sources
    spans = sum(map(len, task.fixed))
    most = around + 3 * task.max_prompt_characters + spans + examples * example + 2000
    typical = around + prompt + examples * (sum(letters) / max(1, len(letters)) + 300)
    return Range(0, typical / TYPICAL, _MOST_BYTES * most + 2 * MESSAGE_TOKENS)
