"""
Which trace the work of this thread belongs to.

A job's trace is the one that its submitter's call belonged to, or one made of its id; each attempt is a span in it.
What is about no job belongs to the trace of this process.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from overmind_agent.jobs import Claim, Job
from overmind_executors import trace_context
from overmind_executors.trace_context import TraceContext

THIS_PROCESS: Final = trace_context.fresh()

_current: Final[contextvars.ContextVar[TraceContext]] = contextvars.ContextVar("trace", default=THIS_PROCESS)


def current() -> TraceContext:
    """Where this thread is."""
    return _current.get()


@contextmanager
def within(context: TraceContext) -> Iterator[None]:
    """What this thread does in the block belongs to *context*."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def of_job(job: Job) -> TraceContext:
    """What the job is part of."""
    return of_traceparent(job.traceparent, job.id)


def of_traceparent(traceparent: str | None, job_id: str) -> TraceContext:
    """As `of_job`, for the job of that id; *traceparent* is what the control plane said of it."""
    return trace_context.parse(traceparent) or trace_context.made_of("job", job_id)


def of_claim(claim: Claim) -> TraceContext:
    """The span of that attempt at that job."""
    return of_attempt(of_job(claim.job), claim.job.id, claim.attempt)


def of_attempt(job: TraceContext, job_id: str, attempt: int) -> TraceContext:
    """The span of that attempt."""
    return job.child("attempt", job_id, attempt)
