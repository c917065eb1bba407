"""
Which candidates need not be tried on all validation rows: after 10, 20, 40… of them one that is shown to be worse
than the best so far is out.

Source:
    "CAPO: Cost-Aware Prompt Optimization", arXiv 2504.16005: races in blocks of rows, with paired tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from overmind_executors.parameters import Parameters
from overmind_executors.tuning.splitting import Case


class Racing(Parameters):
    """
    Attributes:
        first_rows: after how many rows the first look is taken; the number doubles from look to look.
        alpha: the chance, at each look, that a candidate goes out which is as good as the best.
    """

    first_rows: Annotated[int, Field(ge=4)] = 10
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.1


def blocks(cases: Sequence[Case], racing: Racing | None) -> list[list[int]]:
    """The places of *cases* in the blocks that they are tried in; together all of them, in an order by content."""
    order = sorted(range(len(cases)), key=lambda place: (cases[place].group, cases[place].row.id))
    if racing is None:
        return [order]
    found, start, size = [], 0, racing.first_rows
    while start < len(order):
        found.append(order[start:size])
        start, size = size, 2 * size
    return found


def is_lost(values: Sequence[float | None], best: Sequence[float | None], racing: Racing) -> bool:
    """
    Whether a candidate is shown to be worse than the best.

    Args:
        values, best: on the same rows; one that either has no score for says nothing.
    """
    from overmind_executors.statistics.paired import compare  # a job's parameters are checked without scipy

    pairs = [
        (value, known) for value, known in zip(values, best, strict=True) if value is not None and known is not None
    ]
    if len(pairs) < 2:
        return False
    return compare([[value] for value, _ in pairs], [[known] for _, known in pairs]).p_value <= racing.alpha
