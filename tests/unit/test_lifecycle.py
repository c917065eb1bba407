"""The life of a job: all hundred pairs of statuses, and the names of two dialects."""

from __future__ import annotations

import itertools

import pytest

from overmind_agent.errors import IllegalTransition
from overmind_agent.lifecycle import LIFECYCLE, Status, advance

# Rows: from. Columns, in the same order: to. An x is a step that a job may take.
PAIRS = """
              CREATED PENDING CLAIMED VALIDATING RUNNING UPLOADING COMPLETED FAILED CANCELED UNKNOWN
CREATED          .       x       .        .         .        .         .        x       x       .
PENDING          .       .       x        .         .        .         .        x       x       .
CLAIMED          .       x       .        x         .        .         .        x       x       .
VALIDATING       .       x       .        .         x        .         .        x       x       .
RUNNING          .       x       .        .         .        x         .        x       x       .
UPLOADING        .       x       .        .         .        .         x        x       x       .
COMPLETED        .       .       .        .         .        .         .        .       .       .
FAILED           .       .       .        .         .        .         .        .       .       .
CANCELED         .       .       .        .         .        .         .        .       .       .
UNKNOWN          .       .       .        .         .        .         .        .       .       .
"""


def _allowed() -> dict[tuple[Status, Status], bool]:
    head, *rows = (line.split() for line in PAIRS.strip().splitlines())
    return {
        (Status[row[0]], Status[to]): mark == "x" for row in rows for to, mark in zip(head, row[1:], strict=True)
    }


def test_the_table_has_all_hundred_pairs() -> None:
    assert set(itertools.product(Status, Status)) == set(_allowed())
    assert 100 == len(_allowed())


@pytest.mark.parametrize(("now", "to"), [pair for pair, is_allowed in _allowed().items() if is_allowed])
def test_a_job_may_take_this_step(now: Status, to: Status) -> None:
    assert to is advance(now, to)


@pytest.mark.parametrize(("now", "to"), [pair for pair, is_allowed in _allowed().items() if not is_allowed])
def test_a_job_may_not_take_this_step(now: Status, to: Status) -> None:
    with pytest.raises(IllegalTransition, match=f"a job that is {now.name} cannot become {to.name}"):
        advance(now, to)


@pytest.mark.parametrize(
    ("status", "name", "rest_name", "set_by", "is_final", "is_held"),
    [
        (Status.CREATED, "Created", "pending", "control plane", False, False),
        (Status.PENDING, "Pending", "pending", "control plane", False, False),
        (Status.CLAIMED, "Claimed", "running", "agent", False, True),
        (Status.VALIDATING, "Validating", "running", "agent", False, True),
        (Status.RUNNING, "Running", "running", "agent", False, True),
        (Status.UPLOADING, "Uploading", "running", "agent", False, True),
        (Status.COMPLETED, "Completed", "completed", "agent", True, False),
        (Status.FAILED, "Failed", "failed", "either", True, False),
        (Status.CANCELED, "Canceled", "cancelled", "either", True, False),
        (Status.UNKNOWN, "Unknown", "", "nobody", False, False),
    ],
)
def test_a_status_is_what_the_table_says(
    status: Status, name: str, rest_name: str, set_by: str, is_final: bool, is_held: bool
) -> None:
    stage = LIFECYCLE[status]

    assert status is Status.read(name)
    assert (name, rest_name, set_by) == (status.value, stage.rest_name, stage.set_by)
    assert (is_final, is_held) == (stage.is_final, stage.is_held)


@pytest.mark.parametrize("name", ["completed", "COMPLETED", "Cancelled", "Paused", "", " Running", "Unknown"])
def test_a_name_that_is_not_one_of_the_ten_is_unknown(name: str) -> None:
    assert Status.UNKNOWN is Status.read(name)
