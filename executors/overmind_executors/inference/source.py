"""What a first look through all rows says, before any call is paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from overmind_executors.contract import InvalidParameters, Problem, Stop, WorkStopped
from overmind_executors.inference.parameters import AgentTarget, CommandTarget, InferenceParameters, ModelTarget
from overmind_executors.inference.requests import placeholders
from overmind_executors.parameters import nearest
from overmind_executors.rows.columns import refuse_without
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.rows.source import RowSource

_MOST_LABELS: Final = 1001
_MOST_NAMED: Final = 3
_MOST_FIELDS: Final = 20
_LONGEST_FIELD: Final = 64


@dataclass(frozen=True)
class Survey:
    """
    Attributes:
        total: entries, broken ones too.
        labels: the different `expected_output`s that are text, at most 1,001 of them.
    """

    total: int
    labels: tuple[str, ...]


def survey(
    source: RowSource, task: InferenceParameters, stop: Stop, *, look: Callable[[Row], object] = lambda _row: None
) -> Survey:
    """
    Read all rows once.

    Args:
        look: shown each row that can be read.

    Raises:
        InvalidParameters: there are none, more than half of them cannot be read, none can be asked about, an id
            stands twice, batch lines meet a prompt that has no place in them, or the template names a field that
            no row has.
        WorkStopped: *stop* was set.
    """
    total = askable = broken_total = 0
    broken: list[BrokenRow] = []
    labels: dict[str, None] = {}
    unseen = _Unseen(task.target)
    for row in source.rows():
        if stop.is_set():
            raise WorkStopped
        total += 1
        if isinstance(row, BrokenRow):
            broken_total += 1
            broken = [*broken, row][:_MOST_NAMED]
            continue
        _refuse_mixture(row, task)
        unseen.look(row)
        look(row)
        askable += row.input is not None
        if isinstance(row.expected, str) and len(labels) < _MOST_LABELS:
            labels[row.expected] = None
    _refuse_useless(total, broken_total, askable, broken, source)
    unseen.refuse()
    return Survey(total, tuple(labels))


class _Unseen:
    """The fields that the template names and no row has had so far: mostly one that is misspelled."""

    def __init__(self, target: ModelTarget | AgentTarget | CommandTarget) -> None:
        self._names = placeholders(target)
        self._first: Row | None = None

    def look(self, row: Row) -> None:
        """Take from the names those that *row* has."""
        self._first = self._first or row
        if self._names:
            fields = row.fields()
            self._names = tuple(name for name in self._names if fields.get(name) is None)

    def refuse(self) -> None:
        """Raises InvalidParameters if a name is left."""
        if not self._names or self._first is None:
            return
        # A table without a header has a row's values for names, so only what could be meant is named.
        fields = [name for name, value in self._first.fields().items() if value is not None and _is_plain(name)]
        has = ", ".join(fields[:_MOST_FIELDS]) + (", …" if len(fields) > _MOST_FIELDS else "")
        ending = f"line {self._first.line} has {has}"
        raise InvalidParameters(*(_no_field(name, fields, ending) for name in self._names))


def _no_field(name: str, fields: list[str], ending: str) -> Problem:
    message = f"no row has a field {name[:_LONGEST_FIELD]!r}{nearest(name, fields)}; {ending}"
    return Problem("target.messages_template", message)


def _is_plain(field: str) -> bool:
    return len(field) <= _LONGEST_FIELD and field.isidentifier()


def _refuse_useless(
    total: int, broken_total: int, askable: int, broken: list[BrokenRow], source: RowSource
) -> None:
    named = "; ".join(f"line {row.line}: {row.message}" for row in broken)
    if total == 0:
        raise InvalidParameters(Problem("input", "there are no rows"))
    if broken_total * 2 > total:
        raise InvalidParameters(Problem("input", f"{broken_total} of {total} rows cannot be read ({named})"))
    if askable == 0 and source.columns.unsure:
        refuse_without("input", source.columns, source.names())
    if askable == 0:
        raise InvalidParameters(Problem("input", f"none of {total} rows has a field 'input'"))


def _refuse_mixture(row: Row, task: InferenceParameters) -> None:
    if row.body is None and task.format == "openai_batch":
        raise InvalidParameters(Problem("format", f"line {row.line} is not a line of OpenAI's batch format"))
    if row.body is not None and (task.target.system_prompt is not None or task.target.messages_template):
        raise InvalidParameters(
            Problem("target", f"line {row.line} is a whole request; a prompt of the target has no place in it")
        )
