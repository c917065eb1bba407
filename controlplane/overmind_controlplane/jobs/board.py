"""
The board: the only place where a job changes.

Every method works inside the caller's write transaction, so that fence, sequence, state, idempotency record,
history and the job itself change together or not at all. `get` locks the job until that transaction ends, for
all servers on the database. Whoever waits is woken after the commit.

A claim is decided in `claiming`; of every other word, `fence` says whether it may still be said, `sequence` whether
it was said before, `results` what files it needs; and `moving` writes the status.

What it does not own: files and blobs (`files`, `blobs`), who may call (`access`, the routes), how a job looks to
a caller (`shown`, the dialects).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, claiming, results, sequence, timers
from overmind_controlplane.jobs.fence import superseded
from overmind_controlplane.jobs.matching import demand_of, job_type, models_of, module_of
from overmind_controlplane.jobs.moving import move
from overmind_controlplane.jobs.quota import Quota
from overmind_controlplane.jobs.steps import path
from overmind_controlplane.jobs.waiting import agent_topic, project_topic
from overmind_controlplane.jobs.words import NewJob, Word
from overmind_controlplane.record import audit
from overmind_controlplane.record.database import is_changing, ring
from overmind_controlplane.record.tables import ArchiveEntry, Job, new_id, now
from overmind_controlplane.refusals import Conflict, NotFound
from overmind_controlplane.storage import files

MOST_ENDS: Final = 3
"""So often may agents end in the midst of a job's work, on all hosts together: then the job is what ends them."""

_NAMED: Final = select(Job).where(Job.id.in_(bindparam("job_ids", expanding=True)), Job.is_deleted.is_(False))
# In one order, so that two transactions never wait for each other.
_NAMED_TO_CHANGE: Final = _NAMED.order_by(Job.number).with_for_update(key_share=True)


_PLACE: Final = select(Job.__table__.c.project_id, Job.__table__.c.model_id).where(
    Job.__table__.c.id == bindparam("job_id"), Job.__table__.c.is_deleted.is_(False)
)


