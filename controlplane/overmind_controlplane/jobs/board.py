"""
The board: the only place where a job changes.

Every method works inside the caller's write transaction, so that fence, sequence, state, idempotency record,
history and the job itself change together or not at all. `get` locks the job until that transaction ends, for
all servers on the database. Whoever waits is woken after the commit.

What it does not own: files and blobs (`files`, `blobs`), who may call (`access`, the routes), how a job looks to
a caller (`shown`, the dialects).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import claiming, outcomes, timers
from overmind_controlplane.jobs.matching import demand_of, job_type, models_of, module_of
from overmind_controlplane.jobs.quota import Quota
from overmind_controlplane.jobs.steps import path, step
from overmind_controlplane.jobs.waiting import agent_topic, log_topic, project_topic
from overmind_controlplane.jobs.words import NewJob, Word
from overmind_controlplane.record import audit, idempotency
from overmind_controlplane.record.appending import append
from overmind_controlplane.record.database import is_changing, ring
from overmind_controlplane.record.tables import Agent, ArchiveEntry, Iteration, Job, JobEvent, Said, new_id, now
from overmind_controlplane.refusals import Conflict, Invalid, NotFound, wrong
from overmind_controlplane.storage import files

MOST_ENDS: Final = 3
"""So often may agents end in the midst of a job's work, on all hosts together: then the job is what ends them."""

