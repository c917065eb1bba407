"""
A job that ends its agent again and again: a start goes on with what it finds, but not for ever.

The control plane counts the leases that run out, and the ends that it is told of, over all hosts. An agent that is
started again at once keeps its lease, so it counts for itself, and tells the control plane when it goes on with the
job: but only those ends at which no other job was at work, and all of them as soon as it was alone at one. Where
nobody listens, ENDS of its own are enough. Jobs that were at work together at all ends but the last are `suspects`:
each is gone on with by itself, so that the next end is that of the one that did it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.errors import JournalError
from overmind_agent.host.last_life import Memory
from overmind_agent.jobs import Claim
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Journal

# So many ends of the agent, one after the other, in the midst of the same attempt. Three leases are as much.
ENDS: Final = 3
NAME: Final = "ends_at_work"
ALONE: Final = "ends_at_work_alone"
PROBED: Final = "at_work_by_itself"


def give_up_what_ends_us(
    journal: Journal, memory: Memory, ended_by: str, log: FilteringBoundLogger
) -> Mapping[tuple[str, int], int]:
    """
    Count the end of the last start, and give up the job that was at work at each of the last ENDS.

    That one is FAILED. Of several it is not known which it was: their leases run out, the control plane counts
    that, and they seldom meet again on one host. Where nothing runs out they are FAILED too.

    Args:
        ended_by: what ended the last start, as `last_life` says it. A reboot is no job's doing and is not counted.

    Returns:
        By job and attempt, how often the agent ended while it was at work on that job and on no other; of one that
        was alone at the last end, how often in all.
    """
    before, alone = (json.loads(memory.recall(name) or "{}") for name in (NAME, ALONE))
    probed = memory.recall(PROBED)
    at_work = {_name(claim): claim for claim in _at_work(journal) if not probed or _name(claim) == probed}
    one = 0 if ended_by == "host_reboot" else 1
    ends = {name: before.get(name, 0) + one for name in at_work}
    ends_alone = {name: alone.get(name, 0) + (one if len(at_work) == 1 else 0) for name in at_work}
    deadly = [claim for name, claim in at_work.items() if ends[name] >= ENDS]
    for claim in deadly:
        is_failed = len(deadly) == 1 or claim.lease is None
        log.error("job.given_up", job_id=claim.job.id, attempt=claim.attempt, ends=ENDS, failed=is_failed)
        if is_failed:
            message = f"attempts_exhausted: the agent ended {ENDS} times in a row while it ran this job"
            journal.post(claim, Status.FAILED, message=message, detail={"reason": "attempts_exhausted"})
        else:
            journal.lose(claim)
    for name, counts, known in ((NAME, ends, before), (ALONE, ends_alone, alone)):
        if counts != known:
            memory.remember(name, json.dumps(counts))
    if probed:
        memory.remember(PROBED, "")
    told = ends if one and len(at_work) == 1 else ends_alone
    return {(claim.job.id, claim.attempt): told[name] for name, claim in at_work.items()}


def suspects(journal: Journal, memory: Memory) -> frozenset[tuple[str, int]]:
    """By job and attempt, those that may end the agent once more, and of which nobody knows which it is."""
    ends = json.loads(memory.recall(NAME) or "{}")
    at_work = _at_work(journal)
    found = [claim for claim in at_work if ends.get(_name(claim), 0) >= ENDS - 1]
    return frozenset((claim.job.id, claim.attempt) for claim in found) if len(at_work) > 1 else frozenset()


def probing(memory: Memory, claim: Claim | None) -> None:
    """From now on *claim* is at work and no other job is; None for no more."""
    memory.remember(PROBED, _name(claim) if claim else "", synced=True)


def ended_in_order(memory: Memory) -> None:
    """The agent ends of its own accord: no job did it."""
    with suppress(JournalError):  # a full disk is what it may end for
        for name, nothing in ((NAME, "{}"), (ALONE, "{}"), (PROBED, "")):
            if memory.recall(name) not in (None, nothing):
                memory.remember(name, nothing)


def _name(claim: Claim) -> str:
    return f"{claim.job.id}/{claim.attempt}"


def _at_work(journal: Journal) -> Collection[Claim]:
    return [claim for claim in journal.held() if _was_at_work(journal, claim)]


def _was_at_work(journal: Journal, claim: Claim) -> bool:
    said = journal.statuses(claim)
    return Status.RUNNING in said and Status.UPLOADING not in said
