"""What the server's answers about held jobs mean to us."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

from overmind_agent import wire
from overmind_agent.errors import RejectedError
from overmind_agent.jobs import Directive, Lease, Orders
from overmind_agent.over_http.refusals import Verb, refusal

LEASE_LIMITS_S: Final = (1.0, 3600.0)


def lease(grant: wire.LeaseGrant | None) -> Lease | None:
    """What was granted, within reason; None for no lease."""
    if grant is None:
        return None
    least, most = LEASE_LIMITS_S
    return Lease(ttl_s=min(most, max(least, grant.ttl_s)), waited_s=grant.waited_s or 0.0)


def orders(answer: wire.HeartbeatAnswer) -> Orders:
    """What is wanted of each job."""
    directives, leases = {}, {}
    for order in answer.jobs:
        with suppress(ValueError):  # a directive of a newer server changes nothing
            directives[order.job_id] = Directive(order.directive)
        if (found := lease(order.lease)) is not None:
            leases[order.job_id] = found
    return Orders(directives, leases, drain=answer.drain, is_replaced=answer.replaced)


def heard(verb: Verb, line: wire.Heard) -> RejectedError | None:
    """
    What one of several reports was refused with, as *verb* would have been.

    Raises:
        ControlPlaneError: it was not refused, and not heard either; all of them may be said again.
    """
    if line.http_status in verb.accepts:
        return None
    refused = refusal(verb, line.http_status, {}, json.dumps(line.error).encode())
    if not isinstance(refused, RejectedError):
        raise refused
    return refused
