"""What other tools have recorded becomes rows: spans of OTLP, logs of Inspect."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.contract import Context, InvalidParameters
from overmind_executors.rows.files import row_file
from overmind_executors.uploaded_outputs import UploadedOutputsExecutor

Make = Callable[..., Context]


def _span(number: int, *, failed: bool = False, **attributes: Any) -> dict[str, Any]:
    listed = [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in attributes.items()]
    times = {"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000250000000"}
    return {"spanId": f"s{number}", **times, "attributes": listed, "status": {"code": 2 if failed else 1}}


def _export(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


MESSAGES = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "four"}]}])
SCORED = {"feedback_score__correctness": "0.2", "feedback_score__correctness_reason": "too long"}
SPANS = [
    _span(1, gen_ai__prompt="2 + 2?", gen_ai__completion="4", gen_ai__request__model="m"),
    _span(2, input__value="hi", output__value="ho"),
    _span(
        3, gen_ai__input__messages=json.dumps([{"role": "user", "content": "q"}]), gen_ai__output__messages=MESSAGES
    ),
    _span(4, http__method="GET"),
    _span(6, gen_ai__prompt="w", gen_ai__completion="v", operation="backtest:m", **SCORED),
    _span(5, failed=True, gen_ai__prompt="late"),
    "no span",
]
TIMES = {"started_at": "2023-11-14T22:13:20+00:00", "latency_ms": 250.0}
ROWS = [
    {"id": "s1", "input": "2 + 2?", "model": "m", "output": "4", **TIMES},
    {"id": "s2", "input": "hi", "output": "ho", **TIMES},
    {"id": "s3", "input": "q", "output": "four", **TIMES},
    {
        "id": "s6",
        "input": "w",
        "output": "v",
        "operation": "backtest:m",
        "feedback_score": {"correctness": 0.2, "correctness_reason": "too long"},
        **TIMES,
    },
    {"id": "s5", "input": "late", "error": "the span failed", **TIMES},
]


def _sample(number: int, **more: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": f"a{number}"}}
    output = {"model": "openai/m", "choices": [choice], "time": 0.5}
    return {"id": number, "epoch": 1, "input": f"q{number}", "target": f"t{number}", "output": output, **more}


SAMPLES = [_sample(1), _sample(1, epoch=2), _sample(2, output={}, error={"message": "secret"}, target="")]
SAMPLE_ROWS = [
    {"id": "1", "input": "q1", "output": "a1", "expected_output": "t1", "model": "openai/m", "latency_ms": 500.0},
    {"id": "1#2", "input": "q1", "output": "a1", "expected_output": "t1", "model": "openai/m", "latency_ms": 500.0},
    {"id": "2", "input": "q2", "error": "the sample failed"},
]
LOG = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": SAMPLES}


def _eval_file(samples: list[Any], size: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({**LOG, "samples": None}))
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample) + " " * size)
    return packed.getvalue()


RECORDED: dict[str, tuple[bytes, str, list[dict[str, Any]]]] = {
    "an export": (json.dumps(_export(*SPANS)).encode(), "otlp", ROWS),
    "an export on many lines": (json.dumps(_export(*SPANS), indent=1).encode(), "otlp", ROWS),
    "an export a line": (b"".join(json.dumps(_export(one)).encode() + b"\n" for one in SPANS), "otlp", ROWS),
    "a packed export": (gzip.compress(json.dumps(_export(*SPANS)).encode()), "otlp", ROWS),
    "a log": (json.dumps(LOG, indent=2).encode(), "inspect", SAMPLE_ROWS),
    "an eval file": (_eval_file(SAMPLES), "inspect", SAMPLE_ROWS),
}


@pytest.mark.parametrize(("content", "name", "rows"), RECORDED.values(), ids=RECORDED.keys())
def test_what_was_recorded_is_rows(tmp_path: Path, content: bytes, name: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "recorded"
    path.write_bytes(content)

    file = row_file(path)

    assert (name, rows) == (file.file_format, [line.value for line in file.lines()])


def test_a_line_that_is_no_export_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "recorded"
    path.write_bytes(
        b"\n".join([json.dumps(_export(SPANS[0])).encode(), b"{broken", json.dumps(_export(SPANS[1])).encode()])
    )

    assert ["", "not_json", ""] == [line.code for line in row_file(path).lines()]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (_eval_file(SAMPLES, size=20 << 20), "zip_bomb"),
        (b'{"resourceSpans": [' + b"[" * 1000, "too_deep"),
        (json.dumps(LOG).encode()[:-5], "not_json"),
    ],
)
def test_a_record_that_is_broken_or_hostile_is_refused_with_a_code(
    tmp_path: Path, content: bytes, code: str
) -> None:
    path = tmp_path / "recorded"
    path.write_bytes(content)

    with pytest.raises(InvalidParameters) as caught:
        list(row_file(path).lines())

    (problem,) = caught.value.problems
    assert code == problem.code


def test_recorded_outputs_are_taken_in(make_context: Make) -> None:
    executor = UploadedOutputsExecutor()
    context = make_context(_eval_file(SAMPLES))

    result = executor.run(executor.validate({}), context)

    assert (3, 0, "inspect") == (
        result.outcome["rows_accepted"],
        result.outcome["rows_rejected"],
        result.outcome["source"]["format"],
    )
