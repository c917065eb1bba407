"""Lists of the Overmind Lab dialect: filters, search, order, and pages with links to their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from operator import eq, ge, le
from typing import Any, Final

from fastapi import Request
from sqlalchemy import ColumnElement, Select, UnaryExpression, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import base_url
from overmind_controlplane.lab.checks import Fields, parameters
from overmind_controlplane.refusals import NotFound, WrongFields

PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200

Column = InstrumentedAttribute[Any]
Columns = Mapping[str, Column]

_COMPARED: Final = {
    "created_after": ge,
    "score_min": ge,
    "version_min": ge,
    "created_before": le,
    "score_max": le,
    "version_max": le,
}
"""How a filter compares; any other must be equal."""


def compared(name: str, column: Column, value: Any) -> ColumnElement[bool]:
    """The condition of the filter *name*."""
    condition: ColumnElement[bool] = _COMPARED.get(name, eq)(column, value)
    return condition


def contains(words: str, *columns: Column) -> ColumnElement[bool]:
    """Each word stands in one of the columns, in any case."""
    return and_(*(or_(*(column.icontains(word, autoescape=True) for column in columns)) for word in words.split()))


def ordered(rows: Select[Any], ordering: str | None, columns: Columns, number: Column) -> Select[Any]:
    """
    *rows* in the order that was asked for, else by *number*, newest first.

    Raises:
        WrongFields: there is no such order.
    """
    wanted: list[UnaryExpression[Any]] = []
    for name in filter(None, (ordering or "").split(",")):
        column = columns.get(name.strip().removeprefix("-"))
        if column is None:
            raise WrongFields({"ordering": [f"Order by one of {', '.join(columns)}, each with or without -."]})
        wanted.append(column.desc() if name.strip().startswith("-") else column.asc())
    return rows.order_by(*wanted, number.desc())


def page(session: Session, request: Request, rows: Select[Any]) -> tuple[list[Any], dict[str, Any]]:
    """
    The page that was asked for, and what stands around it in the answer.

    Raises:
        NotFound: there is no such page.
    """
    number, size = _whole(request, "page", 1), min(_whole(request, "page_size", PAGE_SIZE), MAX_PAGE_SIZE)
    found, total = cut(session, rows, number, size)
    if not found and number > 1:
        raise NotFound("Invalid page.")
    following = _link(request, number + 1) if number * size < total else None
    previous = _link(request, number - 1) if number > 1 else None
    return found, {"count": total, "next": following, "previous": previous}


def described(filters: Fields, columns: Columns | None = None) -> dict[str, Any]:
    """What the OpenAPI page says of a list."""
    whole = {"type": "integer", "minimum": 1}
    told = [{"name": name, "in": "query", "required": False, "schema": whole} for name in ("page", "page_size")]
    orders = [order for name in columns or () for order in (name, f"-{name}")]
    ordering = {"name": "ordering", "in": "query", "required": False, "schema": {"type": "string", "enum": orders}}
    return {"parameters": parameters(filters) + told + ([ordering] if columns else [])}


def _link(request: Request, number: int) -> str:
    url = request.url.include_query_params(page=number)
    return f"{base_url(request)}{url.path}?{url.query}"


def _whole(request: Request, name: str, default: int) -> int:
    told = request.query_params.get(name) or str(default)
    if not (told.isascii() and told.isdigit() and 0 < int(told[:10]) < 1 << 31):
        raise NotFound("Invalid page.")
    return int(told[:10])
