"""What a job needs before its first call: its rows, its search, evaluators that work on this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from overmind_executors import strict_json
from overmind_executors.contract import Context, InvalidParameters, Problem
from overmind_executors.inference.parameters import InferenceParameters, ModelTarget
from overmind_executors.inference.source import survey
from overmind_executors.rows.replays import is_replay
from overmind_executors.rows.rows import Row
from overmind_executors.rows.source import RowPlace, find_rows
from overmind_executors.scoring.evaluator import NotInstalled
from overmind_executors.tuning.leaks import LeakScan
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.search import Search, best_of_n, random_rewrite
from overmind_executors.tuning.splitting import Shares, Split, split
from overmind_executors.tuning.texts import target_with, texts_of

# Where the prompt stands here, for what is said about it elsewhere.
_FIELDS: Final = {"target": "prompt", "target.messages_template": "prompt"}
_CONTROLS: Final[Mapping[str, Search]] = {"best_of_n": best_of_n, "random_rewrite": random_rewrite}


def search_of(task: PromptTuningParameters) -> Search:
    """The search that *task* names; raises InvalidParameters when this host cannot do it."""
    if task.search in _CONTROLS:
        return _CONTROLS[task.search]
    try:
        from overmind_executors.tuning.gepa_search import gepa_search
    except ImportError:
        message = "gepa is not installed; install overmind-agent[tuning] on this host, or use best_of_n"
        raise InvalidParameters(Problem("search", message)) from None
    return gepa_search


def prepare_evaluators(task: PromptTuningParameters) -> None:
    """Raises InvalidParameters naming every evaluator that cannot work on this host."""
    problems = []
    for number, one in enumerate(task.scoring().evaluators):
        try:
            one.prepare()
        except (NotInstalled, ValueError) as error:
            problems.append(Problem(f"evaluators.{number}", str(error)[:200]))
    if problems:
        raise InvalidParameters(*problems)


def rows_of(task: PromptTuningParameters, context: Context) -> list[Row]:
    """
    All rows that can be read and asked about, but those of recorded traffic that a job had made.

    Raises:
        InvalidParameters: as `survey` does; and when nothing says what an output is worth.
        WorkStopped: as `survey` does.
    """
    target = target_with(task.target.model_copy(update={"model": "none"}), task.prompt, texts_of(task.prompt))
    place = task.model_dump(include=set(RowPlace.model_fields))
    wanted = InferenceParameters(**place, target=ModelTarget.model_validate(target.model_dump()))
    source = find_rows(task, context, most=task.max_items)
    try:
        survey(source, wanted, context.stop)
    except InvalidParameters as error:  # the prompt is no part of the target here
        raise InvalidParameters(
            *(replace(one, field=_FIELDS.get(one.field, one.field)) for one in error.problems)
        ) from None
    read = [row for row in source.rows() if isinstance(row, Row) and row.input is not None]
    rows = [row for row in read if not is_replay(row)]
    is_scored = task.evaluators or task.judge or any(row.expected is not None for row in rows)
    if rows and not is_scored:
        message = "nothing to score with: no row has an expected_output, and there is no evaluator and no judge"
        raise InvalidParameters(Problem("evaluators", message))
    if len(rows) < len(read):
        context.log.info("rows.left_out", replays=len(read) - len(rows))
    return rows


def parts_of(task: PromptTuningParameters, rows: Sequence[Row]) -> Split:
    """*rows* in three parts; raises InvalidParameters when they are too few."""
    shares = Shares(task.holdout_share, task.validation_share, task.max_holdout, task.max_validation)
    return split(rows, shares, task.seed)


def leaks_of(task: PromptTuningParameters, parts: Split) -> LeakScan:
    """What a candidate must not know: answers of rows that it was not written from."""
    known = [*texts_of(task.prompt).values(), *(_expected(case.row) for case in parts.train)]
    return LeakScan([case.row for case in (*parts.held_out, *parts.validation)], known)


def _expected(row: Row) -> str:
    return row.expected if isinstance(row.expected, str) else strict_json.dumps(row.expected)
