"""The lines of `outputs.jsonl`, `rejected.jsonl` and `missing.jsonl`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.scoring.items import MISSING
from overmind_executors.uploaded_outputs.datapoints import Datapoint
from overmind_executors.uploaded_outputs.taking import Rejected, Taken

OUTPUTS: Final = "outputs.jsonl"
REJECTED: Final = "rejected.jsonl"
MISSING_FILE: Final = "missing.jsonl"
_MOST_RAW_BYTES: Final = 2048
_KEPT: Final = ("tags", "persona", "labels", "score", "metadata", "tool_calls", "model", "split")


class Lines:
    """Writes the files *names* while the rows go by."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._files = {name: (folder / name).open("wb") for name in names}

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def accept(self, output: Taken, datapoint: Datapoint | None, by: str | None) -> None:
        """One output, the row it is for, and by what that was found."""
        self.write(OUTPUTS, {**_output_line(output, datapoint), "bound_by": by})

    def reject(self, rejected: Rejected) -> None:
        """One entry that is not taken in."""
        raw = _raw(rejected.raw)
        self.write(
            REJECTED,
            {
                "row": rejected.line,
                "code": rejected.code,
                "message": rejected.message,
                "raw_sha256": None if raw is None else hashlib.sha256(raw).hexdigest(),
                "raw": None if raw is None else raw[:_MOST_RAW_BYTES].decode("utf-8", errors="replace"),
            },
        )

    def miss(self, datapoint: Datapoint) -> None:
        """One row of the data set without an output."""
        self.write(MISSING_FILE, {"datapoint_id": datapoint.id, "order": datapoint.place})

    def write(self, name: str, line: Mapping[str, Any]) -> None:
        """A line of the file *name*."""
        self._files[name].write(line_of(line))


def line_of(line: Mapping[str, Any]) -> bytes:
    """The bytes of *line*, its end included."""
    return strict_json.dumps(line).encode() + b"\n"


NAMES: Final = (OUTPUTS, REJECTED, MISSING_FILE)


def _output_line(output: Taken, datapoint: Datapoint | None) -> dict[str, Any]:
    item, source = output.item, output.row.source
    own_id = output.id or f"line-{output.line}"
    return {
        "datapoint_id": datapoint.id if datapoint else own_id,
        "order": datapoint.place if datapoint else output.entry,
        "repetition": 0,
        "input_sha256": output.input_sha256,
        "input": item.input if datapoint is None or datapoint.input is None else datapoint.input,
        "output": None if item.output is MISSING else item.output,
        "expected_output": item.expected if datapoint is None or datapoint.expected is None else datapoint.expected,
        "success": not item.failure,
        "error": item.failure or None,
        "latency_ms": item.latency_ms,
        "cost_usd": item.cost_usd,
        **{name: source[name] for name in _KEPT if source.get(name) is not None},
        "source": "uploaded",
        "line": output.line,
    }


def _raw(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace")
    return strict_json.canonical(value)
