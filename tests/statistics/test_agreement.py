"""Agreement of raters, and a rate freed of a judge's errors: against published figures and known truths."""

from __future__ import annotations

import ast
import itertools
from importlib.metadata import files
from pathlib import Path

import pytest

from overmind_executors.statistics.agreement import (
    cohens_kappa,
    confusion,
    kappa_interval,
    krippendorffs_alpha,
    score_interval,
)
from overmind_executors.statistics.corrected_rate import Sample, calibration, corrected_rate
from zoo_judges import draw


@pytest.fixture(scope="module")
def people() -> list[list[float]]:
    """What ten people said of the 7,520 entries of VADER's lexicon, from -4 to 4; a list for each person."""
    (path,) = (Path(str(f.locate())) for f in files("vaderSentiment") or () if f.name == "vader_lexicon.txt")
    rows = [ast.literal_eval(line.split("\t")[3]) for line in path.read_text(encoding="utf-8").splitlines()]
    return [list(map(float, person)) for person in zip(*rows, strict=True)]


def test_the_agreement_of_real_people(people: list[list[float]]) -> None:
    """The figures were computed once with the published packages; they are those of docs/scoring.md."""
    signs = [[float((value > 0) - (value < 0)) for value in person] for person in people]

    alphas = [
        krippendorffs_alpha(people, level="interval"),
        krippendorffs_alpha(people, level="ordinal"),
        krippendorffs_alpha(signs, level="nominal"),
    ]

    assert [0.726, 0.734, 0.630] == [round(alpha or 0, 3) for alpha in alphas]


def test_kappa_is_what_cohen_and_his_readers_have() -> None:
    """The two standard examples: 0.4 and 0.1304."""
    assert 0.4 == pytest.approx(cohens_kappa(20, 5, 10, 15))
    assert 0.1304 == pytest.approx(cohens_kappa(45, 15, 25, 15), abs=5e-5)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (10, 0, 0, 0), (0, 0, 0, 10)])
def test_without_two_answers_there_is_no_kappa(counts: tuple[int, int, int, int]) -> None:
    assert cohens_kappa(*counts) is None
    assert kappa_interval(counts) is None


def test_the_interval_of_kappa_covers_the_truth() -> None:
    """A judge that is right 80 % of the time on a half and half truth has κ = 0.6; 200 simulated jobs."""
    covered = 0
    for job in range(200):
        pairs = [
            (person == (draw(job, n, "judge") < 0.8), person)
            for n in range(150)
            for person in (draw(job, n, "person") < 0.5,)
        ]
        low, high = kappa_interval(confusion(pairs)) or (1, 0)
        covered += low <= 0.6 <= high

    assert 0.90 * 200 <= covered <= 0.99 * 200


def test_alpha_knows_gaps_and_has_no_word_where_all_say_one_thing() -> None:
    assert 1.0 == krippendorffs_alpha([[1, 0, None, 1], [1, 0, 1, None]], level="nominal")
    assert krippendorffs_alpha([[1, 1], [1, 1]], level="nominal") is None
    assert krippendorffs_alpha([[1, None], [None, 0]], level="nominal") is None


def test_the_published_example_of_a_corrected_rate() -> None:
    found = corrected_rate(Sample(700, 1000), Sample(90, 100), Sample(85, 100))

    assert found is not None
    assert 0.7333 == pytest.approx(found.rate, abs=5e-5)
    assert found.low < found.rate < found.high


def test_a_judge_at_chance_says_nothing_about_the_rate() -> None:
    assert corrected_rate(Sample(50, 100), Sample(50, 100), Sample(50, 100)) is None
    assert corrected_rate(Sample(50, 100), Sample(10, 10), Sample(0, 0)) is None


def test_calibration_is_the_distance_between_values_and_people() -> None:
    pairs = [(0.9, True)] * 9 + [(0.9, False)] + [(0.1, True)] * 5 + [(0.1, False)] * 5

    found = calibration(pairs, (0.0, 0.2, 0.4, 0.6, 0.8))

    assert 0.2 == pytest.approx(found["ece"])
    assert 0.25 == pytest.approx(found["brier"])
    assert [(10, 0.1, 0.5), (10, 0.9, 0.9)] == [
        (b["rows"], b["mean_value"], b["share_fine"]) for b in found["buckets"] if b["rows"]
    ]


def test_an_interval_of_scores_fits_what_they_are() -> None:
    graded = [0.1, 0.4, 0.35, 0.8, 0.75, 0.6, 0.2, 0.9]

    shares, few, many = score_interval([1.0, 0.0, 1.0, 1.0]), score_interval(graded), score_interval(graded * 100)

    assert (0.300642, 0.954413) == tuple(round(end, 6) for end in shares or ())
    assert few is not None
    assert many is not None
    assert 0.3 < few[0] < 0.5125 < few[1] < 0.75
    assert many[1] - many[0] < (few[1] - few[0]) / 5
    assert [None, None, None] == [score_interval(values) for values in ([], [0.5], [0.5, 0.5])]


def test_the_mean_kappa_of_people_pairs_is_near_their_alpha(people: list[list[float]]) -> None:
    """On the sign of the rating, glad or not: two measures of one thing."""
    glad = [[value > 0 for value in person] for person in people]
    kappas = [
        cohens_kappa(*confusion(list(zip(one, other, strict=True)))) or 0
        for one, other in itertools.combinations(glad, 2)
    ]
    alpha = krippendorffs_alpha([[float(v) for v in person] for person in glad], level="nominal")

    assert alpha == pytest.approx(sum(kappas) / len(kappas), abs=0.005)
