"""Recorded traffic: how much of it is enough for another search, and which rows the search is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters, ModelEndpoint
from overmind_executors.rows.rows import Row
from overmind_executors.tuning import PromptTuningExecutor
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.traffic import next_threshold, selected, threshold_before
from overmind_executors.tuning.traffic_parameters import moment
from zoo import Zoo
from zoo_writers import by_question, rows, tuned

Make = Callable[..., Context]
AS_OF = "2026-11-22T13:00:00Z"
RECENT, OLD = "2026-11-20T00:00:00Z", "2026-11-01T00:00:00Z"


def task(**changes: Any) -> PromptTuningParameters:
    return PromptTuningExecutor().validate({"items": [{}], "prompt": "Be right.", **changes})


def traffic(*scores: Any, **more: Any) -> list[Row]:
    """Recorded rows with these scores, the later ones newer."""
    told = {"started_at": RECENT, **more}
    return [Row(n, n, f"r{n}", {**told, "feedback_score": score}) for n, score in enumerate(scores)]


THRESHOLDS = {0: 30, 29: 30, 30: 100, 99: 100, 100: 200, 200: 500, 500: 1000, 999: 1000, 1000: 2000, 1500: 2000}
BEFORE = {0: 0, 30: 0, 31: 30, 100: 30, 500: 200, 1000: 500, 1500: 1000, 2000: 1000, 2001: 2000}


@pytest.mark.parametrize(("count", "expected"), THRESHOLDS.items())
def test_the_next_threshold_is_strictly_above(count: int, expected: int) -> None:
    assert expected == next_threshold(count)


@pytest.mark.parametrize(("count", "expected"), BEFORE.items())
def test_new_criteria_take_the_marker_one_threshold_back(count: int, expected: int) -> None:
    assert expected == threshold_before(count)


ENOUGH = [
    ({}, 30, {}, 30),
    ({"last_improvement_count": 30}, 100, {}, 100),
    ({"last_improvement_count": 100, "criteria_changed": True}, 100, {}, 100),
    ({"last_run_count": 29}, 30, {}, 30),
    ({"version": "v2"}, 40, {"prompt_version": "v2"}, 30),
]
TOO_LITTLE = [
    ({}, 29, {}, "29 rows are scored; the next threshold after 0 is 30"),
    ({"last_improvement_count": 30}, 99, {}, "99 rows are scored; the next threshold after 30 is 100"),
    ({"last_run_count": 30}, 30, {}, "30 rows are scored, as many as at the last run"),
    ({}, 30, {"started_at": OLD}, "no row has a started_at in the 7 days before 2026-11-22T13:00:00Z"),
    ({}, 30, {"started_at": "yesterday"}, "no row has a started_at"),
    ({"version": "v2"}, 30, {"prompt_version": "v1"}, "0% of the scored rows are of version v2; 25% are needed"),
]


@pytest.mark.parametrize(("asked", "count", "more", "threshold"), ENOUGH)
def test_enough_traffic_is_counted(asked: dict[str, Any], count: int, more: dict[str, Any], threshold: int) -> None:
    found, counts = selected(task(traffic={"as_of": AS_OF, **asked}), traffic(*[0.5] * count, **more))

    assert counts is not None
    assert (count, count, threshold) == (len(found), counts["recent"], counts["threshold"])
    assert counts.get("adoption") == (1.0 if "version" in asked else None)


@pytest.mark.parametrize(("asked", "count", "more", "why"), TOO_LITTLE)
def test_what_is_not_enough_is_named(asked: dict[str, Any], count: int, more: dict[str, Any], why: str) -> None:
    with pytest.raises(ExecutionFailed, match=why) as caught:
        selected(task(traffic={"as_of": AS_OF, **asked}), traffic(*[0.5] * count, **more))

    assert "ineligible" == caught.value.reason


def test_of_each_bucket_the_newest_are_taken_and_the_worst_buckets_first() -> None:
    """The edges belong to the better bucket; what is not scored, or beyond 0 to 1, is none of them."""
    scores = [0.9, 0.0, 0.19, 0.2, {"correctness": 0.1}, 0.4, 0.8, None, True, 1.1, -0.1, "0.1", 0.05]

    found, counts = selected(task(worst_first={"newest": 2, "most": 5}), traffic(*scores))

    assert ["r3", "r4", "r5", "r6", "r12"] == [row.id for row in found]
    buckets = {"poor": 4, "below_average": 1, "average": 1, "good": 0, "excellent": 2}
    taken = {"poor": 2, "below_average": 1, "average": 1, "good": 0, "excellent": 1}
    assert {"rows": 13, "scored": 8, "buckets": buckets, "selected": taken} == counts


def test_newer_is_what_its_time_says_and_only_without_one_what_comes_later() -> None:
    times: list[Any] = [RECENT, OLD, None, int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)]
    given = [Row(n, n, f"r{n}", {"feedback_score": 0, "started_at": at}) for n, at in enumerate(times)]

    kept = [[row.id for row in selected(task(worst_first={"newest": most}), given)[0]] for most in (1, 2, 3, 4)]

    assert [["r3"], ["r0", "r3"], ["r0", "r1", "r3"], ["r0", "r1", "r2", "r3"]] == kept


MOMENTS = [
    ("2026-11-22T13:00:00Z", 2026),
    ("2026-11-22T13:00:00", 2026),
    (1_000_000_000, 2001),
    (1_000_000_000_000.0, 2001),
    (10**15, 2001),
    (10**18, 2001),
    (10**21, None),
    (-1, None),
    (True, None),
    ("soon", None),
    (None, None),
    ([1], None),
]


@pytest.mark.parametrize(("told", "year"), MOMENTS)
def test_a_time_is_read_in_any_of_the_units_that_are_written(told: Any, year: int | None) -> None:
    found = moment(told)

    assert year == (found and found.year)
    assert found is None or found.tzinfo is not None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"as_of": "soon"}, "traffic.as_of"), ({}, "traffic.as_of"), ({"as_of": AS_OF, "least_share": 2}, "least")],
)
def test_what_is_no_question_about_traffic_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameters, match=field):
        task(traffic=wrong)


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    with Zoo({"tuned": tuned, "writer": by_question(lambda n: f"Style {n}. worth=0.{n % 30 + 70}")}) as opened:
        yield opened


def run(make_context: Make, zoo: Zoo, **changes: Any) -> Any:
    """The outcome of a small job over forty recorded rows, every second of which did badly."""
    models = {name: ModelEndpoint(name, zoo.url, name) for name in ("tuned", "writer")}
    recorded = [{**row, "feedback_score": n % 2, "started_at": RECENT} for n, row in enumerate(rows(40))]
    small = {"num_iterations": 1, "candidates_per_iteration": 1, "target": {"model": "tuned", "temperature": 0.0}}
    executor = PromptTuningExecutor()
    job = {"items": recorded, "prompt": "worth=0.3", "analyzer_model": "writer", **small, **changes}
    return executor.run(executor.validate(job), make_context(models=models)).outcome


def test_a_job_over_the_worst_rows_asks_about_no_others_and_says_so(make_context: Make, zoo: Zoo) -> None:
    outcome = run(make_context, zoo, worst_first={"newest": 20, "most": 20}, traffic={"as_of": AS_OF})

    asked = {body["messages"][-1]["content"] for body in zoo.bodies if body["model"] == "tuned"}
    worst = {row["input"] for row in rows(40)[::2]}
    assert (True, 20) == (asked <= worst, outcome["data_sources_used"]["rows_total"])
    assert (30, 40) == (outcome["traffic"]["threshold"], outcome["traffic"]["scored"])
    assert "traffic that had done worst" in outcome["report_markdown"]


def test_a_job_without_enough_traffic_fails_and_calls_nothing(make_context: Make, zoo: Zoo) -> None:
    with pytest.raises(ExecutionFailed, match="the next threshold after 30 is 100; nothing was called"):
        run(make_context, zoo, traffic={"as_of": AS_OF, "last_improvement_count": 30})

    assert 0 == zoo.total
