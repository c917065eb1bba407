"""What is said of judges holds in as many simulated jobs as it should: their errors are known, see judge_bench."""

from __future__ import annotations

import numpy as np
import pytest

from judge_bench import believed, jury, pairs, rate_is_held

JOBS = 2000


@pytest.mark.parametrize(("truth", "own_at_most"), [(0.15, 0.05), (0.3, 0.05), (0.5, 1.0), (0.9, 0.1)])
def test_the_interval_of_a_corrected_rate_holds_the_truth_in_93_to_97_of_100_jobs(
    truth: float, own_at_most: float
) -> None:
    """
    Sensitivity 0.9, specificity 0.8, 400 rows, 150 labels. That of the judge's own rate hardly ever does, but near
    two thirds, where the judge's errors cancel out.
    """
    dice = np.random.default_rng(7)

    found = [rate_is_held(dice, truth) for _ in range(JOBS)]

    held, own = (sum(column) / JOBS for column in zip(*found, strict=True))
    assert 0.93 <= held <= 0.97
    assert own <= own_at_most


def test_a_judge_that_is_asked_for_85_per_cent_agrees_that_often_with_fresh_labels_in_nine_jobs_of_ten() -> None:
    """200 jobs, thresholds learnt from 120 labels; the judge is sure of itself to the degree that it is right."""
    dice = np.random.default_rng(3)

    found = [believed(dice, target=0.85) for _ in range(200)]

    assert sum(one.agreement is None or one.agreement >= 0.85 for one in found) >= 180
    assert sum(one.coverage for one in found) / 200 > 0.2, "it does not abstain for safety's sake throughout"


# Sensitivity and specificity of the members.
PANELS = {
    "alike": [(0.85, 0.85), (0.85, 0.85), (0.85, 0.85)],
    "one far better": [(0.97, 0.97), (0.6, 0.6), (0.6, 0.6)],
    "one at chance": [(0.9, 0.9), (0.85, 0.9), (0.5, 0.5)],
    "one that is mostly wrong": [(0.9, 0.85), (0.8, 0.8), (0.3, 0.3)],
    "five of many kinds": [(0.95, 0.9), (0.9, 0.7), (0.7, 0.9), (0.6, 0.6), (0.8, 0.8)],
}


@pytest.mark.parametrize("members", PANELS.values(), ids=PANELS.keys())
def test_a_weighted_panel_agrees_with_people_as_well_as_its_best_member(members: list[tuple[float, float]]) -> None:
    dice = np.random.default_rng(5)

    found = [jury(dice, members) for _ in range(10)]

    mean, best = (sum(column) / len(found) for column in zip(*found, strict=True))
    assert mean >= best - 0.02


@pytest.mark.parametrize("won", [0.5, 0.7, 0.9])
def test_a_judge_that_favours_the_first_in_three_pairs_of_ten_moves_the_preference_by_two_points_at_most(
    won: float,
) -> None:
    dice = np.random.default_rng(1)

    facts, truth = pairs(dice, bias=0.3, won=won)

    assert abs(facts["win_share"] - truth) <= 0.02
    low, high = facts["win_share_interval_95"]
    assert low <= won <= high
    low, high = facts["first_position_interval_95"]
    assert low <= 0.5 + 0.3 / 2 <= high
    assert 0.7 == pytest.approx(facts["consistency"], abs=0.02)
