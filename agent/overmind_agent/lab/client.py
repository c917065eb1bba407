"""
The control plane over Overmind Lab's REST alone: `/api/jobs/`, `/api/datasets/`, `/api/auth/me/`.

That API keeps records; it hands out nothing. What it cannot promise, and how that is narrowed here:

- **No claim.** A write does not ask what was there before. So: read the record, write `running` and the id of our
  run, wait SETTLE_S, read it back; whose id is there has the job. When every worker takes less than SETTLE_S from
  the start of its read to the end of its write, exactly one of them finds its own id. A slower one writes over an
  id that was read back already: then both work, until the other looks at the record (`looking`) and drops the
  job; the slower one waits that long before it begins.
- **No lease.** A job whose agent is gone for good stays `running` until a person writes `pending` or `cancelled`.
  An agent that comes back goes on with its jobs, however long it was away.
- **No fence.** Each write is read, merge, write: what somebody else writes between the two, some milliseconds, is
  lost, but for a cancel while the job runs, which no write of ours undoes. A cancel in the very moment of the last
  word may lose against it, unless the server guards final records.
- **No files.** Result files stay on this host (`host_results`); the record has their digests and where they are.
- **No history, no log.** `result.agent_run.phase` is the last of the ten statuses; the log stays here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.errors import AuthError, ClaimLost, InvalidInput, ProtocolError, RejectedError, TransientError
from overmind_agent.jobs import (
    Claim,
    Directive,
    Held,
    Job,
    NoJob,
    Orders,
    Progress,
    RemoteFile,
    ResultFile,
    StatusUpdate,
)
from overmind_agent.lab import datasets as lab_datasets
from overmind_agent.lab import result as lab_result
from overmind_agent.lab.host_results import HostResults
from overmind_agent.lab.listing import PendingJobs
from overmind_agent.lab.wire import LabJob, run_id
from overmind_agent.lifecycle import Status
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.looking import LOOK_EVERY_S, look_until
from overmind_agent.over_http.refusals import ANY_2XX, MIB, Verb
from overmind_agent.ports import Clock, Offer

SETTLE_S: Final = 1.0
WRITING_TICK_S: Final = 1.0
# By then a holder whose id was written over has looked at the record and been told.
LONG_SETTLE_S: Final = 2 * LOOK_EVERY_S + 1.0

# A progress line costs a write of the whole record: the longer it is, the rarer.
PROGRESS_GAP_S: Final = 5.0
PROGRESS_BYTES_PER_S: Final = 100_000

REGISTER: Final = Verb("register", 15, accepts=ANY_2XX)
NEXT_JOB: Final = Verb("next_job", 30, accepts=ANY_2XX, max_bytes=64 * MIB)
READ: Final = Verb("read_job", 30, is_on_job=True, accepts=ANY_2XX, max_bytes=64 * MIB)
CLAIM: Final = Verb("claim", 15, is_on_job=True, accepts=ANY_2XX, max_bytes=64 * MIB, may_be_empty=True)
ITERATION: Final = Verb("iteration", 30, accepts=ANY_2XX, may_be_empty=True)
REPORT: Final = Verb("report", 30, is_on_job=True, accepts=ANY_2XX, max_bytes=64 * MIB, may_be_empty=True)


@dataclass(frozen=True)
class Shared:
    """
    What the control planes of one agent's threads have in common.

    Attributes:
        writing: held from the read to the write of a record, so that no thread undoes what another one wrote.
    """

    results: HostResults
    writing: threading.Lock = field(default_factory=threading.Lock)


class LabControlPlane:
    """
    Fills the ControlPlane port. What this server lacks is in the module's docstring.

    Args:
        agent_id: as who this agent claims; made by `register`, since the server knows users and no agents.
    """

    def __init__(
        self,
        calls: HttpCalls,
        *,
        job_types: Sequence[str],
        agent_id: Callable[[], str | None],
        shared: Shared,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._known_id = agent_id
        self._shared = shared
        self._clock = clock
        self._offer(job_types)
        self._passed_over: set[str] = set()
        self._progress: dict[str, tuple[Progress, float]] = {}

    # ------------------------------------------------------------------------------------- the agent itself

    def now_offers(self, offer: Offer) -> None:
        """From now on these job types are taken; this server is told of nothing. From any thread."""
        self._offer(offer.job_types)

    def _offer(self, job_types: Sequence[str]) -> None:
        self._job_types = frozenset(job_types)
        self._pending = PendingJobs(self._calls, job_type=job_types[0] if len(job_types) == 1 else None)

    def register(self, known_id: str | None) -> str:
        """See ControlPlane. Asks only whether the token is accepted."""
        with self._calls.giving_way():
            self._calls.call(REGISTER, "GET", "/api/auth/me/")
        return known_id or str(uuid.uuid4())

    def leave(self) -> None:
        """See ControlPlane. This server knows no agents."""

    def stop_waiting(self) -> None:
        """See ControlPlane."""
        self._calls.stop_waiting()

    def _run_id(self, job_id: str, attempt: int) -> str:
        agent_id = self._known_id()
        if agent_id is None:
            raise ProtocolError("not registered yet")
        return run_id(agent_id, job_id, attempt)

    # ------------------------------------------------------------------------------------- getting a job

    def next_job(
        self,
        *,
        wait_s: float,  # noqa: ARG002 - this server holds no question open
        job_types: Collection[str] | None = None,
    ) -> Job | NoJob:
        """See ControlPlane. Answers at once."""
        wanted = self._job_types if job_types is None else job_types
        with self._calls.giving_way():
            for rows in self._pending.pages():
                for row in rows:
                    is_ours = row.status == "pending" and row.job_type in wanted
                    if is_ours and row.id not in self._passed_over and (job := self._look_up(row.id)):
                        return job
        passed_over = f" but {len(self._passed_over)} that cannot be read or taken" if self._passed_over else ""
        return NoJob(f"no job is pending{passed_over}")

    def next_claim(
        self,
        *,
        key: str,  # noqa: ARG002 - this server hands out nothing
        wait_s: float,  # noqa: ARG002
        job_types: Collection[str] | None = None,  # noqa: ARG002
    ) -> Claim | NoJob | None:
        """See ControlPlane."""
        return None

    def find_job(self, job_id: str) -> Job | NoJob:
        """See ControlPlane."""
        return self._look_up(job_id) or NoJob(f"job {job_id} does not wait")

    def _look_up(self, job_id: str) -> Job | None:
        """The listed job, None when it does not wait any more or cannot be read: then it is for somebody else."""
        try:
            found = self._read(NEXT_JOB, job_id)
        except ClaimLost:
            return None
        except ProtocolError:
            self._passed_over.add(job_id)
            return None
        return found.as_job() if found.stage is Status.PENDING else None

    def claim(self, job: Job, *, key: str) -> Claim:
        """See ControlPlane. *key* is in the record, so that a lost answer is told from somebody else's claim."""
        began_s = self._clock.now_s()
        found = self._read(READ, job.id)
        if found.job_type != job.job_type:
            raise _lost("claim", "the job has another type now")
        attempt = found.attempt
        settle_s = LONG_SETTLE_S
        if found.stage is Status.PENDING:
            attempt += 1
            run = {
                "agent_id": self._known_id(),
                "run_id": self._run_id(job.id, attempt),
                "attempt": attempt,
                "claim_key": key,
            }
            self._take(found, run)
            if self._clock.now_s() - began_s < SETTLE_S:
                settle_s = SETTLE_S
        elif not self._is_granted(found, attempt, key):
            raise _lost("claim", f"the job is {found.status}")
        if self._clock.sleep(settle_s):
            raise TransientError("claim: asked to stop before it was read back", verb="claim")
        found = self._read(READ, job.id)
        if not self._is_granted(found, attempt, key):
            raise _lost("claim", "another worker took the job, or it was canceled")
        return Claim(replace(found.as_job(), status=Status.CLAIMED, holder=self._known_id()), attempt, lease=None)

    def _take(self, found: LabJob, run: Mapping[str, Any]) -> None:
        try:
            self._write(CLAIM, found.id, lab_result.claimed(found, run))
        except ClaimLost:
            raise
        except RejectedError:
            self._passed_over.add(found.id)  # or it would be the first one to be tried for ever
            raise

    def _is_granted(self, found: LabJob, attempt: int, key: str) -> bool:
        return self._is_held(found, attempt) and found.run.get("claim_key") == key

    def _is_held(self, found: LabJob, attempt: int) -> bool:
        return found.stage is Status.RUNNING and found.run_id == self._run_id(found.id, attempt)

    def refuse(self, job_id: str, *, key: str, reason: str, message: str) -> None:  # noqa: ARG002 - the port's
        """See ControlPlane."""
        with self._writing():
            found = self._read(READ, job_id)
            if found.stage is not Status.PENDING:
                raise _lost("refuse", f"the job is {found.status}")
            self._write(REPORT, job_id, lab_result.refused(found, reason, message))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone from the read of a record to its write; who has to wait for that gives signs of life."""
        while not self._shared.writing.acquire(timeout=WRITING_TICK_S):
            self._clock.now_s()
        try:
            yield
        finally:
            self._shared.writing.release()

    # ------------------------------------------------------------------------------------- holding it

    def report_together(self, updates: Sequence[StatusUpdate]) -> None:  # noqa: ARG002 - a record at a time
        """See ControlPlane."""
        return

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane. A record that is final already was decided by somebody else."""
        with self._writing():
            found = self._read(READ, update.job_id)
            if found.run_id != self._run_id(update.job_id, update.attempt):
                raise _lost("report", "another run has the job")
            if found.sequence >= update.sequence:
                return
            if update.status is found.stage is Status.CANCELED:
                return
            if found.stage not in (Status.RUNNING, Status.UNKNOWN):
                raise _lost("report", f"somebody else made the job {found.status}")
            self._list_iterations(lab_result.iterations(found, update))
            self._write(REPORT, update.job_id, lab_result.said(found, update, self._refer(update.job_id)))

    def _list_iterations(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Before the last word, so that whoever sees the end sees them all; a server without them goes without."""
        for one in steps:
            try:
                self._calls.call(ITERATION, "POST", "/api/job-iterations/", body=one)
            except AuthError:
                raise
            except RejectedError:
                return

    def _refer(self, job_id: str) -> Callable[[str], str]:
        return lambda name: self._shared.results.refer(job_id, name)

    def heartbeat(
        self,
        held: Sequence[Held],
        *,
        draining: bool,  # noqa: ARG002 - there is no place for it
        wait_s: float,
        not_accepting: str | None = None,  # noqa: ARG002 - nor for this
    ) -> Orders:
        """See ControlPlane. Reads each record now and then, and writes how far the job is."""
        with self._calls.giving_way():
            return look_until(lambda: self._look_at(held), self._clock, wait_s=wait_s)

    def _look_at(self, held: Sequence[Held]) -> Orders:
        directives: dict[str, Directive] = {}
        failed: TransientError | None = None
        for line in held:
            try:
                directives[line.job_id] = self._directive(line)
            except TransientError as error:  # a record over which the server breaks hides no other one's cancel
                failed = error
        if failed is not None and not directives:
            raise failed
        return Orders(directives)

    def _directive(self, line: Held) -> Directive:
        try:
            found = self._read(READ, line.job_id)
        except ClaimLost:
            return Directive.SUPERSEDED
        if found.stage is Status.CANCELED:
            return Directive.CANCEL
        if not self._is_held(found, line.attempt) and found.stage is not Status.UNKNOWN:
            return Directive.SUPERSEDED
        if line.iterations:
            self._say_steps(line)
        if line.progress is not None:
            self._say_progress(line, line.progress)
        return Directive.CONTINUE

    def _say_steps(self, line: Held) -> None:
        with self._writing():  # read again, so that the last word lists none of them twice
            found = self._read(READ, line.job_id)
            if self._is_held(found, line.attempt):
                self._list_iterations(lab_result.unlisted(found, line.iterations))

    def _say_progress(self, line: Held, progress: Progress) -> None:
        now_s = self._clock.now_s()
        last, due_s = self._progress.get(line.job_id, (None, 0.0))
        if progress == last or now_s < due_s:
            return
        with self._writing():
            found = self._read(READ, line.job_id)
            if not self._is_held(found, line.attempt):
                return
            body = lab_result.at(found, progress)
            self._write(REPORT, line.job_id, body)
        size_bytes = found.as_job().parameters.size_bytes or 0
        self._progress[line.job_id] = (progress, now_s + PROGRESS_GAP_S + size_bytes / PROGRESS_BYTES_PER_S)

    def encloses(self, files: Sequence[ResultFile]) -> bool:  # noqa: ARG002 - they stay on this host
        """See ControlPlane."""
        return False

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int | None:  # noqa: ARG002 - there is no place
        """See ControlPlane. The log stays in the job's folder."""
        return None

    # ------------------------------------------------------------------------------------- files

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """See ControlPlane."""
        found = self._read(READ, job.id)
        if found.as_job().parameters.sha != job.parameters.sha:
            raise InvalidInput("parameters: were changed after the job had been claimed")
        if not isinstance(found.parameters, dict):
            raise InvalidInput("parameters: result.parameters must be a JSON object")
        return found.parameters

    def input_file(self, job: Job) -> RemoteFile | None:
        """See ControlPlane. A dataset is the only one that this server has."""
        return lab_datasets.named_by(self._read(READ, job.id).parameters)

    def download(self, file: RemoteFile, destination: Path) -> None:
        """See ControlPlane."""
        lab_datasets.download(self._calls, file, destination)

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """See ControlPlane. Keeps the file on this host."""
        return self._shared.results.keep(claim.job.id, file)

    def upload_together(self, _claim: Claim, _files: Sequence[ResultFile]) -> None:
        """See ControlPlane."""

    # ------------------------------------------------------------------------------------- records

    def _read(self, verb: Verb, job_id: str) -> LabJob:
        answer = self._calls.call(verb, "GET", _path(job_id))
        found = wire.parse(LabJob, answer.body)
        if found.id != job_id:
            raise ProtocolError("the answer is about another job")
        return found

    def _write(self, verb: Verb, job_id: str, body: dict[str, Any]) -> None:
        self._calls.call(verb, "PATCH", _path(job_id), body=body)


def _path(job_id: str) -> str:
    return f"/api/jobs/{segment(job_id)}/"


def _lost(verb: str, why: str) -> ClaimLost:
    return ClaimLost(f"{verb}: {why}", verb=verb, http_status=409)
