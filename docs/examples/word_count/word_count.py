"""Counts the words of a text: an executor with parameters, progress, checkpoints and a result file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overmind_executors.contract import Context, InvalidParameters, Problem, Result, WorkStopped

# What an interruption may cost at most, in lines.
CHECKPOINT_LINES = 100


@dataclass(frozen=True)
class Task:
    """
    What to do, checked.

    Attributes:
        ignore_case: whether `The` and `the` are one word.
        most: how many words the table lists, the most frequent first.
    """

    ignore_case: bool
    most: int


class WordCount:
    """Does the work of jobs of type `word_count`."""

    job_type = "word_count"
    is_resumable = True

    def validate(self, parameters: Mapping[str, Any]) -> Task:
        """All that is wrong is named at once; a parameter that nobody knows is mostly a slip of the pen."""
        problems = [
            Problem(name, "is no parameter of this job type")
            for name in parameters.keys() - {"ignore_case", "most"}
        ]
        ignore_case, most = parameters.get("ignore_case", False), parameters.get("most", 100)
        if not isinstance(ignore_case, bool):
            problems.append(Problem("ignore_case", "must be true or false"))
        if type(most) is not int or not 1 <= most <= 100_000:
            problems.append(Problem("most", "must be a whole number from 1 to 100000"))
        if problems:
            raise InvalidParameters(*problems)
        return Task(ignore_case, most)

    def run(self, task: Task, context: Context) -> Result:
        """Goes on behind the last checkpoint: a killed child is started again with the same `context.state`."""
        if context.input_file is None:
            raise InvalidParameters(Problem("input", "the job needs a text file"))
        checkpoint = context.state / "checkpoint.json"
        done, words = _read(checkpoint)
        context.log.info("words.counting", lines_done=done)
        with context.input_file.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if number <= done:
                    continue
                if context.stop.is_set():
                    _write(checkpoint, number - 1, words)
                    raise WorkStopped
                words.update((line.lower() if task.ignore_case else line).split())
                if number % CHECKPOINT_LINES == 0:
                    _write(checkpoint, number, words)
                context.report(number, 0, "lines")
        return _result(context.output, words, task.most)


def _read(checkpoint: Path) -> tuple[int, Counter[str]]:
    if not checkpoint.exists():
        return 0, Counter()
    told = json.loads(checkpoint.read_text(encoding="utf-8"))
    return told["lines"], Counter(told["words"])


def _write(checkpoint: Path, lines: int, words: Counter[str]) -> None:
    """All of it or nothing: the child may be killed in the midst."""
    beside = checkpoint.with_suffix(".new")
    beside.write_text(json.dumps({"lines": lines, "words": words}), encoding="utf-8")
    beside.replace(checkpoint)


def _result(output: Path, words: Counter[str], most: int) -> Result:
    with (output / "words.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("word", "count"))
        table.writerows(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:most])
    return Result(("words.csv",), {"words": len(words), "counted": words.total()})