RESTORE_STEP: Final = 1000
"""More attempts than a job has between a backup and the moment when it is put back."""


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
        named = select(Job).where(Job.id.in_(job_ids), Job.is_deleted.is_(False))
        if is_changing(session):  # in one order, so that two transactions never wait for each other
            named = named.order_by(Job.number).with_for_update(key_share=True)
        return {job.id: job for job in session.scalars(named)}

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
            self._must_be_agent(session, caller, new.assigned_agent_id, "query", "assigned_agent_id")
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
        self._move(session, job, Word(Status.PENDING), caller)
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

    def attach_iteration(self, session: Session, job: Job, fields: Mapping[str, Any]) -> Iteration:
        """Add one step of the search to the job."""
        made = Iteration(id=new_id(), project_id=job.project_id, job_id=job.id, **fields)
        session.add(made)
        session.flush()
        return made

    def attach_iterations(self, session: Session, job: Job, steps: Iterable[Mapping[str, Any]]) -> None:
        """Add *steps* that an agent told, but for those whose order and name are listed already."""
        if not (told := list(steps)):
            return
        there = select(Iteration.order, Iteration.iteration_name).where(Iteration.job_id == job.id)
        listed = {(order, name) for order, name in session.execute(there)}
        for fields in told:
            if (place := (fields.get("order", 0), fields["iteration_name"])) not in listed:
                listed.add(place)
                self.attach_iteration(session, job, fields)
                job.updated = now()

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
            self._claim(session, caller, job, word, known)
            return
        if word.attempt is not None and word.attempt != job.attempt:
            raise _superseded(job)
        if self._is_repeat(session, job, word):
            if job.status is Status.CANCELED and (word.agent_id, word.attempt) == (job.holder, job.attempt):
                self._add_artifacts(session, caller, job, word)  # the cancel was not its own, what it made is
            return
        if job.holder is None or word.agent_id not in (None, job.holder):
            raise _superseded(job)
        self._must_be_next(job, word)
        self._add_artifacts(session, caller, job, word)
        self._may_end(session, job, word)
        self._move(session, job, word, caller)
        if word.sequence is not None:
            job.sequence = word.sequence
            self._note(session, job, word)

    def cancel(self, session: Session, caller: Caller, job: Job, message: str | None = None) -> None:
        """
        End a job on request; safe to repeat. The holder hears of it in its next heartbeat.

        Raises:
            Conflict: it ended otherwise.
        """
        if job.status is not Status.CANCELED:
            self._move(session, job, Word(Status.CANCELED, message=message), caller)

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
                self._grant(session, job, caller.token_id, is_leased=False)
                job.is_driven = True
            self._move(session, job, Word(status, message=message), caller)

    def lose(self, session: Session, job: Job) -> None:
        """The lease of a held job ran out: somebody else may try, but not for ever."""
        job.lost_attempts += 1
        if job.lost_attempts >= job.max_attempts or self._ends_agents(job):
            self._exhaust(session, job, "the last lease ran out")
            return
        holder = job.holder
        self._move(session, job, Word(Status.PENDING, agent_id=holder, message="the lease ran out"), None)
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
        self._move(session, job, Word(Status.FAILED, agent_id=holder, message=message, detail=detail), None)

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
            self._must_be_agent(session, caller, agent_id, "body", "agent_id")
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

    @staticmethod
    def must_be_latest(job: Job, attempt: int | None) -> None:
        """
        What comes after the end of a job, such as the rest of its log, is taken until another attempt is granted.

        Raises:
            Conflict: another one was granted; or there is no *attempt*, and the job is not held.
        """
        if attempt is None:
            Board.must_be_present(job, None)
        elif attempt != job.attempt:
            raise _superseded(job)

    @staticmethod
    def fence_off(session: Session) -> int:
        """
        After an older state of the database was put back: no attempt that was granted since then is the present one
        of its job, or ever will be. How many jobs that were not final were moved so.
        """
        open_ones = [status for status, stage in LIFECYCLE.items() if not stage.is_final]
        moved = update(Job).where(Job.status.in_(open_ones)).values(attempt=Job.attempt + RESTORE_STEP)
        return session.connection().execute(moved).rowcount

    @staticmethod
    def may_add_file(job: Job, attempt: int | None) -> None:
        """
        Raises:
            Conflict: as `must_be_present`; but the last attempt of a canceled job may leave what it had made.
        """
        if job.status is not Status.CANCELED or attempt is None or attempt != job.attempt:
            Board.must_be_present(job, attempt)

    @staticmethod
    def must_be_present(job: Job, attempt: int | None) -> None:
        """
        Raises:
            Conflict: the job is not held in *attempt* any more. Without one, only a canceled job is refused: that
                is how an agent that knows no fence learns of the cancel.
        """
        is_past = not LIFECYCLE[job.status].is_held or attempt != job.attempt
        if job.status is Status.CANCELED or (attempt is not None and is_past):
            raise _superseded(job)

    # ------------------------------------------------------------------------------------------ inside

    def _claim(self, session: Session, caller: Caller, job: Job, word: Word, known: claiming.Known) -> None:
        agent_id = word.agent_id
        if agent_id is None:
            raise wrong("a claim names the agent that claims", "query", "agent_id", kind="missing")
        agent = known.agents.get((caller.project_id, agent_id))
        if agent is None:
            raise _no_agent(agent_id, "query", "agent_id")
        scope, asked = claiming.scope(job, agent_id), idempotency.digest(job.id)
        granted = idempotency.same(known.granted.get((scope, word.key)), asked) if word.key is not None else None
        if granted is not None:
            if (granted.attempt, agent_id) != (job.attempt, job.holder):
                raise _superseded(job)
            return
        if word.key is None and self._is_same_again(session, job, word):
            return
        if LIFECYCLE[job.status].is_held or job.assigned_agent_id not in (None, agent_id):
            raise Conflict("the job is taken, or meant for another agent", code="claim_taken")
        if job.status is Status.PENDING and not self._is_free_for(session, job, agent_id):
            raise Conflict("the job is offered to another agent at this moment", code="claim_taken")
        if job.is_archived:
            raise Conflict("the job is archived", code="illegal_transition")
        step(job.status, Status.CLAIMED)
        self._grant(session, job, agent_id, is_leased="lease" in agent.capabilities)
        self._move(session, job, word, caller)
        if word.key is not None:
            idempotency.keep(session, scope, word.key, asked, made=job.id, attempt=job.attempt)
        ring(session, agent_topic(agent_id))

    @staticmethod
    def is_fresh(job: Job, agent_id: str, attempt: int) -> bool:
        """Whether the agent holds the job in that attempt, and has not said a word about it yet."""
        return LIFECYCLE[job.status].is_held and (job.holder, job.attempt, job.sequence) == (agent_id, attempt, 0)

    def renew(self, session: Session, job: Job) -> None:
        """A whole lease from now, if the job has one."""
        if job.is_leased:
            job.lease_until = timers.end_of_lease(session, self.lease_s)

    @staticmethod
    def _is_free_for(session: Session, job: Job, agent_id: str) -> bool:
        if job.reserved_for in (None, agent_id):
            return True
        free = select(Job.id).where(Job.id == job.id, timers.is_free_for(agent_id))
        return session.scalar(free) is not None

    def _grant(self, session: Session, job: Job, holder: str, *, is_leased: bool) -> None:
        self._forget_steps(session, job)
        # Before anything is changed, or the question would have it written at once, and the rest later.
        lease_until = timers.end_of_lease(session, self.lease_s) if is_leased else None
        job.attempt += 1
        job.holder = holder
        job.is_leased = is_leased
        job.lease_until = lease_until
        timers.unreserve(job)
        job.sequence = job.ends_now = 0
        job.declared = []
        job.progress = None
        job.started_at = now()

    @staticmethod
    def _forget_steps(session: Session, job: Job) -> None:
        """A new attempt searches anew: what the last one told is none of its steps."""
        if job.attempt and job.started_at is not None:
            session.execute(
                delete(Iteration).where(Iteration.job_id == job.id, Iteration.created >= job.started_at)
            )

    def _move(self, session: Session, job: Job, word: Word, caller: Caller | None) -> None:
        """The one place where a status is written."""
        job.status = step(job.status, word.status)
        job.updated = now()
        line = {
            "job_id": job.id,
            "name": job.status,
            "created": job.updated,
            "created_by": caller.token_id if caller else None,
            "agent_id": word.agent_id,
            "attempt": job.attempt or None,
            "message": outcomes.shortened(word.message),
            "detail": dict(word.detail) or None,
        }
        append(session, JobEvent, line)
        outcomes.keep(job, word)
        self.attach_iterations(session, job, outcomes.iterations(word))
        stage = LIFECYCLE[job.status]
        if stage.is_final:
            job.finished_at = job.updated
            job.lease_until = None
            ring(session, log_topic(job.id))
            if job.holder:
                ring(session, agent_topic(job.holder))
        elif not stage.is_held:
            job.holder, job.is_leased, job.is_driven, job.lease_until = None, False, False, None
            ring(session, project_topic(job.project_id))

    def _is_repeat(self, session: Session, job: Job, word: Word) -> bool:
        if word.sequence is None:
            return self._is_same_again(session, job, word)
        # A holder that reports the cancel which it was told of is right, whatever was said before.
        if word.status is job.status is Status.CANCELED:
            return True
        if word.sequence > job.sequence:
            return False
        said = session.get(Said, (job.id, job.attempt, word.sequence))
        if said is not None and said.digest == word.digest:
            return True
        raise wrong(
            f"sequence {word.sequence} of attempt {job.attempt} was said with other words",
            "header",
            "Overmind-Sequence",
        )

    @staticmethod
    def _is_same_again(session: Session, job: Job, word: Word) -> bool:
        if word.status is not job.status:
            return False
        if word.status is Status.CANCELED:
            return True
        last = session.scalars(
            select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.number.desc()).limit(1)
        ).one()
        return (last.agent_id, last.message) == (word.agent_id, outcomes.shortened(word.message))

    @staticmethod
    def _add_artifacts(session: Session, caller: Caller, job: Job, word: Word) -> None:
        """Add what came with *word*, but for what came before by itself."""
        if not word.artifacts:
            return
        scope = files.artifact_scope(job.project_id, caller)
        known = idempotency.find_all(session, {(scope, new.key) for new in word.artifacts})
        news = [new for new in word.artifacts if not idempotency.same(known.get((scope, new.key)), new.asked)]
        owner = caller.within(job.project_id)
        made = files.add_artifacts(session, owner, job.model_id, job.file_id, [new.revision for new in news])
        for new, artifact_id in zip(news, made, strict=True):
            if new.as_model:
                files.add_model(session, owner, new.revision)
            idempotency.keep(session, scope, new.key, new.asked, made=artifact_id)

    @staticmethod
    def _must_be_next(job: Job, word: Word) -> None:
        expected = job.sequence + 1
        if word.sequence is not None and word.sequence != expected:
            raise Conflict(
                f"sequence {expected} comes next in attempt {job.attempt}, not {word.sequence}",
                code="expected_sequence",
                expected=expected,
            )

    def _may_end(self, session: Session, job: Job, word: Word) -> None:
        if word.status is not Status.COMPLETED or not job.declared:
            return
        step(job.status, word.status)
        there = {(made.name, made.size, made.sha256) for _, made in files.results(session, job.file_id)}
        missing = [
            line["name"] for line in job.declared if (line["name"], line["size_bytes"], line["sha256"]) not in there
        ]
        if missing:
            raise Conflict(
                f"declared files are not there: {', '.join(missing[:5])}"
                + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
                code="files_missing",
                missing=missing[:100],
            )

    @staticmethod
    def _note(session: Session, job: Job, word: Word) -> None:
        said = {"job_id": job.id, "attempt": job.attempt, "sequence": word.sequence, "digest": word.digest}
        append(session, Said, said)

    @staticmethod
    def _must_be_agent(session: Session, caller: Caller, agent_id: str, *loc: str) -> Agent:
        agent = session.scalar(select(Agent).where(Agent.id == agent_id, Agent.project_id == caller.project_id))
        if agent is None:
            raise _no_agent(agent_id, *loc)
        return agent


def _no_agent(agent_id: str, *loc: str) -> Invalid:
    return wrong(f"there is no agent {agent_id}; register it", *loc)


def _superseded(job: Job) -> Conflict:
    return Conflict(
        f"the job is no longer held so: its present attempt is {job.attempt}; drop it",
        code="superseded",
        attempt=job.attempt,
    )
