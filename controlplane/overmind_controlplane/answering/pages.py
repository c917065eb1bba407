"""Pages of a listing: the part that was asked for, and how much there is in all."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

RowT = TypeVar("RowT")


def cut(session: Session, rows: Select[RowT], page: int, size: int) -> tuple[list[RowT], int]:
    """Page number *page* (from 1) of *rows*, *size* to a page; and the number of all rows."""
    total = session.scalar(select(func.count()).select_from(rows.order_by(None).subquery())) or 0
    found = session.scalars(rows.limit(size).offset((page - 1) * size))
    return list(found), total


def count_pages(total: int, size: int) -> int:
    """How many pages *total* rows fill."""
    return -(-total // size)
