"""Which chat models a job names."""

from __future__ import annotations

from overmind_controlplane.jobs.chat_models import named


def test_a_backtest_names_its_incumbent_its_candidates_and_its_judges() -> None:
    parameters = {"current_model": "old", "models": ["new", "new:reasoning-low"], "judge": {"models": ["judge"]}}

    assert {"old", "new", "judge"} == named("@overmind:model_backtesting", parameters)
