"""The lines of `output.jsonl` and `errors.jsonl`: OpenAI's batch output, in the order of the input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answers import Answer
from overmind_executors.rows.rows import BrokenRow, Row

OUTPUT: Final = "output.jsonl"
ERRORS: Final = "errors.jsonl"
INVALID_ROW: Final = "invalid_row"
MISSING_FIELD: Final = "missing_input_field"


@dataclass(frozen=True, slots=True)
class Done:
    """
    One row, once: asked and answered, or why not.

    Attributes:
        outcome: a Kind of answer, `invalid_row`, `missing_input_field`, or the reason why it was not asked.
        answer: None when the model was not asked.
        message: of an outcome without an answer.
        is_right: None when nothing was compared.
        shared: a digest of the request, when equal rows share a call.
        is_paid_elsewhere: an earlier row has the call that this answer is from.
        is_repaired: the model was asked once more, for its first output did not have the form.
    """

    row: Row | BrokenRow
    repetition: int
    outcome: str
    answer: Answer | None = None
    message: str = ""
    is_right: bool | None = None
    shared: bytes | None = None
    is_paid_elsewhere: bool = False
    is_repaired: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether there is an output."""
        return self.answer is not None and self.answer.kind.has_output

    @property
    def code(self) -> str | None:
        """The error's code, None when there is an output."""
        return None if self.is_ok else self.outcome

    @property
    def can_be_repeated(self) -> bool:
        """Whether submitting the row again makes sense: a broken one or one without input stays what it is."""
        return not self.is_ok and self.outcome not in (INVALID_ROW, MISSING_FIELD)


class OutputFiles:
    """Writes both files while the work goes on; nothing of them stays in memory. No failed row: an empty one."""

    def __init__(self, folder: Path, count: Callable[[Mapping[str, Any]], None]) -> None:
        """*count* is shown each line of the output."""
        self._output = (folder / OUTPUT).open("w", encoding="utf-8", newline="\n")
        self._errors = (folder / ERRORS).open("w", encoding="utf-8", newline="\n")
        self._count = count
        self._last_failed = -1

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._output.close()
        self._errors.close()

    def write(self, done: Done) -> None:
        """One more line; called in the order of the rows, a row's repetitions one after the other."""
        line = line_of(done)
        self._output.write(strict_json.dumps(line) + "\n")
        self._count(line)
        if isinstance(done.row, Row) and done.can_be_repeated and done.row.order != self._last_failed:
            self._last_failed = done.row.order
            self._errors.write(strict_json.dumps(done.row.source) + "\n")


def line_of(done: Done) -> dict[str, Any]:
    """
    One line: `id`, `custom_id`, `response` or `error`, and under `x_overmind` what that format has no place for.
    """
    row_id = done.row.id if isinstance(done.row, Row) else f"line-{done.row.line}"
    answer = done.answer
    response = error = None
    if done.is_ok and answer is not None:
        response = {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body}
    else:
        error = {"code": done.code, "message": answer.message if answer else done.message}
    name = hashlib.sha256(f"{row_id}\n{done.repetition}".encode()).hexdigest()[:24]
    return {
        "id": f"row_{name}",
        "custom_id": row_id,
        "response": response,
        "error": error,
        "x_overmind": {**_about_row(done), **_about_answer(answer)},
    }


def _about_row(done: Done) -> Mapping[str, Any]:
    row = done.row
    given, expected = (row.input, row.expected) if isinstance(row, Row) else (None, None)
    digest = None if given is None else hashlib.sha256(strict_json.canonical(given)).hexdigest()
    return {
        "order": row.order,
        "line": row.line,
        "repetition": done.repetition,
        "input_sha256": digest,
        "outcome": done.outcome,
        "expected_output": expected,
        "correct": done.is_right,
        "shared": done.is_paid_elsewhere,
        "repaired": done.is_repaired,
    }


def _about_answer(answer: Answer | None) -> Mapping[str, Any]:
    return {
        "output": answer.output if answer else None,
        "latency_ms": answer.latency_ms if answer else None,
        "prompt_tokens": answer.prompt_tokens if answer else None,
        "completion_tokens": answer.completion_tokens if answer else None,
        "cost_usd": answer.cost_usd if answer else None,
        "attempts": answer.attempts if answer else 0,
        "refusals": answer.refusals if answer else 0,
        "started_at": answer.started_at if answer else None,
    }
