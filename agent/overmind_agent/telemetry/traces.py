"""Which trace each job belongs to, for those who know a job by its id alone: its reports, the lines of the log."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any, Final

from overmind_agent import tracing
from overmind_agent.jobs import Claim, Job, StatusUpdate
from overmind_executors import trace_context
from overmind_executors.trace_context import TraceContext

# A report of a job that is longer gone than that belongs to the trace that is made of its id.
MOST_JOBS: Final = 1000


class Traces:
    """Learns from each job that it is shown. Safe to use from any thread."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def learn(self, what: object) -> None:
        """*what* may be a job or a claim; anything else teaches nothing."""
        job = what.job if isinstance(what, Claim) else what
        if isinstance(job, Job) and job.traceparent is not None:
            with self._lock:
                self._given[job.id] = job.traceparent
                if len(self._given) > MOST_JOBS:
                    self._given.popitem(last=False)

    def of_job(self, job_id: str) -> TraceContext:
        """What the job of that id is part of."""
        with self._lock:
            given = self._given.get(job_id)
        return tracing.of_traceparent(given, job_id)

    def given(self, job_id: str) -> TraceContext | None:
        """The span of the call that submitted it, None when it said none."""
        with self._lock:
            return trace_context.parse(self._given.get(job_id))

    def of(self, what: object) -> TraceContext:
        """What a call about *what* belongs to: a job, a claim, a status; anything else is about this process."""
        self.learn(what)
        match what:
            case Job():
                return self.of_job(what.id)
            case Claim():
                return tracing.of_attempt(self.of_job(what.job.id), what.job.id, what.attempt)
            case StatusUpdate():
                return tracing.of_attempt(self.of_job(what.job_id), what.job_id, what.attempt)
        return tracing.THIS_PROCESS

    def hear(self, _level: str, event: MutableMapping[str, Any]) -> None:
        """Put the trace into an event of the log that names a job."""
        if "job_id" in event:
            event.setdefault("trace_id", self.of_job(str(event["job_id"])).trace_id)
