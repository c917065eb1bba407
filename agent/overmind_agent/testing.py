"""
For tests: a control plane in memory that refuses what the real one refuses, and a clock that only moves when told.

    server = FakeServer()
    job_id = server.submit("inference", {"prompt": "…"})
    plane = FakeControlPlane(server)
    plane.register(None)
    claim = plane.claim(plane.next_job(wait_s=0), key="k")

What should go wrong is said beforehand: `server.script("report", TransientError("down", verb="report"), AFTER)`
fails the first report before it takes effect, and the second after.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from overmind_agent.errors import (
    ClaimLost,
    IllegalTransition,
    InvalidInput,
    RejectedError,
    TransientError,
    UploadError,
)
from overmind_agent.jobs import (
    Claim,
    Directive,
    Held,
    Job,
    Lease,
    NoJob,
    Orders,
    Progress,
    RemoteFile,
    ResultFile,
    StatusUpdate,
)
from overmind_agent.lifecycle import LIFECYCLE, Status, advance
from overmind_agent.ports import Clock
from overmind_executors import strict_json

OFFER_S: Final = 5.0


class After:
    """A step of a script: the call takes effect, but its answer is lost."""


AFTER: Final = After()

Step = Exception | After | Callable[[], object]


class VirtualClock:
    """
    Fills the Clock port: sleeping is counted, not done.

    Attributes:
        slept: every sleep that was asked for, in seconds.
        until: ends all sleeping, as SystemClock's event does.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self.slept: list[float] = []
        self.until = threading.Event()

    def now_s(self) -> float:
        """Seconds since nothing in particular."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        with self._lock:
            self._now_s += seconds

    def sleep(self, seconds: float) -> bool:
        """Let *seconds* pass, unless the sleeper was asked to stop; returns whether it was."""
        return self.wait(self.until, seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let *seconds* pass, unless *event* is set; returns whether it is."""
        if not event.is_set():
            self.slept.append(seconds)
            self.advance(max(0.0, seconds))
        return event.is_set()


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


class FakeServer:
    """
    The jobs of one project, and the agents that work on them.

    Args:
        lease_s: how long a claim holds without a heartbeat; None for no leases.

    Attributes:
        calls: the verb of every call that was made, in order, those that were made to fail included.
        beats: every heartbeat that was taken in.
        drain: what heartbeats say of it.
    """

    def __init__(self, clock: Clock | None = None, *, lease_s: float | None = 60.0) -> None:
        self.clock = clock or VirtualClock()
        self.lease_s = lease_s
        self.jobs: dict[str, FakeJob] = {}
        self.agents: set[str] = set()
        self.calls: list[str] = []
        self.beats: list[Beat] = []
        self.drain = False
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

    # ------------------------------------------------------------------------------------ for FakeControlPlane

    @contextmanager
    def call(self, verb: str) -> Iterator[None]:
        """One call: alone, and as scripted."""
        with self._lock:
            self.calls.append(verb)
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

    def must_be_held(self, verb: str, claim: Claim) -> FakeJob:
        """The job of *claim*, if the claim still holds."""
        found = self.find(verb, claim.job.id)
        if not LIFECYCLE[found.status].is_held or claim.attempt != found.attempt:
            raise conflict(verb, "superseded")
        return found

    def offer(self, agent_id: str) -> Job | None:
        """The oldest job that waits and is offered to nobody else; from now on it is offered to *agent_id*."""
        now_s = self.clock.now_s()
        for found in self.jobs.values():
            is_free = found.offered_to in (None, agent_id) or now_s >= found.offered_until_s
            if found.status is Status.PENDING and is_free:
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
        found.updates, found.declared, found.offered_to = [], (), None
        self._move(found, Status.CLAIMED)
        self._renew(found)
        self._claims[agent_id, key] = (job_id, found.attempt)
        return self._as_claim(found)

    def take_in(self, agent_id: str, update: StatusUpdate) -> None:
        """Apply a status update."""
        found = self.find("report", update.job_id)
        if update.attempt != found.attempt:
            raise conflict("report", "superseded")
        if update.status is found.status is Status.CANCELED:
            return
        if update.sequence <= found.sequence:
            if found.updates[update.sequence - 1] == update:
                return
            raise ClaimLost("report: 422: said with other words", verb="report", http_status=422)
        if found.holder != agent_id:
            raise conflict("report", "superseded")
        if update.sequence != found.sequence + 1:
            raise conflict("report", "expected_sequence", expected=found.sequence + 1)
        there = {(name, sha256) for name, sha256 in found.files}
        missing = [line["name"] for line in found.declared if (line["name"], line["sha256"]) not in there]
        if update.status is Status.COMPLETED and missing:
            raise conflict("report", "files_missing", missing=missing)
        try:
            self._move(found, update.status)
        except IllegalTransition as error:
            raise conflict("report", "illegal_transition") from error
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


