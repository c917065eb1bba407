"""
What the Overmind Lab dialect takes: a table of fields for each body and query, and the words for what is wrong.

Keys that are not in a table are ignored, on purpose: the generated clients send read-only fields back, and one
sends `logs`, which no schema has.

Source:
    Overmind Lab's published API reference: limits, nullability, filters. Messages: Django REST framework's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.matching import JOB_TYPES
from overmind_controlplane.refusals import WrongFields

INT64: Final = 2**63

Check = Callable[[Any], Any]
"""Gives the value to keep, or raises ValueError with a sentence for the caller."""


@dataclass(frozen=True)
class Field:
    """
    One field that may be written.

    Attributes:
        column: where it is kept.
        check: of a value that is not null.
    """

    column: str
    check: Check
    is_nullable: bool = False
    is_required: bool = False


def text(longest: int | None = None, shortest: int = 0) -> Check:
    """A string of so many characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("Not a valid string.")
        if len(value) < shortest:
            raise ValueError("This field may not be blank.")
        if longest is not None and len(value) > longest:
            raise ValueError(f"Ensure this field has no more than {longest} characters.")
        return value

    return check


def choice(*words: str) -> Check:
    """One of *words*."""

    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f'"{str(value)[:40]}" is not a valid choice; it is one of {", ".join(words)}.')
        return str(value)

    return check


def an_id(value: Any) -> str:
    """A UUID, in its canonical form."""
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise ValueError("Must be a valid UUID.") from None


def an_integer(value: Any) -> int:
    """An integer of 64 bits; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("A valid integer is required.")
    if not -INT64 <= value < INT64:
        raise ValueError(f"Ensure this value is between {-INT64} and {INT64 - 1}.")
    return value


def a_number(value: Any) -> float:
    """A finite number; the reader of the body has refused all others."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("A valid number is required.")
    return float(value)


def anything(value: Any) -> Any:
    """Any JSON value."""
    return value


def a_time(value: Any) -> datetime:
    """An ISO 8601 time; `+0000` and a `+` that became a space are understood, and no zone means UTC."""
    try:
        read = datetime.fromisoformat(str(value).strip().replace(" 00", "+00"))
    except ValueError:
        raise ValueError("Enter a valid date/time.") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _read_number(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError("Enter a number.") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("Enter a number.")
    return number


STATUS_WORDS: Final[Mapping[str, Status]] = {
    "pending": Status.PENDING,
    "running": Status.RUNNING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELED,
}
"""The five words, and the status that a word stands for when it is written."""

JOB_FIELDS: Final[Mapping[str, Field]] = {
    "agent": Field("target_agent_id", an_id, is_nullable=True),
    "project": Field("project", an_id, is_nullable=True),
    "triggered_by": Field("triggered_by", an_integer, is_nullable=True),
    "analyzer_model": Field("analyzer_model", text(128)),
    "backtest_results": Field("backtest_results", anything, is_nullable=True),
    "baseline_score": Field("baseline_score", a_number, is_nullable=True),
    "best_score": Field("best_score", a_number, is_nullable=True),
    "improvement": Field("improvement", a_number, is_nullable=True),
    "best_agent_code": Field("best_agent_code", text()),
    "report_markdown": Field("report_markdown", text()),
    "candidates_per_iteration": Field("candidates_per_iteration", an_integer),
    "num_iterations": Field("num_iterations", an_integer),
    "celery_task_id": Field("celery_task_id", text(255)),
    "data_source": Field("data_source", text(20, shortest=1)),
    "job_type": Field("job_type", choice(*JOB_TYPES)),
    "prompt_slug": Field("prompt_slug", text(255)),
    "result": Field("result", anything, is_nullable=True),
    "status": Field("status", choice(*STATUS_WORDS)),
}

ITERATION_FIELDS: Final[Mapping[str, Field]] = {
    "iteration_name": Field("iteration_name", text(64, shortest=1), is_required=True),
    "job": Field("job_id", an_id, is_required=True),
    "agent_code": Field("agent_code", text()),
    "avg_score": Field("avg_score", a_number),
    "description": Field("description", text()),
    "dimension_scores": Field("dimension_scores", anything, is_nullable=True),
    "order": Field("order", an_integer),
    "status": Field("status", choice("keep", "discard", "running")),
}

JOB_FILTERS: Final[Mapping[str, Field]] = {
    "agent": Field("target_agent_id", an_id),
    "analyzer_model": Field("analyzer_model", text()),
    "created_after": Field("created", a_time),
    "created_before": Field("created", a_time),
    "data_source": Field("data_source", text()),
    "job_type": Field("job_type", choice(*JOB_TYPES)),
    "project": Field("project_id", an_id),
    "prompt_slug": Field("prompt_slug", text()),
    "score_max": Field("best_score", _read_number),
    "score_min": Field("best_score", _read_number),
    "search": Field("", text()),
    "status": Field("status", choice(*STATUS_WORDS)),
}

ITERATION_FILTERS: Final[Mapping[str, Field]] = {
    "iteration_name": Field("iteration_name", text()),
    "job": Field("job_id", an_id),
    "score_max": Field("avg_score", _read_number),
    "score_min": Field("avg_score", _read_number),
    "search": Field("", text()),
    "status": Field("status", choice("keep", "discard", "running")),
}


def check(fields: Mapping[str, Field], told: Any, *, is_partial: bool) -> dict[str, Any]:
    """
    The fields of *told* that the table has, by their columns.

    Args:
        told: the body, or the query.
        is_partial: whether required fields may be missing.

    Raises:
        WrongFields: names every wrong field at once.
    """
    if not isinstance(told, Mapping):
        raise WrongFields({"non_field_errors": ["Invalid data. Expected a dictionary."]})
    kept: dict[str, Any] = {}
    found: dict[str, list[str]] = {}
    for name, field in fields.items():
        try:
            if name in told:
                kept[field.column] = _checked(field, told[name])
            elif field.is_required and not is_partial:
                raise ValueError("This field is required.")
        except ValueError as error:
            found[name] = [str(error)]
    if found:
        raise WrongFields(found)
    return kept


def check_filters(filters: Mapping[str, Field], query: Mapping[str, str]) -> dict[str, Any]:
    """
    The filters that the query gives, by name; an empty one is none.

    Raises:
        WrongFields: names every wrong filter at once.
    """
    kept: dict[str, Any] = {}
    found: dict[str, list[str]] = {}
    for name in filters.keys() & query.keys():
        try:
            if query[name]:
                kept[name] = filters[name].check(query[name])
        except ValueError as error:
            found[name] = [str(error)]
    if found:
        raise WrongFields(found)
    return kept


def _checked(field: Field, value: Any) -> Any:
    if value is not None:
        return field.check(value)
    if not field.is_nullable:
        raise ValueError("This field may not be null.")
    return None


def rest_name(status: Status) -> str:
    """The dialect's word for a status."""
    return LIFECYCLE[status].rest_name
