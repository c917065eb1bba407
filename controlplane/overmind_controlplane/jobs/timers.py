"""
Leases and reservations: what runs out. Columns of the job, in seconds on `StoreClock`, so that every server on
one database sees the same, and a restart forgets nothing.

When nobody swept for a while (no server ran, the database was away, its clock was set), `renew_all` gives every
lease anew: agents that could not reach a server lose no job by it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import BindParameter, ColumnElement, ScalarSelect, Update, bindparam, or_, select, update
from sqlalchemy.orm import Session

from overmind_controlplane.record.stores import StoreClock
from overmind_controlplane.record.tables import Job

RESERVATION_S: Final = 5.0
_CLOCK_S: Final = "clock_s"


def is_free_for(agent_id: str | BindParameter[str]) -> ColumnElement[bool]:
    """The condition that a job is not kept for an agent other than this one."""
    return or_(Job.reserved_until.is_(None), Job.reserved_until <= StoreClock(), Job.reserved_for == agent_id)


def reserving(number: ScalarSelect[int]) -> Update:
    """The statement of `reserve` for the job of that number."""
    until = StoreClock() + RESERVATION_S
    kept = update(Job).where(Job.number == number).values(reserved_for=bindparam("agent_id"), reserved_until=until)
    return kept.returning(Job, StoreClock())


def reserve(session: Session, keeping: Update, agent_id: str, **more: int) -> Job | None:
    """
    Keep a job for the agent, for a moment; None when there is none.

    It tells the time as well: a job that is reserved is mostly claimed next.

    Args:
        keeping: made by `reserving`.
        more: the values of what is bound in it.
    """
    found = session.execute(keeping, {"agent_id": agent_id, **more}, execution_options=_PLAIN).first()
    if found is None:
        return None
    job: Job
    job, session.info[_CLOCK_S] = found
    return job


def unreserve(job: Job) -> None:
    """The job was claimed, or is no longer to be had."""
    job.reserved_for = job.reserved_until = None


def has_run_out() -> ColumnElement[bool]:
    """The condition that a job's lease has."""
    return Job.lease_until <= StoreClock()


def end_of_lease(session: Session, lease_s: float) -> float:
    """When a lease that begins now runs out. The clock is read once a transaction: a number costs no statement."""
    if _CLOCK_S not in session.info:
        session.info[_CLOCK_S] = session.scalars(select(StoreClock())).one()
    now_s: float = session.info[_CLOCK_S]
    return now_s + lease_s


def renew(session: Session, job_ids: Collection[str], lease_s: float) -> None:
    """Give the leases of these jobs one whole lease from now."""
    if job_ids:
        held = update(Job).where(Job.id.in_(job_ids)).values(lease_until=StoreClock() + lease_s)
        session.execute(held, execution_options=_PLAIN)


def renew_all(session: Session, lease_s: float) -> None:
    """Give every lease anew, and forget every reservation: nobody was there to keep either."""
    leased = update(Job).where(Job.lease_until.is_not(None))
    session.execute(leased.values(lease_until=StoreClock() + lease_s), execution_options=_PLAIN)
    reserved = update(Job).where(Job.reserved_until.is_not(None))
    session.execute(reserved.values(reserved_for=None, reserved_until=None), execution_options=_PLAIN)


# What the session knows of these columns is not asked for again within the transaction.
_PLAIN: Final = {"synchronize_session": False}
