"""
A server that has nothing beyond the published calls: no offer, no fence, no lease, no heartbeat.

What the published client can do is done: available jobs are listed, each held job is read to notice that it was
canceled, and an answer that was lost is told from a refusal by who stands last in the job's history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.errors import ClaimLost
from overmind_agent.jobs import Directive, Held, Job, NoJob, Orders, StatusUpdate
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.looking import look_until
from overmind_agent.over_http.refusals import MIB, Verb
from overmind_agent.ports import Clock

MESSAGE_CHARS: Final = 255
# Jobs that this host does not run may stand before those that it does; a server may go on giving the last page.
PAGE_SIZE: Final = 20
PAGES: Final = 50

LIST_JOBS: Final = Verb("next_job", 10, max_bytes=8 * MIB)
READ_JOB: Final = Verb("read_job", 15, is_on_job=True)
REPORT: Final = Verb("report", 15, is_on_job=True)
STATUS: Final = Verb("heartbeat", 10)


class PlainServer:
    """
    The published calls, which every server has. For one thread.

    Args:
        agent: this agent's id.
        clock: to read held jobs more than once in a heartbeat; None for once.
    """

    def __init__(self, calls: HttpCalls, agent: Callable[[], str], clock: Clock | None) -> None:
        self._calls = calls
        self._agent = agent
        self._clock = clock
        self._said_status: str | None = None

    def next_job(self, job_types: Collection[str]) -> Job | NoJob:
        """The first of the available jobs that is of one of these types."""
        path = f"/api/v2/agents/{segment(self._agent())}/available_jobs"
        for page in range(1, PAGES + 1):
            query = {"page": page, "size": PAGE_SIZE}
            answer = self._calls.call(LIST_JOBS, "GET", path, query=query)
            items = wire.parse(wire.RawPage, answer.body).items
            for found in items:
                job = wire.parse_next_job(json.dumps(found).encode())
                if isinstance(job, Job) and job.job_type in job_types:
                    return job
            if len(items) < PAGE_SIZE:
                break
        return NoJob("no job available")

    def read(self, job_id: str) -> wire.Job:
        """The job of that id."""
        answer = self._calls.call(READ_JOB, "GET", f"/api/v2/jobs/{segment(job_id)}")
        return wire.parse(wire.Job, answer.body)

    def is_ours(self, job: wire.Job, status: Status) -> bool:
        """Whether this agent gave the job that status last."""
        history = job.status_history or []
        return bool(history) and history[-1].name == status and history[-1].agent_id == self._agent()

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane. There is no release: a job that is given back has failed."""
        status, message = update.status, update.message
        if status is Status.PENDING:
            status, message = Status.FAILED, "agent_stopping: this agent stopped before the job was done"
        body: dict[str, Any] | None = {"message": message[:MESSAGE_CHARS]} if message else None
        query = {"status_name": status, "agent_id": self._agent()}
        try:
            self._calls.call(REPORT, "PUT", f"/api/v2/jobs/{segment(update.job_id)}/status", query=query, body=body)
        except ClaimLost:
            if not self.is_ours(self.read(update.job_id), status):
                raise

    def heartbeat(self, held: Sequence[Held], *, wait_s: float, is_accepting: bool) -> Orders:
        """Say by the agent's status what it does, and look at each job."""
        self._say_status("ExecutingJob" if held else "Idle" if is_accepting else "Paused")
        if self._clock is None:
            return self._look_at_each(held)
        with self._calls.giving_way():
            return look_until(lambda: self._look_at_each(held), self._clock, wait_s=wait_s)

    def _say_status(self, name: str) -> None:
        if name != self._said_status:
            path = f"/api/v2/agents/{segment(self._agent())}/status"
            self._calls.call(STATUS, "PUT", path, body={"name": name})
            self._said_status = name

    def _look_at_each(self, held: Sequence[Held]) -> Orders:
        return Orders({line.job_id: self._directive(line.job_id) for line in held})

    def _directive(self, job_id: str) -> Directive:
        try:
            found = self.read(job_id)
        except ClaimLost:
            return Directive.SUPERSEDED
        status = wire.read_job(found).status
        if status is Status.CANCELED:
            return Directive.CANCEL
        is_ours = found.agent_id in (None, self._agent()) and LIFECYCLE[status].is_held
        return Directive.CONTINUE if is_ours or status is Status.UNKNOWN else Directive.SUPERSEDED
