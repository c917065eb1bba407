"""
What other tools have recorded, as rows: spans in OTLP's JSON form, and logs of Inspect.

| from | a row for |
|---|---|
| OTLP, an object or one a line (`{"resourceSpans": …}`) | each span that has an output |
| an Inspect log, as JSON or as `.eval`, a zip archive | each sample, or each epoch of it |

A span's input and output are found by the names of GenAI, OpenInference and OpenLLMetry. What it was for
(`operation`) and what it was scored (`feedback_score`) come along where it says so.

Source:
    OpenTelemetry's OTLP/JSON mapping and GenAI conventions; OpenInference; Inspect's `EvalLog`.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.rows.packed import MAX_RATIO, MAX_UNPACKED_BYTES, unreadable

MOST_OF_A_DOCUMENT: Final = 16 << 20
_RATIO_FROM_BYTES: Final = 16 << 20
_INPUTS: Final = ("gen_ai.input.messages", "gen_ai.prompt", "gen_ai.prompt.0.content", "input.value")
_OUTPUTS: Final = (*("gen_ai.output.messages", "gen_ai.completion", "gen_ai.completion.0.content", "output.value"),)
_MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_OPERATIONS: Final = ("operation", "overmind.operation")
_SCORES: Final = ("feedback_score.correctness", "overmind.feedback_score.correctness")
_REASONS: Final = ("feedback_score.correctness_reason", "overmind.feedback_score.correctness_reason")
_VALUES: Final = ("stringValue", "intValue", "doubleValue", "boolValue")
# The end of the year 9999, which is the last one that has a name here.
_MOST_NS: Final = 253_402_300_800 * 10**9
_ERROR: Final = (2, "STATUS_CODE_ERROR")

Row = dict[str, Any]


def rows_of_spans(document: Any) -> Iterator[Row]:
    """A row for each span of *document* that has an output or an error; what is no span is passed over."""
    for resource in _list(document, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                if isinstance(span, dict) and (row := _row_of_span(span)) is not None:
                    yield row


def _row_of_span(span: Mapping[str, Any]) -> Row | None:
    found = {one.get("key"): _value(one.get("value")) for one in _list(span, "attributes") if isinstance(one, dict)}
    output = _first(found, _OUTPUTS)
    status = span.get("status")
    has_failed = isinstance(status, dict) and status.get("code") in _ERROR
    if output is None and not (has_failed and _first(found, _INPUTS) is not None):
        return None
    row: Row = {
        "id": span.get("spanId"),
        "input": _text_of(_first(found, _INPUTS)),
        "model": _first(found, _MODELS),
        "operation": _first(found, _OPERATIONS),
        "feedback_score": _feedback(found),
    }
    row |= {"error": "the span failed"} if output is None else {"output": _text_of(output)}
    began, ended = (_whole(span.get(name)) for name in ("startTimeUnixNano", "endTimeUnixNano"))
    if began is not None and began < _MOST_NS:
        row["started_at"] = datetime.fromtimestamp(began // 10**9, UTC).isoformat()
    if began is not None and ended is not None:
        row["latency_ms"] = round((ended - began) / 1e6, 3)
    return {name: value for name, value in row.items() if value is not None}


def _feedback(found: Mapping[Any, Any]) -> Row | None:
    score, reason = _number(_first(found, _SCORES)), _first(found, _REASONS)
    told = {"correctness": score, "correctness_reason": reason}
    return None if score is None else {name: value for name, value in told.items() if value is not None}


def _number(value: Any) -> float | None:
    """Exporters write numbers as text, too."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _value(given: Any) -> Any:
    return next((given[name] for name in _VALUES if name in given), None) if isinstance(given, dict) else None


def _text_of(value: Any) -> Any:
    """Messages are written as JSON within a text; of one message its content is what is meant."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        messages = strict_json.loads(value)
    except strict_json.NotJson:
        return value
    if len(messages) != 1 or not isinstance(messages[0], dict):
        return messages
    texts = [part.get("content") for part in _list(messages[0], "parts") if isinstance(part, dict)]
    content = messages[0].get("content", "".join(text for text in texts if isinstance(text, str)) or None)
    return messages if content is None else content


def is_log(path: Path) -> bool:
    """Whether *path* is an `.eval` file of Inspect."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any(name.startswith("_journal/") or name == "header.json" for name in names)


def samples_in(path: Path) -> Iterator[bytes]:
    """
    The JSON of each sample in an `.eval` file, in the order of their names.

    Raises:
        InvalidParameters: the archive is broken, or unpacks to more than it may.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.startswith("samples/")]
            most = min(MAX_UNPACKED_BYTES, max(_RATIO_FROM_BYTES, MAX_RATIO * path.stat().st_size))
            if sum(one.file_size for one in members) > most:
                raise unreadable(f"unpacks to more than {most} bytes", "zip_bomb")
            for member in sorted(members, key=lambda one: one.filename):
                with archive.open(member) as file:
                    yield file.read(MOST_OF_A_DOCUMENT + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise unreadable(f"is an Inspect log that is broken ({type(error).__name__})", "bad_archive") from error


def row_of_sample(sample: Any) -> Any:
    """What Inspect recorded of one sample; itself when it is none."""
    if not isinstance(sample, dict) or "input" not in sample:
        return sample
    output = sample.get("output")
    said = output if isinstance(output, dict) else {}
    epoch = sample.get("epoch")
    number = f"#{epoch}" if isinstance(epoch, int) and epoch > 1 else ""
    target = sample.get("target")
    row = {
        "id": f"{sample.get('id')}{number}",
        "input": sample["input"],
        "output": _answer_in(said),
        "expected_output": None if target in ("", []) else target,
        "model": said.get("model"),
        "error": "the sample failed" if sample.get("error") else None,
        "latency_ms": said["time"] * 1000 if isinstance(said.get("time"), int | float) else None,
    }
    return {name: value for name, value in row.items() if value is not None}


def _answer_in(output: Mapping[str, Any]) -> Any:
    choices = _list(output, "choices")
    message = choices[0].get("message") if choices and isinstance(choices[0], dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content


def _list(given: Any, name: str) -> list[Any]:
    found = given.get(name) if isinstance(given, dict) else None
    return found if isinstance(found, list) else []


def _first(found: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _whole(value: Any) -> int | None:
    """OTLP writes 64 bits as text."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
