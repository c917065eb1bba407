"""Parameters of another job type: whose they are is said, instead of the nearest word."""

from __future__ import annotations

import pytest

from overmind_executors import registry
from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.contract import InvalidParameters
from overmind_executors.inference.parameters import InferenceParameters
from overmind_executors.judge_scoring.parameters import JudgeScoringParameters
from overmind_executors.parameters import WORDS_OF
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.uploaded_outputs.parameters import UploadedOutputsParameters

MODELS = {
    "inference": InferenceParameters,
    "judge_scoring": JudgeScoringParameters,
    "prompt_tuning": PromptTuningParameters,
    "model_backtesting": BacktestingParameters,
    "uploaded_outputs_setup": UploadedOutputsParameters,
}


def test_each_word_is_one_of_the_types_that_it_is_said_to_be_of() -> None:
    found = {word: {name for name, model in MODELS.items() if word in model.model_fields} for word in WORDS_OF}

    assert {word: set(types) for word, types in WORDS_OF.items()} == found


@pytest.mark.parametrize(
    ("job_type", "given", "expected"),
    [
        ("inference", {"judge": {}}, "judge: unknown key; jobs of type judge_scoring or prompt_tuning or"),
        ("judge_scoring", {"models": ["a"]}, "models: unknown key; jobs of type model_backtesting have it: is the"),
        ("inference", {"targt": {}}, "targt: unknown key; did you mean 'target'?"),
    ],
)
def test_a_parameter_of_another_type_says_whose_it_is(
    job_type: str, given: dict[str, object], expected: str
) -> None:
    with pytest.raises(InvalidParameters) as caught:
        registry.executor_for(job_type).validate(given)

    assert expected in str(caught.value)
