"""The job type `uploaded_outputs_setup`: outputs are checked, bound to a data set, and written in one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.contract import Context, ExecutionFailed, Result, WorkStopped
from overmind_executors.parameters import check
from overmind_executors.rows.columns import refuse_without
from overmind_executors.rows.source import RowPlace, RowSource, find_rows
from overmind_executors.uploaded_outputs.binding import Binder, Seen, choose, look
from overmind_executors.uploaded_outputs.closer_look import MARKS
from overmind_executors.uploaded_outputs.data_card import data_card
from overmind_executors.uploaded_outputs.datapoints import Datapoint, Datapoints
from overmind_executors.uploaded_outputs.lines import NAMES, Lines
from overmind_executors.uploaded_outputs.outcome import CARD, outcome, report_of
from overmind_executors.uploaded_outputs.parameters import OnDuplicate, UploadedOutputsParameters
from overmind_executors.uploaded_outputs.taking import Rejected, Taken, entries

TOO_MANY_REJECTS: Final = "too_many_rejects"
_STEPS: Final = 3
_MOST_CODES: Final = 5


class UploadedOutputsExecutor:
    """
    Fills the port `Executor`. Nothing is paid for, and the same input makes the same bytes: an interrupted job
    simply begins again.
    """

    job_type = "uploaded_outputs_setup"
    is_resumable = True

    def validate(self, parameters: Mapping[str, Any]) -> UploadedOutputsParameters:
        """The parameters, typed; raises InvalidParameters naming every wrong field."""
        return check(UploadedOutputsParameters, parameters)

    def run(self, task: UploadedOutputsParameters, context: Context) -> Result:
        """Take in the outputs; see the contract for what is raised."""
        source = _outputs(task, context)
        seen = look(entries(source), task.max_rows, context.stop)
        context.log.info("rows.surveyed", rows=seen.total, well_formed=seen.taken)
        with Datapoints() as datapoints, Lines(context.output, NAMES) as lines:
            if task.has_dataset:
                datapoints.load(_dataset(task, context), task.bind_key, context.stop)
            intake = _Intake(task, seen, datapoints, context)
            intake.write(source, lines)
        with Lines(context.output, MARKS) as lines:
            card = data_card(context.output, seen=lambda: _go_on(context), mark=lines.write)
        facts = outcome(card, task, source)
        if not card["rows"]["accepted"] or card["rows"]["rejected"] > task.max_reject_ratio * card["rows"]["total"]:
            raise _too_many_rejects(card["rows"], intake.first_rejected)
        (context.output / CARD).write_text(strict_json.dumps(card) + "\n", encoding="utf-8")
        names = report.write(report_of(card), context.output)
        context.log.info("rows.finished", rows=card["rows"]["total"], rejected=card["rows"]["rejected"])
        return Result((*NAMES, *MARKS, CARD, *names), facts)


class _Intake:
    """One pass that claims a row of the data set for each output, and one that writes what came of it."""

    def __init__(
        self, task: UploadedOutputsParameters, seen: Seen, datapoints: Datapoints, context: Context
    ) -> None:
        self._on_duplicate: OnDuplicate = task.on_duplicate
        self._total = seen.total
        self._datapoints = datapoints
        self._context = context
        self.by = choose(task, seen, datapoints.total)
        own_order = seen.with_order > 0
        self._binder = Binder(self.by, task.bind_key, datapoints, own_order=own_order) if self.by else None
        self.first_rejected: Rejected | None = None

    def write(self, source: RowSource, lines: Lines) -> None:
        """A line for every entry, and one for every row of the data set without an output."""
        if self._binder is not None:
            for output in self._counted(source, "binding", 0):
                if isinstance(output, Taken) and isinstance(found := self._binder.find(output), Datapoint):
                    self._datapoints.claim(found.place, output.entry)
        for output in self._counted(source, "rows", 1):
            settled = self._settled(output)
            if isinstance(settled, Rejected):
                self.first_rejected = self.first_rejected or settled
                lines.reject(settled)
            else:
                lines.accept(*settled, self.by)
        if self._binder is not None:
            for datapoint in self._datapoints.missing():
                _go_on(self._context)
                lines.miss(datapoint)

    def _settled(self, output: Taken | Rejected) -> Rejected | tuple[Taken, Datapoint | None]:
        if isinstance(output, Rejected) or self._binder is None:
            return output if isinstance(output, Rejected) else (output, None)
        found = self._binder.find(output)
        if isinstance(found, Rejected):
            return found
        claim = self._datapoints.claimed(found.place)
        kept = {"first": claim.first, "last": claim.last}.get(self._on_duplicate, output.entry)
        if claim.times > 1 and (self._on_duplicate == "error" or kept != output.entry):
            message = f"{claim.times} outputs for one row of the data set"
            return Rejected(output.entry, output.line, "duplicate_datapoint", message, output.row.source)
        self._datapoints.cover(found.place)
        return output, found

    def _counted(self, source: RowSource, step: str, before: int) -> Iterator[Taken | Rejected]:
        for number, output in enumerate(entries(source), start=1):
            _go_on(self._context)
            self._context.report(before * self._total + number, _STEPS * self._total, step)
            yield output


def _go_on(context: Context) -> None:
    if context.stop.is_set():
        raise WorkStopped("asked to stop")


def _outputs(task: UploadedOutputsParameters, context: Context) -> RowSource:
    alone = replace(context, input_file=None) if task.dataset_id is not None else context
    source = find_rows(task, alone)
    if names := source.names():
        refuse_without("output", source.columns, names)
    return source


def _dataset(task: UploadedOutputsParameters, context: Context) -> RowSource:
    place = RowPlace(
        items=task.dataset, path=task.dataset_path, format=task.dataset_format, mapping=task.dataset_mapping
    )
    alone = context if task.dataset_id is not None else replace(context, input_file=None)
    return find_rows(place, alone, wanted=("id", "input", "expected_output"))


def _too_many_rejects(rows: Mapping[str, Any], first: Rejected | None) -> ExecutionFailed:
    """Never with a word of the file: this goes into logs and statuses."""
    codes = sorted(rows["rejected_by_code"].items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_CODES]
    named = ", ".join(f"{count} x {code}" for code, count in codes)
    where = f"; the first at line {first.line}: {first.message}" if first else ""
    return ExecutionFailed(
        f"{rows['rejected']} of {rows['total']} rows rejected: {named}{where}", reason=TOO_MANY_REJECTS
    )
