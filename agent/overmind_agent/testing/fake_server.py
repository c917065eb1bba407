"""A control plane in memory that refuses what the real one refuses, and fails where it is told to."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from overmind_agent.errors import ClaimLost, IllegalTransition, InvalidInput, TransientError
from overmind_agent.jobs import Claim, Directive, Held, Job, Lease, Progress, RemoteFile, StatusUpdate
from overmind_agent.lifecycle import LIFECYCLE, Status, advance
from overmind_agent.ports import Clock
from overmind_agent.testing.clock import VirtualClock
from overmind_executors import strict_json

OFFER_S: Final = 5.0
# Of one agent in the midst of one attempt; the real one counts those of all attempts together.
MOST_ENDS: Final = 3


class After:
    """A step of a script: the call takes effect, but its answer is lost."""


AFTER: Final = After()

Step = Exception | After | Callable[[], object]


@dataclass
class FakeJob:
    """What the server knows of a job. Tests may look at everything, and change nothing but through FakeServer."""

    job: Job
    status: Status = Status.PENDING
    attempt: int = 0
    sequence: int = 0
    holder: str | None = None
    lease_ends_at_s: float | None = None
    offered_to: str | None = None
    offered_until_s: float = 0.0
    input_file: RemoteFile | None = None
    declared: Sequence[Mapping[str, Any]] = ()
    progress: Progress | None = None
    history: list[Status] = field(default_factory=lambda: [Status.PENDING])
    updates: list[StatusUpdate] = field(default_factory=list)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    log: bytes = b""
    ends: int = 0

    @property
    def reason(self) -> str | None:
        """Why it failed, as its agent said."""
        return self.updates[-1].detail.get("reason") if self.updates else None


@dataclass(frozen=True)
class Beat:
    """What one heartbeat said."""

    held: tuple[Held, ...]
    draining: bool
    wait_s: float
    not_accepting: str | None = None


class FakeServer:
    """
    The jobs of one project, and the agents that work on them.

    Args:
        lease_s: how long a claim holds without a heartbeat; None for no leases.

    Attributes:
        calls: the verb of every call that was made, in order, those that were made to fail included.
        beats: every heartbeat that was taken in.
        hears_several: whether it takes several reports in one exchange.
        takes_several: whether it takes several result files in one call.
        grants: whether it grants what it would offer, in one exchange.
        takes_enclosed: whether result files may go with words about their job.
        drain, is_replaced: what heartbeats say of it.
        left: the agents that have said that they take no more jobs.
        away_until_s: on its clock; before that nobody answers.
    """

    def __init__(self, clock: Clock | None = None, *, lease_s: float | None = 60.0) -> None:
        self.clock = clock or VirtualClock()
        self.lease_s = lease_s
        self.jobs: dict[str, FakeJob] = {}
        self.agents: set[str] = set()
        self.calls: list[str] = []
        self.beats: list[Beat] = []
        self.hears_several = True
        self.takes_several = True
        self.grants = False
        self.takes_enclosed = False
        self.drain = False
        self.is_replaced = False
        self.left: list[str] = []
        self.away_until_s = 0.0
        self._blobs: dict[str, bytes] = {}
        self._claims: dict[tuple[str, str], tuple[str, int]] = {}
        self._scripts: dict[str, deque[Step]] = defaultdict(deque)
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------ for whoever submits

    def submit(
        self,
        job_type: str = "inference",
        parameters: object = None,
        *,
        input_bytes: bytes | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """A new job, PENDING; returns its id. *parameters* are JSON, or bytes as they are."""
        raw = parameters if isinstance(parameters, bytes) else strict_json.dumps(parameters or {}).encode()
        with self._lock:
            job = Job(
                id=str(uuid.uuid4()),
                job_type=job_type,
                parameters=self._store(raw, "parameters.json"),
                model_id=str(uuid.uuid4()),
                status=Status.PENDING,
                has_input=input_bytes is not None,
                timeout_s=timeout_s,
            )
            file = self._store(input_bytes, "rows.jsonl") if input_bytes is not None else None
            self.jobs[job.id] = FakeJob(job, input_file=file)
        return job.id

    def alter(self, job_id: str, **fields: Any) -> None:
        """Say other things of a job than its submitter did, as a server that is not to be trusted may."""
        with self._lock:
            found = self.jobs[job_id]
            found.input_file = fields.pop("input_file", found.input_file)
            found.job = replace(found.job, **fields)

    def cancel(self, job_id: str) -> None:
        """End a job on request, at once."""
        with self._lock:
            self._move(self.jobs[job_id], Status.CANCELED)

    def expire(self, job_id: str) -> None:
        """Let the lease of a held job run out."""
        with self._lock:
            self._move(self.jobs[job_id], Status.PENDING)

    def forget_agents(self) -> None:
        """As after a restore from an old backup."""
        self.agents.clear()

    def script(self, verb: str, *steps: Step) -> None:
        """
        What happens in the next calls of *verb*, one step each: an exception is raised instead of the call, AFTER
        lets it take effect and loses its answer, and anything else is called first.
        """
        self._scripts[verb].extend(steps)

    def calm(self) -> None:
        """Nothing of what was scripted happens any more."""
        self._scripts.clear()

    # ------------------------------------------------------------------------------------ for FakeControlPlane

    @contextmanager
    def call(self, verb: str) -> Iterator[None]:
        """One call: alone, and as scripted."""
        with self._lock:
            self.calls.append(verb)
            if self.clock.now_s() < self.away_until_s:
                raise TransientError(f"{verb}: connection refused", verb=verb)
            step = self._scripts[verb].popleft() if self._scripts[verb] else None
            if isinstance(step, Exception):
                raise step
            if step is not None and not isinstance(step, After):
                step()
            self._end_leases()
            yield
            if isinstance(step, After):
                raise TransientError(f"{verb}: the answer was lost", verb=verb)

    def find(self, verb: str, job_id: str) -> FakeJob:
        """The job of that id."""
        if job_id not in self.jobs:
            raise ClaimLost(f"{verb}: 404: no such job", verb=verb, http_status=404)
        return self.jobs[job_id]

    def must_be_latest(self, verb: str, claim: Claim) -> FakeJob:
        """The job of *claim*, if nobody has got it since."""
        found = self.find(verb, claim.job.id)
        if claim.attempt != found.attempt:
            raise conflict(verb, "superseded")
        return found

    def must_take_file(self, verb: str, claim: Claim) -> FakeJob:
        """The job of *claim*, if the claim still holds, or was the last one of a job that was canceled."""
        found = self.must_be_latest(verb, claim)
        return found if found.status is Status.CANCELED else self.must_be_held(verb, claim)

    def must_be_held(self, verb: str, claim: Claim) -> FakeJob:
        """The job of *claim*, if the claim still holds."""
        found = self.find(verb, claim.job.id)
        if not LIFECYCLE[found.status].is_held or claim.attempt != found.attempt:
            raise conflict(verb, "superseded")
        return found

    def offer(self, agent_id: str, job_types: Collection[str] | None = None) -> Job | None:
        """The oldest job that waits and is offered to nobody else; from now on it is offered to *agent_id*."""
        now_s = self.clock.now_s()
        for found in self.jobs.values():
            is_free = found.offered_to in (None, agent_id) or now_s >= found.offered_until_s
            is_asked = job_types is None or found.job.job_type in job_types
            if found.status is Status.PENDING and is_free and is_asked:
                found.offered_to, found.offered_until_s = agent_id, now_s + OFFER_S
                return self._as_job(found)
        return None

    def grant(self, agent_id: str, job_id: str, key: str) -> Claim:
        """The job, for *agent_id*; the same *key* gives the same claim, as long as it holds."""
        found = self.find("claim", job_id)
        granted = self._claims.get((agent_id, key))
        if granted is not None:
            if granted[0] != job_id:
                raise ClaimLost("claim: 422: the key was used for another job", verb="claim", http_status=422)
            if (granted[1], agent_id) != (found.attempt, found.holder):
                raise conflict("claim", "superseded")
            return self._as_claim(found)
        is_offered = found.offered_to not in (None, agent_id) and self.clock.now_s() < found.offered_until_s
        if found.status is Status.PENDING and is_offered:
            raise conflict("claim", "claim_taken")
        if found.status is not Status.PENDING:
            raise conflict("claim", "claim_taken" if LIFECYCLE[found.status].is_held else "illegal_transition")
        found.attempt, found.sequence, found.holder = found.attempt + 1, 0, agent_id
        found.updates, found.declared, found.offered_to, found.ends = [], (), None, 0
        self._move(found, Status.CLAIMED)
        self._renew(found)
        self._claims[agent_id, key] = (job_id, found.attempt)
        return self._as_claim(found)

    def grant_next(self, agent_id: str, key: str, job_types: Collection[str] | None = None) -> Claim | None:
        """What `offer` would give, granted; what *key* was granted before, as long as nothing was said of it."""
        if (before := self._claims.get((agent_id, key))) is not None:
            found = self.find("next_claim", before[0])
            state = (found.holder, found.attempt, found.sequence, LIFECYCLE[found.status].is_held)
            if state != (agent_id, before[1], 0, True):
                raise conflict("next_claim", "superseded")
            self._renew(found)
            return self._as_claim(found)
        offered = self.offer(agent_id, job_types)
        return None if offered is None else self.grant(agent_id, offered.id, key)

    def take_in(
        self, agent_id: str, update: StatusUpdate, enclosed: Mapping[tuple[str, str], bytes] | None = None
    ) -> None:
        """Apply a status update, with the files that came with it, by name and SHA-256."""
        found = self.find("report", update.job_id)
        if update.attempt != found.attempt:
            raise conflict("report", "superseded")
        if update.status is found.status is Status.CANCELED:
            return
        if update.sequence <= found.sequence:
            if replace(found.updates[update.sequence - 1], enclosed=update.enclosed) == update:
                return
            raise ClaimLost("report: 422: said with other words", verb="report", http_status=422)
        if found.holder != agent_id:
            raise conflict("report", "superseded")
        if update.sequence != found.sequence + 1:
            raise conflict("report", "expected_sequence", expected=found.sequence + 1)
        there = {(name, sha256) for name, sha256 in [*found.files, *(enclosed or {})]}
        missing = [line["name"] for line in found.declared if (line["name"], line["sha256"]) not in there]
        if update.status is Status.COMPLETED and missing:
            raise conflict("report", "files_missing", missing=missing)
        try:
            self._move(found, update.status)
        except IllegalTransition as error:
            raise conflict("report", "illegal_transition") from error
        found.files |= enclosed or {}
        found.sequence = update.sequence
        found.updates.append(update)
        found.declared = update.detail.get("files", found.declared)

    def order(self, agent_id: str, line: Held) -> tuple[Directive, Lease | None]:
        """What is wanted of one job of a heartbeat."""
        found = self.jobs.get(line.job_id)
        if found is None or (found.holder, found.attempt) != (agent_id, line.attempt):
            return Directive.SUPERSEDED, None
        if found.status is Status.CANCELED:
            return Directive.CANCEL, None
        if not LIFECYCLE[found.status].is_held:
            return Directive.SUPERSEDED, None
        found.ends = max(found.ends, line.ends)
        if found.ends >= MOST_ENDS:
            self._move(found, Status.FAILED)
            return Directive.SUPERSEDED, None
        found.progress = line.progress or found.progress
        return Directive.CONTINUE, self._renew(found)

    def content(self, file: RemoteFile) -> bytes:
        """The bytes of *file*."""
        if file.sha not in self._blobs:
            raise InvalidInput(f"the file {file.name!r} cannot be read: there is none")
        return self._blobs[file.sha]

    # ------------------------------------------------------------------------------------ inside

    def _store(self, content: bytes, name: str) -> RemoteFile:
        salt = uuid.uuid4().hex
        sha = hashlib.sha384(content + salt.encode()).hexdigest()
        self._blobs[sha] = content
        return RemoteFile(name, sha, salt, len(content), str(uuid.uuid4()))

    def _move(self, found: FakeJob, to: Status) -> None:
        found.status = advance(found.status, to)
        found.history.append(to)
        if to is Status.PENDING:
            found.holder = None

    def _renew(self, found: FakeJob) -> Lease | None:
        if self.lease_s is None:
            return None
        found.lease_ends_at_s = self.clock.now_s() + self.lease_s
        return Lease(self.lease_s)

    def _end_leases(self) -> None:
        for found in self.jobs.values():
            ends_at_s = found.lease_ends_at_s
            if LIFECYCLE[found.status].is_held and ends_at_s is not None and self.clock.now_s() >= ends_at_s:
                self._move(found, Status.PENDING)

    def _as_job(self, found: FakeJob) -> Job:
        return replace(found.job, status=found.status, holder=found.holder)

    def _as_claim(self, found: FakeJob) -> Claim:
        lease = Lease(self.lease_s) if self.lease_s is not None else None
        return Claim(self._as_job(found), found.attempt, lease)


def conflict(verb: str, code: str, **facts: Any) -> ClaimLost:
    """What a 409 with *code* becomes."""
    return ClaimLost(f"{verb}: 409: {code}", verb=verb, http_status=409, facts={"code": code, **facts})