class Board:
    """
    The store of jobs. Keeps nothing itself; safe to use from any thread, each with a session of its own.

    Args:
        quota: how many jobs may wait; None for any number.

    Attributes:
        lease_s: for how long a claim or a heartbeat holds a job, seconds.
    """

    def __init__(self, lease_s: float, quota: Quota | None = None) -> None:
        self.lease_s = lease_s
        self._quota = quota or Quota(0, time.monotonic)

    # ------------------------------------------------------------------------------------------ finding

    def get(self, session: Session, caller: Caller, job_id: str) -> Job:
        """
        The caller's job of that id; nobody else can change it until the transaction ends.

        Raises:
            NotFound: there is none.
        """
        return self.of_caller(caller, self.get_all(session, {job_id}).get(job_id))

    @staticmethod
    def get_all(session: Session, job_ids: Collection[str]) -> dict[str, Job]:
        """The jobs of these ids, whosever they are, locked as by `get`; what is not there is left out."""
        named = _NAMED_TO_CHANGE if is_changing(session) else _NAMED
        return {job.id: job for job in session.scalars(named, {"job_ids": list(job_ids)})}

    @staticmethod
    def place_of(session: Session, caller: Caller, job_id: str) -> tuple[str, str]:
        """
        The ids of the project and of the model of the caller's job of that id, which is not locked.

        Raises:
            NotFound: there is none.
        """
        found = session.execute(_PLACE, {"job_id": job_id}).first()
        if found is None or found.project_id not in caller.projects:
            raise NotFound("Job not found")
        return found.project_id, found.model_id

    @staticmethod
    def of_caller(caller: Caller, job: Job | None) -> Job:
        """
        *job*, if it is one of the caller's.

        Raises:
            NotFound: it is not.
        """
        if job is None or job.project_id not in caller.projects:
            raise NotFound("Job not found")
        return job

    # ------------------------------------------------------------------------------------------ making

    def create(self, session: Session, caller: Caller, new: NewJob) -> Job:
        """
        A new job; it may be claimed at once.

        Raises:
            NotFound: its model is not there.
            Invalid: the agent that it is meant for is not there.
            TooManyJobs: too many of the project's wait.
        """
        if new.assigned_agent_id is not None:
            agents.must_be_there(session, caller, new.assigned_agent_id, "query", "assigned_agent_id")
        named = None if new.model_id is None else files.get_model(session, caller, new.model_id)
        # Last: what a job takes that is refused after this is gone until the next count.
        self._quota.take(session, caller.project_id)
        job_id = new_id()
        file_id = files.add_file(session, caller, ("Job", job_id), new.revision)
        model = named or files.add_model(session, caller, new.revision)
        module_name, module_version = module_of(new.function_name, new.function_version)
        job = Job(
            id=job_id,
            project_id=caller.project_id,
            created_by=caller.token_id,
            user_number=caller.number,
            status=Status.CREATED,
            attempt=0,
            function_name=new.function_name,
            function_version=new.function_version,
            module_name=module_name,
            module_version=module_version,
            job_type=job_type(new.function_name),
            model_id=model.id,
            has_input=new.model_id is not None,
            file_id=file_id,
            assigned_agent_id=new.assigned_agent_id,
            timeout_s=new.timeout_s,
            traceparent=audit.present_trace(),
            signature=new.signature,
            max_attempts=new.max_attempts,
            priority=new.priority,
            labels=sorted(new.labels),
            **new.fields,
        )
        job.demand = demand_of(session, job, new.models).number
        session.add(job)
        move(session, job, Word(Status.PENDING), caller)
        session.flush()
        return job

    def revise(
        self,
        session: Session,
        caller: Caller,
        job: Job,
        revision: files.NewRevision,
        models: Collection[str],
        signature: str | None = None,
    ) -> None:
        """
        Give a job that waits other parameters, which name *models*; the signature of the old ones goes with them.

        Raises:
            Conflict: somebody works on it already, or it is final.
        """
        if job.status is not Status.PENDING:
            raise Conflict(
                f"a job that is {job.status.name} keeps its parameters; make a new one", code="illegal_transition"
            )
        files.append_revision(session, caller, job.file_id, revision)
        job.signature = signature
        job.demand = demand_of(session, job, models).number
        job.updated = now()
        ring(session, project_topic(job.project_id))

    # ------------------------------------------------------------------------------------------ changing

    def report(
        self, session: Session, caller: Caller, job: Job, word: Word, known: claiming.Known | None = None
    ) -> None:
        """
        Apply what an agent says about a job that it wants or holds.

        Args:
            known: what a claim looks up, if somebody has looked already.

        Raises:
            Conflict: `claim_taken`, `superseded`, `expected_sequence`, `illegal_transition`, `files_missing`.
            Invalid: a repeated sequence number or key with other words.
        """
        if word.status is Status.CLAIMED:
            known = claiming.look_up(session, [(job, word)]) if known is None else known
            claiming.claim(session, caller, job, word, known, lease_s=self.lease_s)
            return
        if word.attempt is not None and word.attempt != job.attempt:
            raise superseded(job)
        if sequence.is_repeat(session, job, word):
            if job.status is Status.CANCELED and (word.agent_id, word.attempt) == (job.holder, job.attempt):
                results.add_artifacts(session, caller, job, word)  # the cancel was not its own, what it made is
            return
        if job.holder is None or word.agent_id not in (None, job.holder):
            raise superseded(job)
        sequence.must_be_next(job, word)
        added = results.add_artifacts(session, caller, job, word)
        results.must_be_there(session, job, word, added)
        move(session, job, word, caller)
        sequence.note(session, job, word)

    def cancel(self, session: Session, caller: Caller, job: Job, message: str | None = None) -> None:
        """
        End a job on request; safe to repeat. The holder hears of it in its next heartbeat.

        Raises:
            Conflict: it ended otherwise.
        """
        if job.status is not Status.CANCELED:
            move(session, job, Word(Status.CANCELED, message=message), caller)

    def drive(self, session: Session, caller: Caller, job: Job, to: Status, *, message: str | None = None) -> None:
        """
        Move a job that no agent holds to *to*, through every status on the way: its submitter does the work.

        Raises:
            Conflict: an agent holds it, or *to* cannot be reached.
        """
        if job.holder is not None and not job.is_driven:
            raise Conflict("an agent holds this job; cancel it instead", code="illegal_transition")
        for status in path(job.status, to):
            if status is Status.CLAIMED:
                claiming.grant(session, job, caller.token_id, lease_s=None)
                job.is_driven = True
            move(session, job, Word(status, message=message), caller)

    def lose(self, session: Session, job: Job) -> None:
        """The lease of a held job ran out: somebody else may try, but not for ever."""
        job.lost_attempts += 1
        if job.lost_attempts >= job.max_attempts or self._ends_agents(job):
            self._exhaust(session, job, "the last lease ran out")
            return
        holder = job.holder
        move(session, job, Word(Status.PENDING, agent_id=holder, message="the lease ran out"), None)
        if holder:
            ring(session, agent_topic(holder))

    def resume(self, session: Session, job: Job, ends: int) -> None:
        """
        The holder goes on with a job, having ended in the midst of its work *ends* times in this attempt.

        A job that ends whichever agent has it is given up, wherever that was and whether its leases ran out or not.
        """
        if ends > job.ends_now:
            job.ends += ends - job.ends_now
            job.ends_now = ends
            job.updated = now()
            if self._ends_agents(job):
                self._exhaust(session, job, f"agents ended {job.ends} times while they ran this job")

    @staticmethod
    def _ends_agents(job: Job) -> bool:
        return job.ends > 0 and job.lost_attempts + job.ends >= max(MOST_ENDS, job.max_attempts)

    def _exhaust(self, session: Session, job: Job, why: str) -> None:
        holder = job.holder
        message = f"{job.lost_attempts} attempts were lost; {why}"
        detail = {"reason": "attempts_exhausted"}
        move(session, job, Word(Status.FAILED, agent_id=holder, message=message, detail=detail), None)

    def progress(self, job: Job, line: Mapping[str, Any]) -> None:
        """How far the job is. No history: only the last line is kept."""
        if job.progress != line:
            job.progress = dict(line)
            job.updated = now()

    def assign(self, session: Session, caller: Caller, job: Job, agent_id: str | None) -> None:
        """
        Say which agent a waiting job is meant for; None for any.

        Raises:
            Conflict: the job does not wait any more.
            Invalid: there is no such agent.
        """
        if job.status is not Status.PENDING:
            raise Conflict(f"a job that is {job.status.name} cannot be assigned", code="illegal_transition")
        if agent_id is not None:
            agents.must_be_there(session, caller, agent_id, "body", "agent_id")
        job.assigned_agent_id = agent_id
        job.demand = demand_of(session, job, models_of(session, job)).number
        job.updated = now()
        timers.unreserve(job)
        ring(session, project_topic(job.project_id))

    def archive(self, session: Session, caller: Caller, job: Job, reason: str | None, *, is_archived: bool) -> None:
        """
        Put a job away, or take it out again; one that is put away is not offered.

        Raises:
            Conflict: it is so already.
        """
        if job.is_archived == is_archived:
            raise Conflict(f"the job is {'archived' if is_archived else 'active'} already")
        job.is_archived = is_archived
        job.updated = now()
        name = "Archived" if is_archived else "Active"
        session.add(
            ArchiveEntry(id=new_id(), resource_id=job.id, name=name, reason=reason, created_by=caller.token_id)
        )
        ring(session, project_topic(job.project_id))

    def delete(self, session: Session, caller: Caller, job: Job) -> None:
        """Take a job out of everybody's sight; whoever holds it is told to stop."""
        if not LIFECYCLE[job.status].is_final:
            self.cancel(session, caller, job, "the job was deleted")
        job.is_deleted = True

    def renew(self, session: Session, job: Job) -> None:
        """A whole lease from now, if the job has one."""
        if job.is_leased:
            job.lease_until = timers.end_of_lease(session, self.lease_s)
