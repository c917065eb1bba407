"""Which row of the data set an output is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors.contract import InvalidParameters, Problem, Stop, WorkStopped
from overmind_executors.uploaded_outputs.datapoints import By, Datapoint, Datapoints
from overmind_executors.uploaded_outputs.parameters import UploadedOutputsParameters
from overmind_executors.uploaded_outputs.taking import Rejected, Taken

_WORDS: Final = {"id": "id", "order": "order", "input_hash": "input", "key": "key field"}


@dataclass(frozen=True)
class Seen:
    """
    What a first look through the outputs says.

    Attributes:
        total, taken: entries; those that are well formed.
        with_id, with_order, with_input: of the well formed ones.
    """

    total: int = 0
    taken: int = 0
    with_id: int = 0
    with_order: int = 0
    with_input: int = 0


def look(outputs: Iterable[Taken | Rejected], most: int, stop: Stop) -> Seen:
    """
    Count through *outputs*.

    Raises:
        InvalidParameters: there are none, or more than *most*.
        WorkStopped: *stop* was set.
    """
    total = taken = with_id = with_order = with_input = 0
    for output in outputs:
        if stop.is_set():
            raise WorkStopped
        total += 1
        if total > most:
            raise InvalidParameters(Problem("input", f"more than {most} rows; raise max_rows", "too_many_rows"))
        if isinstance(output, Taken):
            taken += 1
            with_id += bool(output.id)
            with_order += output.order is not None
            with_input += output.input_sha256 is not None
    if not total:
        raise InvalidParameters(Problem("input", "there are no rows", "no_input"))
    return Seen(total, taken, with_id, with_order, with_input)


def choose(task: UploadedOutputsParameters, seen: Seen, datapoints: int) -> By | None:
    """
    How outputs are bound: as the job says, or the first way that holds for all of them; None for no binding.

    Raises:
        InvalidParameters: no way holds; the three reasons are named.
    """
    if task.bind == "none" or not task.has_dataset:
        return None
    if task.bind != "auto":
        return task.bind
    if seen.taken and seen.with_id == seen.taken:
        return "id"
    if seen.total == datapoints and seen.with_order in (0, seen.taken):
        return "order"
    if seen.taken and seen.with_input == seen.taken:
        return "input_hash"
    reasons = (
        f"{seen.with_id} of {seen.taken} outputs have an id",
        f"there are {seen.total} outputs for {datapoints} rows",
        f"{seen.with_input} of {seen.taken} outputs have an input",
    )
    raise InvalidParameters(Problem("bind", f"outputs cannot be bound: {'; '.join(reasons)}", "cannot_bind"))


class Binder:
    """Finds the row of each output; the same answer each time it is asked."""

    def __init__(self, by: By, key: str | None, datapoints: Datapoints, *, own_order: bool) -> None:
        """*own_order*: whether outputs say their order; else their place in the file is it."""
        self._by = by
        self._key = key
        self._datapoints = datapoints
        self._own_order = own_order

    def find(self, output: Taken) -> Datapoint | Rejected:
        """The one row that *output* is for."""
        value = self._value(output)
        found = self._datapoints.find(self._by, value) if value is not None else []
        if len(found) == 1:
            return found[0]
        word = _WORDS[self._by]
        if found:
            return _no(output, "ambiguous_input", f"several rows of the data set have this {word}")
        missing = f"no {word}" if value is None else f"no row of the data set has this {word}"
        return _no(output, "unknown_datapoint", missing)

    def _value(self, output: Taken) -> Any:
        if self._by == "id":
            return output.id or None
        if self._by == "order":
            return output.order if self._own_order else output.entry
        if self._by == "input_hash":
            return output.input_sha256
        return output.row.fields().get(str(self._key))


def _no(output: Taken, code: str, message: str) -> Rejected:
    return Rejected(output.entry, output.line, code, message, output.row.source)
