"""The life of a job as the board walks it: `lifecycle.advance` is the table, this is how its refusals sound."""

from __future__ import annotations

from collections import deque

from overmind_agent.errors import IllegalTransition
from overmind_agent.lifecycle import LIFECYCLE, Status, advance
from overmind_controlplane.refusals import Conflict


def step(present: Status, to: Status) -> Status:
    """
    *to*, if it may follow *present*.

    Raises:
        Conflict: `illegal_transition`.
    """
    try:
        return advance(present, to)
    except IllegalTransition as error:
        raise Conflict(str(error), code="illegal_transition") from error


def path(present: Status, to: Status) -> tuple[Status, ...]:
    """
    The statuses from *present* (not included) to *to*, by the fewest steps.

    Raises:
        Conflict: `illegal_transition`: there is no way.
    """
    ways: deque[tuple[Status, ...]] = deque([(present,)])
    seen = {present}
    while ways:
        way = ways.popleft()
        if way[-1] is to:
            return way[1:]
        for following in sorted(LIFECYCLE[way[-1]].next - seen):
            seen.add(following)
            ways.append((*way, following))
    return (step(present, to),)
