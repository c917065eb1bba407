"""Looking again and again, for a server that does not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from overmind_agent.jobs import Directive, Orders
from overmind_agent.ports import Clock

# A cancel is noticed within the first; many held jobs are looked at less often, so that a host with 64 slots asks
# twice a second and not 32 times.
LOOK_EVERY_S: Final = 2.0
LOOK_S_PER_JOB: Final = 0.5


def look_until(look: Callable[[], Orders], clock: Clock, *, wait_s: float) -> Orders:
    """
    What *look* finds, as soon as a directive is not CONTINUE, else after *wait_s* seconds.

    It looks at least once, and ends early when the sleeper on *clock* is asked to stop.
    """
    ends_at_s = clock.now_s() + wait_s
    while True:
        orders = look()
        left_s = ends_at_s - clock.now_s()
        has_news = any(directive is not Directive.CONTINUE for directive in orders.directives.values())
        if has_news or not orders.directives or left_s <= 0:
            return orders
        gap_s = max(LOOK_EVERY_S, LOOK_S_PER_JOB * len(orders.directives))
        if clock.sleep(min(gap_s, left_s)):
            return orders