class FakeControlPlane:
    """
    Fills the ControlPlane port over a FakeServer. One agent's view of it; several may share a server.

    Args:
        agent_id: as who it speaks before it has registered.
    """

    def __init__(self, server: FakeServer, *, agent_id: str | None = None) -> None:
        self.server = server
        self.agent_id = agent_id
        self.stopped_waiting = False

    def register(self, known_id: str | None) -> str:
        """See ControlPlane."""
        with self.server.call("register"):
            agent_id = known_id if known_id and known_id in self.server.agents else str(uuid.uuid4())
            self.server.agents.add(agent_id)
            self.agent_id = agent_id
            return agent_id

    def next_job(self, *, wait_s: float) -> Job | NoJob:
        """See ControlPlane. When there is none, *wait_s* seconds pass."""
        with self.server.call("next_job"):
            job = self.server.offer(self._me("next_job"))
            if job is None:
                self.server.clock.sleep(wait_s)
            return job or NoJob("no job")

    def stop_waiting(self) -> None:
        """See ControlPlane."""
        self.stopped_waiting = True

    def claim(self, job: Job, *, key: str) -> Claim:
        """See ControlPlane."""
        with self.server.call("claim"):
            return self.server.grant(self._me("claim"), job.id, key)

    def refuse(self, job_id: str, *, key: str, reason: str, message: str) -> None:
        """See ControlPlane."""
        with self.server.call("refuse"):
            me = self._me("refuse")
            attempt = self.server.grant(me, job_id, key).attempt
            said = f"{reason}: {message}"
            self.server.take_in(me, StatusUpdate(job_id, attempt, 1, Status.FAILED, said, {"reason": reason}))

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane."""
        with self.server.call("report"):
            self.server.take_in(self._me("report"), update)

    def heartbeat(self, held: Sequence[Held], *, draining: bool, wait_s: float) -> Orders:
        """See ControlPlane. It is never held open."""
        with self.server.call("heartbeat"):
            me = self._me("heartbeat")
            self.server.beats.append(Beat(tuple(held), draining, wait_s))
            orders = {line.job_id: self.server.order(me, line) for line in held}
            return Orders(
                directives={job_id: directive for job_id, (directive, _) in orders.items()},
                leases={job_id: lease for job_id, (_, lease) in orders.items() if lease is not None},
                drain=self.server.drain,
            )

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """See ControlPlane."""
        with self.server.call("read_parameters"):
            try:
                found = strict_json.loads(self.server.content(job.parameters) or b"{}")
            except strict_json.NotJson as error:
                raise InvalidInput(f"parameters: {error}") from error
            if not isinstance(found, dict):
                raise InvalidInput("parameters: must be a JSON object")
            return found

    def input_file(self, job: Job) -> RemoteFile | None:
        """See ControlPlane."""
        with self.server.call("input_file"):
            return self.server.find("input_file", job.id).input_file

    def download(self, file: RemoteFile, destination: Path) -> None:
        """See ControlPlane."""
        with self.server.call("download"):
            part = destination.with_name(destination.name + ".part")
            part.write_bytes(self.server.content(file))
            part.replace(destination)

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """See ControlPlane."""
        with self.server.call("upload"):
            try:
                content = file.path.read_bytes()
            except OSError as error:
                raise UploadError(f"{file.name!r} cannot be read", reason="output_missing") from error
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise UploadError("a result file changed after the job had ended", reason="output_changed")
            self.server.must_be_held("upload", claim).files[file.name, file.sha256] = content
            return str(uuid.uuid5(uuid.UUID(claim.job.id), f"{file.name}/{file.sha256}"))

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int:
        """See ControlPlane."""
        with self.server.call("append_log"):
            found = self.server.must_be_held("append_log", claim)
            if offset == len(found.log):
                found.log += data
            return len(found.log)

    def _me(self, verb: str) -> str:
        if self.agent_id is None or self.agent_id not in self.server.agents:
            raise RejectedError(f"{verb}: 404: no such agent", verb=verb, http_status=404)
        return self.agent_id


def conflict(verb: str, code: str, **facts: Any) -> ClaimLost:
    """What a 409 with *code* becomes."""
    return ClaimLost(f"{verb}: 409: {code}", verb=verb, http_status=409, facts={"code": code, **facts})


__all__ = ["AFTER", "Beat", "FakeControlPlane", "FakeJob", "FakeServer", "VirtualClock", "conflict"]
