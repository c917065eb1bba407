"""What the executor does, without a daemon: `pytest` in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from word_count import WordCount

from overmind_agent.testing import ExecutorBench, ExecutorContract
from overmind_executors.contract import InvalidParameters, WorkStopped

TEXT = b"The lamp hums.\nthe lamp flickers.\n"


class TestWhatEveryExecutorHolds(ExecutorContract):
    """Tests that the kit brings."""

    executor = WordCount()
    parameters = {"ignore_case": True, "most": 2}
    given = TEXT


def test_words_are_counted_and_listed_by_how_often_they_are_there(tmp_path: Path) -> None:
    bench = ExecutorBench(WordCount(), tmp_path)

    result = bench.run({"ignore_case": True, "most": 2}, given=TEXT)

    assert {"words": 4, "counted": 6} == result.outcome
    assert "word,count\r\nlamp,2\r\nthe,2\r\n" == (bench.output / "words.csv").read_bytes().decode()
    assert [(1, 0, "lines"), (2, 0, "lines")] == bench.progress


def test_a_job_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """Line by line, as the progress of the second run shows, and with the result of one that nobody stopped."""
    bench = ExecutorBench(WordCount(), tmp_path)
    with pytest.raises(WorkStopped):
        bench.run({}, given=TEXT, stop_after=1)
    bench.progress.clear()

    result = bench.run({}, given=TEXT)

    assert [(2, 0, "lines")] == bench.progress
    assert {"words": 5, "counted": 6} == result.outcome


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"ignore_case": "yes"}, ["ignore_case"]),
        ({"most": True, "Most": 1}, ["Most", "most"]),
        ({"most": 0}, ["most"]),
    ],
)
def test_every_wrong_parameter_is_named_at_once(parameters: dict[str, object], wrong: list[str]) -> None:
    with pytest.raises(InvalidParameters) as caught:
        WordCount().validate(parameters)

    assert wrong == [problem.field for problem in caught.value.problems]


def test_a_job_without_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameters, match="needs a text file"):
        ExecutorBench(WordCount(), tmp_path).run({})
