"""
What a job will need before its first call: what is likely, and what it takes at most; and the least that leads to a
verdict.

The ceilings are what the job is held to where its budget names no limit, so they are made for people: generous, and
not what could be paid for if every candidate were as long and every row as strange as they may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from overmind_executors import strict_json
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
from overmind_executors.tuning.feedback import most_letters
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.proposing import FRAME, MOST_LETTERS
from overmind_executors.tuning.splitting import Case, Split
from overmind_executors.tuning.texts import target_with, texts_of

# How a candidate may grow, and does as a rule: so many times the prompt, and so many letters. At two letters a
# token the first is more than the 1,280 tokens that the best prompts of GEPA had in the mean.
_GROWS_TIMES: Final = 3
_GROWS_BY: Final = 3000
_USUALLY_BY: Final = 1000
# Letters a token, at most: half of what is usual in English, and right for digits and code.
_DENSE: Final = 2
# Of what a model that writes may think before it writes, where the job does not bound it; tokens.
_THOUGHT: Final = 8192
# Letters of a token that was said, more than which is rare.
_LETTERS_SAID: Final = 10
# Of the lines that hold a question and an example of it together; letters.
_AROUND: Final = 500
_AROUND_AN_EXAMPLE: Final = 300


def estimate(task: PromptTuningParameters, parts: Split, endpoints: Endpoints, policy: RetryPolicy) -> Estimate:
    """
    Low, when nothing is found and so nothing is tested; typical, when every second candidate is tried on all
    validation rows and has 1,000 letters more than the prompt; at most, when each is, and grows to three times the
    prompt and 3,000 letters.
    """
    baseline, tested = len(parts.train) + len(parts.validation), _tested(task, len(parts.held_out))
    candidates = task.num_iterations * task.candidates_per_iteration
    shown, validation = min(task.examples_per_candidate, len(parts.train)), len(parts.validation)
    original = Range(baseline, baseline + tested // 2, baseline + tested // 2)
    changed = Range(
        0,
        candidates * (shown + validation / 2) + tested // 2,
        candidates * (2 * shown + validation) + tested // 2,
    )
    texts = 1 if task.search == "gepa" else len(task.tuned)
    asked = max(0, candidates - len(task.drafts))
    written = Range(0, asked * texts, 2 * asked * texts)
    return _made_of(task, parts, endpoints, policy, original=original, changed=changed, written=written)


def least(task: PromptTuningParameters, parts: Split, endpoints: Endpoints, policy: RetryPolicy) -> Estimate:
    """What the baseline, one candidate and the test take; its low figures are those that count."""
    validation, tested = len(parts.validation), _tested(task, len(parts.held_out)) // 2
    original = len(parts.train) + validation + tested
    asked = 0 if task.drafts else 1
    return _made_of(
        task,
        parts,
        endpoints,
        policy,
        original=Range(original, original, original),
        changed=Range(validation + tested, validation + tested, validation + tested),
        written=Range(asked, asked, asked),
    )


def _made_of(
    task: PromptTuningParameters,
    parts: Split,
    endpoints: Endpoints,
    policy: RetryPolicy,
    *,
    original: Range,
    changed: Range,
    written: Range,
) -> Estimate:
    cases = [*parts.train, *parts.validation, *parts.held_out]
    models = endpoints.named
    inputs, answers = _inputs(task, cases), of_answers(task.target.max_tokens)
    trials = Range(
        original.low + changed.low,
        original.typical + changed.typical,
        (original.ceiling or 0) + (changed.ceiling or 0),
    )
    judging = of_judges(
        task.judge,
        models,
        trials,
        may_be_shut=any(one.gate for one in task.evaluators),
        said_tokens=inputs.typical + answers.typical,
        most_bytes=_judged(task, cases),
    )
    kinds = [
        Calls(models[endpoints.target], original, inputs, answers),
        Calls(models[endpoints.target], changed, _of_candidates(task, inputs), answers),
        Calls(models[endpoints.analyzer], written, _questions(task, cases), _written(task)),
        *judging,
    ]
    return forecast(kinds, policy)


def _tested(task: PromptTuningParameters, held_out: int) -> int:
    return 2 * task.times * held_out if task.run_test_after_optimization else 0


def _inputs(task: PromptTuningParameters, cases: Sequence[Case]) -> Range:
    """Of a call with a row and the prompt as it is."""
    texts = texts_of(task.prompt)
    bodies = []
    for case in cases:
        try:
            bodies.append(body_of(case.row, target_with(task.target, task.prompt, texts)))
        except (MissingField, NotMessages):
            continue
    return of_bodies(bodies)


def _of_candidates(task: PromptTuningParameters, inputs: Range) -> Range:
    """Of a call with a row and a candidate; *inputs* are those of the prompt as it is."""
    return Range(
        max(0, inputs.low - _length(task) // FEWEST - 1),
        inputs.typical + min(_USUALLY_BY, task.max_prompt_characters - _length(task)) / TYPICAL,
        (inputs.ceiling or 0) + _most_of_a_candidate(task) / _DENSE,
    )


def _length(task: PromptTuningParameters) -> int:
    return sum(map(len, texts_of(task.prompt).values()))


def _most_of_a_candidate(task: PromptTuningParameters) -> int:
    """Letters that it has at most, for the purposes of an estimate."""
    return min(task.max_prompt_characters, _GROWS_TIMES * _length(task) + _GROWS_BY)


def _judged(task: PromptTuningParameters, cases: Sequence[Case]) -> int | None:
    """What a judge is shown of a row and its answer at most, bytes; None where nothing bounds the answer."""
    if task.target.max_tokens is None:
        return None
    rows = (len(strict_json.canonical(case.row.source)) for case in cases)
    return max(rows, default=0) + _LETTERS_SAID * task.target.max_tokens


def _written(task: PromptTuningParameters) -> Range:
    """Of an answer of the model that writes: bounded in any case, for a text that is too long is no candidate."""
    found = of_answers(task.analyzer_max_tokens)
    return Range(found.low, found.typical, found.ceiling or _most_of_a_candidate(task) / _DENSE + _THOUGHT)


def _questions(task: PromptTuningParameters, cases: Sequence[Case]) -> Range:
    """Of a call to the model that writes."""
    around = len(FRAME) + len(task.user_instructions or "") + _AROUND
    letters = [(len(as_text(case.row.input)), len(as_text(case.row.expected))) for case in cases]
    examples = min(task.examples_per_candidate, len(cases))
    usual = sum(map(sum, letters)) / max(1, len(letters)) + _AROUND_AN_EXAMPLE
    answer = (
        MOST_LETTERS
        if task.target.max_tokens is None
        else min(MOST_LETTERS, _LETTERS_SAID * task.target.max_tokens)
    )
    most_of_one = (
        _shown(asked for asked, _ in letters)
        + _shown(hoped for _, hoped in letters)
        + answer
        + _AROUND_AN_EXAMPLE
        + max((most_letters(task, case.row) for case in cases), default=0)
    )
    most = around + 2 * _most_of_a_candidate(task) + sum(map(len, task.fixed)) + examples * most_of_one
    typical = (around + _length(task) + examples * usual) / TYPICAL
    return Range(0, typical, most / _DENSE + 2 * MESSAGE_TOKENS)


def _shown(lengths: Iterable[int]) -> int:
    """The most letters of a row's text that stand in a question."""
    return min(MOST_LETTERS, max(lengths, default=0))
