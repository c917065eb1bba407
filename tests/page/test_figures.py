"""What charts and tables show of what a job reported, whatever that is."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overmind_controlplane.page.drawing import HEIGHT, LEFT, WIDTH, Bar, bars, course
from overmind_controlplane.page.headline import headlines, score_lines
from overmind_controlplane.page.live import LogReader
from overmind_controlplane.page.rendering import harmless, number, size, span
from overmind_controlplane.page.values import Step
from overmind_controlplane.page.verdicts import backtest, changes


def steps(*scores: tuple[float | None, bool]) -> list[Step]:
    """Steps with these scores; the second says whether one was kept."""
    return [Step(str(place), score, is_kept, False, "", "") for place, (score, is_kept) in enumerate(scores)]


def test_the_line_of_the_best_follows_what_was_kept_and_never_falls() -> None:
    drawn = course(steps((50.0, True), (80.0, False), (None, False), (60.0, True), (55.0, True)))

    assert drawn is not None
    heights = [float(point.split(",")[1]) for point in drawn.best.split()]
    assert heights == sorted(heights, reverse=True)
    assert 4 == len(drawn.marks)
    assert all(LEFT <= mark.x <= WIDTH and 0 <= mark.y <= HEIGHT for mark in drawn.marks)


@pytest.mark.parametrize("few", [[], [(None, True)], [(1.0, True)], [(1.0, True), (None, False)]])
def test_one_score_makes_no_course(few: list[tuple[float | None, bool]]) -> None:
    assert course(steps(*few)) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (68.8, 79.7, [65, 70, 75, 80]),
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (70.0, 70.1, [70, 70.02, 70.04, 70.06, 70.08, 70.1]),
        (-5.0, 5.0, [-6, -4, -2, 0, 2, 4, 6]),
    ],
)
def test_a_course_stands_between_round_scores(low: float, high: float, expected: list[float]) -> None:
    drawn = course(steps((low, True), (high, True)))

    assert drawn is not None
    assert expected == [score for _, score in drawn.ticks]


@given(st.floats(-1e11, 1e11), st.floats(-1e11, 1e11))
def test_whatever_the_scores_are_they_stand_in_the_picture(one: float, other: float) -> None:
    drawn = course(steps((one, True), (other, True)))

    assert drawn is not None
    assert all(-1 <= mark.y <= HEIGHT for mark in drawn.marks)
    assert 1 <= len(drawn.ticks) <= 8


def test_equal_scores_make_a_course_too() -> None:
    drawn = course(steps((0.0, True), (0.0, False)))

    assert drawn is not None
    assert drawn.marks[0].y == drawn.marks[1].y


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"a": 1, "b": 4}, [Bar("a", 1, 0.25), Bar("b", 4, 1.0)]),
        ({"a": 0}, [Bar("a", 0, 0.0)]),
        ({"a": -1, "b": True, "c": 0.5, "d": None}, []),
        (["a"], []),
        (None, []),
    ],
)
def test_a_distribution_is_counts_by_name(told: Any, expected: list[Bar]) -> None:
    assert expected == bars(told)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a\nb", "a\nc", ["place", "same", "removed", "added"]),
        ("a", "a", []),
        ("a", "", []),
        (None, "a", []),
        (
            [{"role": "system", "content": "a"}],
            '[{"role": "system", "content": "b"}]',
            ["place", "removed", "added"],
        ),
        ([{"role": "system", "content": "a"}], "not json", ["place", "removed", "added"]),
    ],
)
def test_two_prompts_differ_by_their_lines(before: Any, after: str, expected: list[str]) -> None:
    assert expected == [word for word, _ in changes(before, after)]


ALTERNATING = "\n".join("ab"[place % 2] for place in range(199))
REPEATED = "\n".join("x" for _ in range(10_000))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ALTERNATING, "\n".join("ab"[place % 3 == 0] for place in range(199))),
        (REPEATED, ALTERNATING.replace("b", "x")),
        ("x\n" * 1_000_000, "y\n" * 1_000_000),
    ],
    ids=["two words", "one word", "a million lines"],
)
def test_texts_that_would_take_long_to_compare_are_not_and_that_is_said(before: str, after: str) -> None:
    began_s = time.process_time()

    ((word, line),) = changes(before, after)

    assert "place" == word
    assert line.startswith("too different to be compared line by line: ")
    assert time.process_time() - began_s < 0.5


def test_a_long_prompt_with_a_change_here_and_there_is_compared() -> None:
    lines = [f"line {place}" if place % 2 else "" for place in range(400)]
    now = [line if place % 9 else "new" for place, line in enumerate(lines)]

    words = Counter(word for word, _ in changes("\n".join(lines), "\n".join(now)))

    assert 45 == words["added"] == words["removed"]


def test_a_comparison_is_read_in_either_shape() -> None:
    flat = backtest({"mini": {"avg_total": 84.2, "count": 3}, "large": {"error": "no"}})
    wide = backtest(
        {
            "model_results": {"mini": {"aggregate_metrics": {"avg_eval_score": 0.8}}},
            "baseline_metrics": {"avg_eval_score": 0.7},
            "comparisons": {"mini": {"difference": 0.1, "interval": [0.02, 0.18], "verdict": "switch"}},
            "decision": {"verdict": "switch"},
            "recommendations": {"current_model": {"name": "fast"}, "verdict": "switch_recommended"},
        }
    )

    assert flat is not None
    assert wide is not None
    assert [("mini", [84.2, 3, None]), ("large", [None, None, "no"])] == list(flat.tables[0].rows)
    assert [("fast (present)", ["70.0"]), ("mini", ["80.0"])] == list(wide.tables[0].rows)
    assert ["score, of 100"] == list(wide.tables[0].columns)
    assert [("mini", ["+10.0", "+2.0 to +18.0", "switch"])] == list(wide.tables[1].rows)
    assert "switch" == wide.verdict


@pytest.mark.parametrize("told", [None, {}, [], "x", {"a": 1}, {"a": {"b": 1}}, {"model_results": 3}])
def test_what_is_no_comparison_has_no_table(told: Any) -> None:
    assert backtest(told) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07end", "red end"),
        ("a\r\nb\rc\n\td", "a\nb\nc\n\td"),
        ("\u202eabc\x00\x9b\ud800", "\ufffdabc\ufffd\ufffd\ufffd"),
        (None, ""),
        (3, "3"),
    ],
)
def test_what_a_terminal_would_obey_is_not_shown(told: Any, expected: str) -> None:
    assert expected == harmless(told)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_letter_that_is_cut_in_two_is_told_whole(cut: int) -> None:
    data = "aü€𝄞b".encode()
    arrived = data[:cut]
    reader = LogReader(lambda offset, limit: arrived[offset : offset + limit], 0)

    first = reader.more()
    between = reader.offset
    arrived = data
    second = reader.more()

    assert "aü€𝄞b" == first + second
    assert first == data[:between].decode()
    assert len(data) == reader.offset


def test_numbers_durations_and_sizes_read_well() -> None:
    assert ["1,234,567", "0.12346", "12.5", "x", "True"] == [
        number(v) for v in (1234567, 0.123456789, 12.5, "x", True)
    ]
    assert ["0.4 s", "12 s", "3 min 5 s", "2 h 10 min", "3 d", ""] == [
        span(v) for v in (0.41, 12.9, 185, 7800, 3 * 86400, None)
    ]
    assert ["812 B", "1.4 KiB", "3.0 MiB"] == [size(v) for v in (812, 1434, 3 << 20)]


WHOLE: dict[str, Any] = {
    "counts": {"total": 1064, "ok": 1060, "failed": 3, "skipped": 1},
    "accuracy": {"correct": 57, "compared": 62, "accuracy": 0.919355, "interval_95": [0.8247, 0.9652]},
    "latency_ms": {"p50": 412.4, "p95": 1870.0},
    "usage": {"cost_usd": 0.00518, "total_tokens": 9412},
}


def test_what_a_job_over_rows_came_to_is_four_figures() -> None:
    assert [
        ("Rows", "1,060 of 1,064", "3 failed, 1 skipped"),
        ("As expected", "91.9 %", "57 of 62 compared; 95 % interval 82.5 to 96.5 %"),
        ("Latency", "412 ms / 1.9 s", "p50 / p95 of the rows that went well"),
        ("Cost", "$0.0052", "9,412 tokens"),
    ] == [(one.name, one.value, one.beside) for one in headlines(WHOLE)]


TESTED: dict[str, Any] = {
    "verdict": "promoted",
    "gain": 0.625,
    "baseline_interval_95": [0.125, 0.75],
    "candidate_interval_95": [0.9, 1.0],
    "gain_interval_95": [0.084229, 0.915771],
}
SCORES = {"baseline_score": 37.5, "best_score": 100.0, "improvement": 62.5}


def test_before_and_after_have_their_intervals() -> None:
    assert [
        ("Baseline score", "37.5", "of 100, on 8 held-out rows; 95 % interval 12.5 to 75.0"),
        ("Best score", "100.0", "of 100, on 8 held-out rows; 95 % interval 90.0 to 100.0"),
        ("Improvement", "+62.5", "points on 8 held-out rows; 95 % interval +8.4 to +91.6"),
    ] == [(one.name, one.value, one.beside) for one in score_lines(SCORES, "8 held-out rows", TESTED)]
    assert [] == headlines({"test": TESTED})


def test_of_a_candidate_that_is_not_promoted_the_gain_stands_apart_from_the_scores() -> None:
    tested = {**TESTED, "verdict": "inconclusive", "gain": 0.031, "gain_interval_95": [-0.05, 0.11]}
    same = {"baseline_score": 37.5, "best_score": 37.5, "improvement": 0.0}

    assert ["of 100; 95 % interval 12.5 to 75.0", "of 100", "points"] == [
        one.beside for one in score_lines(same, "", tested)
    ]
    assert [("Inconclusive", "+3.1", "points by the best candidate; 95 % interval -5.0 to +11.0")] == [
        (one.name, one.value, one.beside) for one in headlines({"test": tested})
    ]


@pytest.mark.parametrize(
    "tested",
    [
        {"verdict": ["x"], "gain": 1},
        {"verdict": "refused", "gain": "1"},
        {"verdict": "refused", "gain": float("nan")},
    ],
)
def test_a_test_that_says_nothing_of_use_is_left_out(tested: dict[str, Any]) -> None:
    assert [] == headlines({"test": tested})
    assert ["of 100", "of 100", "points"] == [
        one.beside for one in score_lines(SCORES, "", {**tested, "gain_interval_95": [0, None]})
    ]


def test_a_comparison_of_models_counts_answers_and_not_rows() -> None:
    told = headlines({"counts": {"total": 128, "ok": 128}, "pairs_total": 128})

    assert [("Answers", "128 of 128", "none failed")] == [(one.name, one.value, one.beside) for one in told]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({}, []),
        ({"counts": {"total": 2, "ok": 2, "failed": 0}}, ["2 of 2 none failed"]),
        ({"usage": {"cost_usd": None, "total_tokens": 7}}, ["not known 7 tokens"]),
        ({"usage": {"cost_usd": 0}}, ["$0.00 "]),
        ({"usage": {"cost_usd": 1234.5}}, ["$1,234.50 "]),
        ({"usage": {"cost_usd": 3e-9}}, ["$0.0000000030 "]),
        ({"usage": {"cost_usd": 5e-324}}, ["$0.0000000000 "]),
        ({"latency_ms": {"p50": None, "p95": None}}, []),
        ({"latency_ms": {"p50": True, "p95": "1"}}, []),
        ({"counts": [1], "accuracy": "x", "usage": 3}, []),
        ({"counts": {"total": float("inf"), "ok": 1}}, []),
        ({"counts": {"total": -1, "ok": float("nan")}}, []),
        ({"accuracy": {"accuracy": 7, "correct": 1, "compared": 1}}, []),
        (
            {"accuracy": {"accuracy": 1, "correct": 1, "compared": 1, "interval_95": [0]}},
            ["100.0 % 1 of 1 compared"],
        ),
    ],
)
def test_a_figure_that_is_none_is_left_out(outcome: dict[str, Any], expected: list[str]) -> None:
    assert expected == [f"{one.value} {one.beside}" for one in headlines(outcome)]
