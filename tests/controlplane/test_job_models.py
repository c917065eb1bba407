"""Which models a job names."""

from __future__ import annotations

from overmind_controlplane.jobs.chat_models import named


def test_a_backtest_names_its_incumbent_its_candidates_and_its_judges() -> None:
    parameters = {"current_model": "old", "models": ["new", "new:reasoning-low"], "judge": {"models": ["judge"]}}

    assert {"old", "new", "judge"} == named("@overmind:model_backtesting", parameters)


def test_scoring_names_its_judges_and_the_models_of_its_evaluators() -> None:
    evaluators = [
        {"kind": "exact_match"},
        {"kind": "embedding_cosine", "model": "vectors"},
        "broken",
        {"model": [[]]},
    ]
    parameters = {"judge": {"models": ["judge"]}, "evaluators": evaluators}

    assert {"judge", "vectors"} == named("@overmind:judge_scoring", parameters)
