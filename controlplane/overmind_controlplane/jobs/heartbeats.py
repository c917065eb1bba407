"""Heartbeats: one exchange for all of an agent's jobs, which renews its leases and tells it what to stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_agent.jobs import Directive
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, iterations, timers
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.record.database import is_changing
from overmind_controlplane.record.tables import Agent, Job, now

_HELD: Final = tuple(status for status, stage in LIFECYCLE.items() if stage.is_held)


def arrive(session: Session, caller: Caller, board: Board, agent: Agent, beat: wire.Heartbeat) -> frozenset[str]:
    """
    Take a heartbeat in: renew the leases of the jobs that it names, note how far they are, list their new steps.

    Jobs of projects that the caller does not see are none of its, whoever holds them.

    Returns:
        The jobs that the agent holds at this moment, named or not.
    """
    if not agents.is_replaced(agent, beat.instance):
        agents.saw(agent, slots=beat.slots, draining=beat.draining, not_accepting=beat.not_accepting)
    known = _known(session, caller, agent, beat.jobs)
    for line in beat.jobs:
        if (
            line.ends
            and (job := known.get(line.job_id))
            and _directive(agent, job, line.attempt) is Directive.CONTINUE
        ):
            board.resume(session, job, line.ends)
    going_on = [
        (job, line)
        for line in beat.jobs
        if (job := known.get(line.job_id)) and _directive(agent, job, line.attempt) is Directive.CONTINUE
    ]
    for job, line in going_on:
        if line.progress is not None:
            board.progress(job, line.progress.model_dump(exclude_none=True))
        iterations.attach_new(session, job, iterations.readable(line.iterations))
    timers.renew(session, [job.id for job, _ in going_on if job.is_leased], board.lease_s)
    return held(session, caller, agent)


def orders(
    session: Session, caller: Caller, board: Board, agent: Agent, lines: Sequence[wire.HeldJob]
) -> list[wire.JobOrder]:
    """What is wanted of each job that was named, in the same order."""
    known = _known(session, caller, agent, lines)
    return [_order(board, agent, known.get(line.job_id), line) for line in lines]


def held(session: Session, caller: Caller, agent: Agent) -> frozenset[str]:
    """The ids of the jobs that the agent holds and the caller sees."""
    # Of the jobs that have ended it is still the holder, and after a week of them they are many.
    mine = select(Job.id).where(Job.holder == agent.id, Job.status.in_(_HELD), Job.project_id.in_(caller.projects))
    return frozenset(session.scalars(mine))


def lease(board: Board) -> wire.LeaseGrant:
    """A whole lease from now, for the wire."""
    seconds = board.lease_s
    return wire.LeaseGrant(ttl_s=seconds, expires_at=now() + timedelta(seconds=seconds))


def _known(session: Session, caller: Caller, agent: Agent, lines: Sequence[wire.HeldJob]) -> dict[str, Job]:
    # Deleted jobs are among them: their holder is to hear of it. Of another's job nobody hears more than of none.
    seen = Job.project_id.in_(caller.projects)
    named = select(Job).where(Job.id.in_([line.job_id for line in lines]), Job.holder == agent.id, seen)
    if is_changing(session):  # in one order, so that two heartbeats never wait for each other
        named = named.order_by(Job.number).with_for_update(key_share=True)
    return {job.id: job for job in session.scalars(named)}


def _order(board: Board, agent: Agent, job: Job | None, line: wire.HeldJob) -> wire.JobOrder:
    directive = Directive.SUPERSEDED if job is None else _directive(agent, job, line.attempt)
    goes_on = job is not None and job.is_leased and directive is Directive.CONTINUE
    return wire.JobOrder(
        job_id=line.job_id,
        attempt=line.attempt,
        directive=directive.value,
        lease=lease(board) if goes_on else None,
    )


def _directive(agent: Agent, job: Job, attempt: int) -> Directive:
    if (job.holder, job.attempt) != (agent.id, attempt):
        return Directive.SUPERSEDED
    if job.status is Status.CANCELED:
        return Directive.CANCEL
    return Directive.CONTINUE if LIFECYCLE[job.status].is_held else Directive.SUPERSEDED
