"""
How the Overmind Lab dialect reads bodies and queries: checks of single values, tables of fields, and the words
for what is wrong.

Keys that are not in a table are ignored, on purpose: the generated clients send read-only fields back, and one
sends `logs`, which no schema has.

Source:
    Messages: Django REST framework's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from overmind_controlplane.refusals import WrongFields

INT64: Final = 2**63
INT32: Final = 2**31


@dataclass(frozen=True)
class Check:
    """
    What one value may be.

    Attributes:
        read: gives the value to keep, or raises ValueError with a sentence for the caller.
        schema: the same for the OpenAPI page.
    """

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """
    One field that may be written.

    Attributes:
        column: where it is kept; empty for under its own name.
        check: of a value that is not null.
        default: what it is when a new thing does not say it.
    """

    column: str
    check: Check
    is_nullable: bool = False
    is_required: bool = False
    default: Any = None


Fields = Mapping[str, Field]


def text(longest: int | None = None, shortest: int = 0, pattern: str | None = None) -> Check:
    """A string of so many characters."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("Not a valid string.")
        if len(value) < shortest:
            raise ValueError("This field may not be blank.")
        if longest is not None and len(value) > longest:
            raise ValueError(f"Ensure this field has no more than {longest} characters.")
        if "\0" in value:
            raise ValueError("Null characters are not allowed.")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise ValueError(f"Enter a valid value: it must match {pattern}.")
        return value

    limits = {"minLength": shortest, "maxLength": longest, "pattern": f"^{pattern}$" if pattern else None}
    return Check(read, {"type": "string"} | {name: limit for name, limit in limits.items() if limit})


def choice(*words: str) -> Check:
    """One of *words*."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f'"{str(value)[:40]}" is not a valid choice; it is one of {", ".join(words)}.')
        return str(value)

    return Check(read, {"type": "string", "enum": list(words)})


def an_id(value: Any) -> str:
    """
    *value*, a UUID, in its canonical form.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise ValueError("Must be a valid UUID.") from None


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("A valid integer is required.")
    if not -INT64 <= value < INT64:
        raise ValueError(f"Ensure this value is between {-INT64} and {INT64 - 1}.")
    return value


def _number(value: Any) -> float:
    """The reader of the body has refused NaN and the infinities."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("A valid number is required.")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("Must be a valid boolean.")
    return value


def _time(value: Any) -> datetime:
    """`+0000` and a `+` that became a space are understood, and no zone means UTC."""
    try:
        read = datetime.fromisoformat(str(value).strip().replace(" 00", "+00"))
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("Enter a valid date/time.") from None


def _told_number(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError("Enter a number.") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("Enter a number.")
    return number


def _told_integer(value: Any) -> int:
    try:
        number = int(str(value)[:20])
    except ValueError:
        raise ValueError("Enter a whole number.") from None
    if not -INT32 <= number < INT32:
        raise ValueError(f"Ensure this value is between {-INT32} and {INT32 - 1}.")
    return number


AN_ID: Final = Check(an_id, {"type": "string", "format": "uuid"})
AN_INTEGER: Final = Check(_integer, {"type": "integer", "minimum": -INT64, "maximum": INT64 - 1})
A_NUMBER: Final = Check(_number, {"type": "number"})
A_BOOLEAN: Final = Check(_boolean, {"type": "boolean"})
ANYTHING: Final = Check(lambda value: value, {})
# In a query everything is text.
A_TOLD_TIME: Final = Check(_time, {"type": "string", "format": "date-time"})
A_TOLD_NUMBER: Final = Check(_told_number, {"type": "number"})
A_TOLD_INTEGER: Final = Check(_told_integer, {"type": "integer", "minimum": -INT32, "maximum": INT32 - 1})


def check(fields: Fields, told: Any, *, is_partial: bool) -> dict[str, Any]:
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
                kept[field.column or name] = _checked(field, told[name])
            elif field.is_required and not is_partial:
                raise ValueError("This field is required.")
        except ValueError as error:
            found[name] = [str(error)]
    if found:
        raise WrongFields(found)
    return kept


def check_filters(filters: Fields, query: Mapping[str, str]) -> dict[str, Any]:
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
                kept[name] = filters[name].check.read(query[name])
        except ValueError as error:
            found[name] = [str(error)]
    if found:
        raise WrongFields(found)
    return kept


def _checked(field: Field, value: Any) -> Any:
    if value is not None:
        return field.check.read(value)
    if not field.is_nullable:
        raise ValueError("This field may not be null.")
    return None


def schema(fields: Fields, *, is_partial: bool = True) -> dict[str, Any]:
    """What the OpenAPI page says of a body with these fields."""
    required = [name for name, field in fields.items() if field.is_required and not is_partial]
    return {
        "type": "object",
        "properties": {name: _schema_of(field) for name, field in fields.items()},
        **({"required": required} if required else {}),
    }


def parameters(filters: Fields) -> list[dict[str, Any]]:
    """What the OpenAPI page says of a query with these filters."""
    return [
        {"name": name, "in": "query", "required": False, "schema": dict(field.check.schema)}
        for name, field in filters.items()
    ]


def _schema_of(field: Field) -> dict[str, Any]:
    if not field.is_nullable or not field.check.schema:
        return dict(field.check.schema)
    return {"anyOf": [dict(field.check.schema), {"type": "null"}]}
