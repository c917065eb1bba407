"""The control plane over HTTP: the agent-pull dialect, with our extensions where the server has them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from overmind_agent import __version__, wire
from overmind_agent.errors import ClaimLost, InvalidInput, ProtocolError, RejectedError, TransientError, UploadError
from overmind_agent.jobs import (
    Claim,
    Directive,
    Held,
    Job,
    Lease,
    NoJob,
    Orders,
    RemoteFile,
    ResultFile,
    StatusUpdate,
)
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.over_http.blob_store import FILE_URL
from overmind_agent.over_http.calls import HttpCalls, content_digest, segment
from overmind_agent.over_http.given_files import GivenFiles
from overmind_agent.over_http.looking import look_until
from overmind_agent.over_http.refusals import MIB, Verb, refusal
from overmind_agent.over_http.uploads import READ_MODEL, ForgetfulLedger, Uploads
from overmind_agent.ports import Clock, Offer, UploadLedger
from overmind_executors import strict_json

MODULE: Final = {"module_name": "@overmind:executors", "module_version": "1.0.0"}
JOB_TYPE_CAPABILITY: Final = "job_type:"
# Who says some of these is offered nothing else: what is left out would never come.
NARROWING: Final = ("model:", "project:")
MOST_CAPABILITIES: Final = 64  # what a registration may say
MESSAGE_CHARS: Final = 4096
NOT_ACCEPTING_CHARS: Final = 255
# A shorter piece of a log is not worth packing.
PACK_BYTES: Final = 1024
PLAIN_MESSAGE_CHARS: Final = 255
# Jobs that this host does not run may stand before those that it does; a server may go on giving the last page.
PLAIN_PAGE_SIZE: Final = 20
PLAIN_PAGES: Final = 50
DAMAGED_TRIES: Final = 3
LEASE_LIMITS_S: Final = (1.0, 3600.0)
# What our server, and many others, say of a path that they do not have.
NO_ROUTE: Final = "Not Found"

# Each call's whole time. A server may hold `next_job` and `heartbeat`, which get that time on top.
CAPABILITIES: Final = Verb("capabilities", 10)
REGISTER: Final = Verb("register", 15)
NEXT_JOB: Final = Verb("next_job", 10, max_bytes=8 * MIB)
CLAIM: Final = Verb("claim", 15, is_on_job=True)
NEXT_CLAIM: Final = Verb("next_claim", 10, max_bytes=8 * MIB)
REPORT: Final = Verb("report", 15, is_on_job=True)
REPORTS: Final = Verb("reports", 30)
HEARTBEAT: Final = Verb("heartbeat", 10)
LEAST_BEAT_S: Final = 2.0
LEAVE: Final = Verb("leave", 2)
READ_JOB: Final = Verb("read_job", 15, is_on_job=True)
DOWNLOAD: Final = Verb("download", 60, max_bytes=1024 * MIB)
PARAMETERS: Final = Verb("parameters", 60, max_bytes=8 * MIB)
LOG: Final = Verb("append_log", 60, is_on_job=True)


class HttpControlPlane:
    """
    Fills the ControlPlane port.

    Asks once which extensions the server has. Without them it does what the published client can do: it lists
    available jobs, and reads each held job to notice that it was canceled.

    Args:
        functions: those of the job types that are functions of this host, each with its module's version.
        clock: to read held jobs more than once in a heartbeat that the server does not hold; None for once.
        capabilities: what else the agent says of itself, such as `label:gpu`.
        ledger: where uploads in parts are kept over a restart; None to begin them anew.
        instance: names this start of the agent, so that a copy of its state folder is noticed; None to say none.
    """

    def __init__(
        self,
        calls: HttpCalls,
        *,
        job_types: Sequence[str],
        display_name: str,
        slots: int,
        agent_id: Callable[[], str | None],
        clock: Clock | None = None,
        functions: Mapping[str, str] | None = None,
        ledger: UploadLedger | None = None,
        capabilities: Sequence[str] = (),
        instance: str | None = None,
    ) -> None:
        self._calls = calls
        self._uploads = Uploads(calls, has=self._has, ledger=ledger or ForgetfulLedger())
        self._offer = Offer(tuple(job_types), dict(functions or {}), slots, tuple(capabilities))
        self._instance = instance
        self._display_name = display_name
        self._known_id = agent_id
        self._clock = clock
        self._extensions: frozenset[str] | None = None
        self._said_status: str | None = None
        self._damaged: Counter[str] = Counter()
        self._given = GivenFiles()

    # ------------------------------------------------------------------------------------- the agent itself

    def now_offers(self, offer: Offer) -> None:
        """From now on this is what the agent says of itself. From any thread; `register` tells the server."""
        self._offer = offer

    def register(self, known_id: str | None) -> str:
        """See ControlPlane."""
        with self._calls.giving_way():
            return self._register(known_id)

    def _register(self, known_id: str | None) -> str:
        about: dict[str, Any] = {"agent_version": __version__, "host_os": _host_os()}
        if self._has("lease"):
            types = [name for name in self._offer.job_types if name not in self._offer.functions]
            said = ["lease", "fence", *(JOB_TYPE_CAPABILITY + name for name in types), *self._offer.capabilities]
            if len(said) > MOST_CAPABILITIES:
                said = [word for word in said if not word.startswith(NARROWING)]
            about["capabilities"] = said[:MOST_CAPABILITIES]
        about |= self._which_start()
        agent_id = known_id
        if agent_id is not None:
            try:
                self._calls.call(REGISTER, "PUT", f"/api/v2/agents/{segment(agent_id)}", body=about)
            except RejectedError as error:
                if error.http_status != 404:
                    raise
                if self._has("agent_id"):
                    about["agent_id"] = agent_id
                agent_id = None
        if agent_id is None:
            answer = self._calls.call(REGISTER, "POST", "/api/v2/agents", body=about)
            agent_id = wire.parse(wire.Agent, answer.body).id
        here = f"/api/v2/agents/{segment(agent_id)}"
        self._calls.call(REGISTER, "PUT", f"{here}/modules", body=self._modules())
        self._calls.call(REGISTER, "PUT", f"{here}/display_name", body={"display_name": self._display_name})
        self._calls.call(REGISTER, "PUT", f"{here}/status", body={"name": "Idle"})
        return agent_id

    def _which_start(self) -> dict[str, str]:
        return {"instance": self._instance} if self._instance and self._has("instance") else {}

    def leave(self) -> None:
        """See ControlPlane. A plain server has the status alone."""
        if self._extensions is None:  # it was never there
            return
        here = f"/api/v2/agents/{segment(self._agent)}"
        if self._has("heartbeat"):
            body = self._beat([], draining=True, wait_s=0, not_accepting=None)
            self._calls.call(LEAVE, "POST", f"{here}/heartbeat", body=body)
        else:
            self._calls.call(LEAVE, "PUT", f"{here}/status", body={"name": "Paused"})

    def _beat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None
    ) -> dict[str, Any]:
        why_not = not_accepting if self._has("not_accepting") else None
        return {
            "slots": self._offer.slots,
            "draining": draining,
            "wait_s": wait_s,
            "jobs": [_held_line(line, has_pace=self._has("pace")) | self._more(line) for line in held],
            **self._which_start(),
            **({"not_accepting": why_not[:NOT_ACCEPTING_CHARS]} if why_not else {}),
        }

    def _more(self, line: Held) -> dict[str, Any]:
        """What not every server has a word for."""
        more: dict[str, Any] = {"iterations": list(line.iterations), "ends": line.ends}
        return {name: value for name, value in more.items() if value and self._has(name)}

    def _modules(self) -> list[dict[str, str]]:
        """What this host can run: each function is a module by its own name."""
        functions = self._offer.functions.items()
        return [MODULE, *({"module_name": name, "module_version": version} for name, version in functions)]

    def _has(self, extension: str) -> bool:
        if self._extensions is None:
            try:
                answer = self._calls.call(CAPABILITIES, "GET", "/api/v2/capabilities")
                self._extensions = frozenset(wire.parse(wire.Capabilities, answer.body).extensions)
            except RejectedError as error:
                if error.http_status not in (404, 405):
                    raise
                self._extensions = frozenset()
        return extension in self._extensions

    @property
    def _agent(self) -> str:
        known = self._known_id()
        if known is None:
            raise ProtocolError("not registered yet")
        return known

    # ------------------------------------------------------------------------------------- getting a job

    def next_job(self, *, wait_s: float, job_types: Collection[str] | None = None) -> Job | NoJob:
        """See ControlPlane."""
        with self._calls.giving_way():
            return self._next_job(wait_s, frozenset(self._offer.job_types if job_types is None else job_types))

    def next_claim(
        self, *, key: str, wait_s: float, job_types: Collection[str] | None = None
    ) -> Claim | NoJob | None:
        """See ControlPlane."""
        if not self._has("claims"):
            return None
        asked: dict[str, Any] = {"wait_s": wait_s, "message": self._claimed_by(), **self._which_start()}
        if job_types is not None:
            asked["job_types"] = sorted(job_types)
        path = f"/api/v2/agents/{segment(self._agent)}/claims"
        headers = {"Idempotency-Key": key}
        try:
            with self._calls.giving_way():
                answer = self._calls.call(NEXT_CLAIM, "POST", path, headers=headers, body=asked, extra_s=wait_s)
        except RejectedError as error:
            if error.facts.get("detail") == NO_ROUTE:  # an older server has taken the place of the one that we knew
                self._extensions = (self._extensions or frozenset()) - {"claims"}
                return None
            if error.http_status != 409:
                raise
            raise ClaimLost(str(error), verb=error.verb, http_status=409, facts=error.facts) from error
        found = wire.parse_offered(answer.body)
        if isinstance(found, NoJob):
            return found
        granted = self._granted(wire.read_job(found), found)
        self._given.take(granted.job, found)
        return granted

    def _claimed_by(self) -> str:
        return f"claimed by {self._display_name}"[:PLAIN_MESSAGE_CHARS]

    def find_job(self, job_id: str) -> Job | NoJob:
        """See ControlPlane."""
        try:
            found = wire.read_job(self._read(job_id))
        except ClaimLost as error:
            return NoJob(f"job {job_id} is not known ({error})")
        return found if found.status is Status.PENDING else NoJob(f"job {job_id} is {found.status.value}")

    def stop_waiting(self) -> None:
        """See ControlPlane."""
        self._calls.stop_waiting()

    def _next_job(self, wait_s: float, job_types: frozenset[str]) -> Job | NoJob:
        here = f"/api/v2/agents/{segment(self._agent)}"
        if self._has("next_job"):
            query: dict[str, Any] = {"wait_s": f"{wait_s:.3f}"}
            if not job_types.issuperset(self._offer.job_types):
                query["job_type"] = sorted(job_types)
            query |= self._which_start()
            answer = self._calls.call(NEXT_JOB, "GET", f"{here}/job", query=query, extra_s=wait_s)
            return wire.parse_next_job(answer.body)
        for page in range(1, PLAIN_PAGES + 1):
            query = {"page": page, "size": PLAIN_PAGE_SIZE}
            answer = self._calls.call(NEXT_JOB, "GET", f"{here}/available_jobs", query=query)
            items = wire.parse(wire.RawPage, answer.body).items
            for found in items:
                job = wire.parse_next_job(json.dumps(found).encode())
                if isinstance(job, Job) and job.job_type in job_types:
                    return job
            if len(items) < PLAIN_PAGE_SIZE:
                break
        return NoJob("no job available")

    def claim(self, job: Job, *, key: str) -> Claim:
        """See ControlPlane."""
        try:
            answer = self._calls.call(
                CLAIM,
                "PUT",
                f"/api/v2/jobs/{segment(job.id)}/status",
                query={"status_name": Status.CLAIMED, "agent_id": self._agent},
                headers={"Idempotency-Key": key},
                body={"message": self._claimed_by()},
            )
            found = wire.parse(wire.Job, answer.body)
        except ClaimLost:
            if self._has("fence"):
                raise
            found = self._read(job.id)  # without keys, the answer to an earlier try may have been lost
            if not self._is_ours(found, Status.CLAIMED):
                raise
        granted = self._granted(job, found)
        self._given.take(granted.job, found)
        return granted

    def refuse(self, job_id: str, *, key: str, reason: str, message: str) -> None:
        """See ControlPlane."""
        path = f"/api/v2/jobs/{segment(job_id)}/status"
        query = {"status_name": Status.CLAIMED, "agent_id": self._agent}
        answer = self._calls.call(CLAIM, "PUT", path, query=query, headers={"Idempotency-Key": key})
        body: dict[str, Any] = {"message": f"{reason}: {message}"[:PLAIN_MESSAGE_CHARS]}
        headers = {}
        if self._has("fence"):
            attempt = wire.parse(wire.Attempt, answer.body).attempt
            headers = {"Overmind-Attempt": str(attempt), "Overmind-Sequence": "1"}
            body["detail"] = {"reason": reason}
        query = {"status_name": Status.FAILED, "agent_id": self._agent}
        self._calls.call(REPORT, "PUT", path, query=query, headers=headers, body=body)

    def _granted(self, job: Job, found: wire.Job) -> Claim:
        granted = wire.read_job(found)
        is_same = (granted.id, granted.job_type) == (job.id, job.job_type)
        is_same &= job.project in (None, granted.project)  # an older journal does not know it
        if not is_same or found.agent_id not in (None, self._agent):
            raise ProtocolError("the answer to a claim is about another job, or another agent")
        if self._has("fence") and not found.attempt:
            raise ProtocolError("the answer to a claim has no attempt; the job would run without a fence")
        if self._has("lease") and found.lease is None:
            raise ProtocolError("the answer to a claim has no lease, though this server grants them")
        claims = sum(line.name == Status.CLAIMED for line in found.status_history or [])
        return Claim(
            job=granted,
            attempt=found.attempt or max(1, claims),
            lease=_lease(found.lease),
        )

    def _read(self, job_id: str) -> wire.Job:
        answer = self._calls.call(READ_JOB, "GET", f"/api/v2/jobs/{segment(job_id)}")
        return wire.parse(wire.Job, answer.body)

    def _is_ours(self, job: wire.Job, status: Status) -> bool:
        history = job.status_history or []
        return bool(history) and history[-1].name == status and history[-1].agent_id == self._agent

    # ------------------------------------------------------------------------------------- holding it

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane."""
        if not self._has("fence"):
            self._report_plainly(update)
            return
        self._calls.call(
            REPORT,
            "PUT",
            f"/api/v2/jobs/{segment(update.job_id)}/status",
            query={"status_name": update.status, "agent_id": self._agent},
            headers={
                "Overmind-Attempt": str(update.attempt),
                "Overmind-Sequence": str(update.sequence),
                "Prefer": "return=minimal",
            },
            body=self._words(update),
        )

    def report_together(self, updates: Sequence[StatusUpdate]) -> Sequence[RejectedError | None] | None:
        """See ControlPlane."""
        if not self._has("reports") or len(updates) > wire.MOST_REPORTS:
            return None
        said = [
            {
                "job_id": update.job_id,
                "status_name": update.status,
                "attempt": update.attempt,
                "sequence": update.sequence,
                **self._words(update),
                **self._with_files(update),
            }
            for update in updates
        ]
        path = f"/api/v2/agents/{segment(self._agent)}/reports"
        answer = wire.parse(
            wire.ReportsAnswer, self._calls.call(REPORTS, "POST", path, body={"reports": said}).body
        )
        if len(answer.reports) != len(updates):
            raise ProtocolError(f"{len(answer.reports)} answers to {len(updates)} reports")
        return [_heard(line) for line in answer.reports]

    def encloses(self, files: Sequence[ResultFile]) -> bool:
        """See ControlPlane."""
        is_little = sum(file.size_bytes for file in files) <= wire.ENCLOSED_BYTES
        return is_little and len(files) <= wire.MOST_ENCLOSED and self._has("enclosed_files")

    def _with_files(self, update: StatusUpdate) -> dict[str, Any]:
        """What is enclosed; without a file that cannot be read, which the server then misses."""
        found = []
        if (enclosed := update.enclosed) is not None:
            for file in enclosed.files:
                with suppress(UploadError):
                    key, artifact = self._uploads.described(enclosed.claim, file)
                    found.append({"key": key, **artifact})
        return {"artifacts": found} if found else {}

    def _words(self, update: StatusUpdate) -> dict[str, Any]:
        detail = {key: value for key, value in update.detail.items() if key != "log" or self._has("log_counts")}
        words: dict[str, Any] = {"detail": detail} if detail else {}
        if update.message:
            words["message"] = update.message[:MESSAGE_CHARS]
        return words

    def _report_plainly(self, update: StatusUpdate) -> None:
        status, message = update.status, update.message
        if status is Status.PENDING:
            status, message = Status.FAILED, "agent_stopping: this agent stopped before the job was done"
        try:
            self._calls.call(
                REPORT,
                "PUT",
                f"/api/v2/jobs/{segment(update.job_id)}/status",
                query={"status_name": status, "agent_id": self._agent},
                body={"message": message[:PLAIN_MESSAGE_CHARS]} if message else None,
            )
        except ClaimLost:
            if not self._is_ours(self._read(update.job_id), status):
                raise

    def heartbeat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None = None
    ) -> Orders:
        """See ControlPlane. A plain server is told by the status that nothing is accepted."""
        if not self._has("heartbeat"):
            self._say_status("ExecutingJob" if held else "Paused" if not_accepting else "Idle")
            return self._look(held, wait_s)
        body = self._beat(held, draining=draining, wait_s=wait_s, not_accepting=not_accepting)
        verb = replace(HEARTBEAT, total_s=beat_s(wait_s))
        with self._calls.giving_way():
            answer = self._calls.call(
                verb, "POST", f"/api/v2/agents/{segment(self._agent)}/heartbeat", body=body, extra_s=wait_s
            )
        return _orders(wire.parse(wire.HeartbeatAnswer, answer.body))

    def _look(self, held: Sequence[Held], wait_s: float) -> Orders:
        if self._clock is None:
            return self._look_at_each(held)
        with self._calls.giving_way():
            return look_until(lambda: self._look_at_each(held), self._clock, wait_s=wait_s)

    def _look_at_each(self, held: Sequence[Held]) -> Orders:
        directives = {}
        for line in held:
            try:
                found = self._read(line.job_id)
            except ClaimLost:
                directives[line.job_id] = Directive.SUPERSEDED
                continue
            status = wire.read_job(found).status
            mine = found.agent_id in (None, self._agent) and LIFECYCLE[status].is_held
            directives[line.job_id] = (
                Directive.CANCEL
                if status is Status.CANCELED
                else Directive.CONTINUE
                if mine or status is Status.UNKNOWN
                else Directive.SUPERSEDED
            )
        return Orders(directives)

    def _say_status(self, name: str) -> None:
        if name != self._said_status:
            self._calls.call(HEARTBEAT, "PUT", f"/api/v2/agents/{segment(self._agent)}/status", body={"name": name})
            self._said_status = name

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int | None:
        """See ControlPlane. What is worth it is packed; a digest goes with all of it."""
        if not self._has("logs"):
            return None
        packed = gzip.compress(data, compresslevel=1, mtime=0) if len(data) >= PACK_BYTES else data
        headers = {
            "Overmind-Attempt": str(claim.attempt),
            "Content-Type": "application/octet-stream",
            "Content-Digest": content_digest(hashlib.sha256(packed).digest()),
            **({"Content-Encoding": "gzip"} if packed is not data else {}),
        }
        try:
            answer = self._calls.call(
                LOG,
                "PUT",
                f"/api/v2/jobs/{segment(claim.job.id)}/logs",
                query={"offset": offset},
                headers=headers,
                data=packed,
            )
        except ClaimLost as error:
            found = error.facts.get("offset")
            if not isinstance(found, int) or found < 0:
                raise
            return found
        except RejectedError as error:
            if error.http_status != 412:
                raise
            raise TransientError(f"{LOG.name}: it arrived damaged", verb=LOG.name, http_status=412) from error
        return wire.parse(wire.LogOffset, answer.body).offset

    # ------------------------------------------------------------------------------------- files

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """See ControlPlane."""
        size_bytes, most_bytes = job.parameters.size_bytes or 0, PARAMETERS.max_bytes
        if size_bytes > most_bytes:  # they are held in memory
            raise InvalidInput(f"parameters: {size_bytes:,} bytes, more than {most_bytes:,}; put rows into a file")
        fetched = io.BytesIO()
        self._fetch(PARAMETERS, job.parameters, fetched.write)
        try:
            found = strict_json.loads(fetched.getvalue() or b"{}")
        except strict_json.NotJson as error:
            raise InvalidInput(f"parameters: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInput("parameters: must be a JSON object")
        return found

    def input_file(self, job: Job) -> RemoteFile | None:
        """See ControlPlane."""
        if job.model_id is None or not job.has_input:
            return None
        file = self._given.input_of(job)
        if file is None:
            answer = self._calls.call(READ_MODEL, "GET", f"/api/v2/models/{segment(job.model_id)}")
            file = wire.read_revision(wire.parse(wire.ModelFile, answer.body).file.revisions[-1])
        # A server without our `input` may give a job that has none a model over its parameters, to own its files.
        given = job.parameters
        return None if (file.sha, file.name) == (given.sha, given.name) else file

    def download(self, file: RemoteFile, destination: Path) -> None:
        """See ControlPlane."""
        part = destination.with_name(destination.name + ".part")
        try:
            with part.open("wb") as out:
                self._fetch(DOWNLOAD, file, out.write)
                out.flush()
                os.fsync(out.fileno())
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, verb: Verb, file: RemoteFile, write: Callable[[bytes], object]) -> None:
        if (given := self._given.content(file)) is not None:
            write(given)
            return
        digest = hashlib.sha384()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            write(chunk)

        try:
            answer = self._calls.call(FILE_URL, "GET", f"/api/v2/tokens/{file.sha}/download-url")
            url = wire.parse(wire.TemporaryUrl, answer.body).url
            self._calls.get_blob(verb, url, take, file.size_bytes)
        except RejectedError as error:
            if error.http_status in (401, 403):
                raise
            if error.http_status is None and file.size_bytes is not None:
                raise self._damage(verb, file, "is longer than it should be") from error
            raise InvalidInput(f"the file {file.name!r} cannot be read: {error}") from error
        digest.update(file.salt.encode("ascii"))
        if digest.hexdigest() != file.sha:
            raise self._damage(verb, file, "does not have its digest")
        self._damaged.pop(file.sha, None)  # other jobs may have the same file

    def _damage(self, verb: Verb, file: RemoteFile, what: str) -> Exception:
        """
        The error for a file that arrived as something else.

        A transfer gone wrong, or the page of a portal in its place, looks like this as well as a damaged file: only
        the latter stays so.
        """
        self._damaged[file.sha] += 1
        if self._damaged[file.sha] >= DAMAGED_TRIES:
            return InvalidInput(f"the file {file.name!r} {what}, however often it is read")
        return TransientError(f"download: {file.name!r} {what}", verb=verb.name)

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """See ControlPlane."""
        return self._uploads.upload(claim, file)

    def upload_together(self, claim: Claim, files: Sequence[ResultFile]) -> Sequence[str] | None:
        """See ControlPlane."""
        return self._uploads.upload_together(claim, files)


def beat_s(wait_s: float) -> float:
    """
    Seconds that a heartbeat may take on top of the *wait_s* for which the server may hold it.

    One that nobody answers must not cost the next one its turn: no more than 0.8 of the time between two.
    """
    return min(HEARTBEAT.total_s, max(LEAST_BEAT_S, 0.8 * wait_s)) if wait_s else HEARTBEAT.total_s


def _lease(grant: wire.LeaseGrant | None) -> Lease | None:
    if grant is None:
        return None
    least, most = LEASE_LIMITS_S
    return Lease(ttl_s=min(most, max(least, grant.ttl_s)), waited_s=grant.waited_s or 0.0)


def _heard(line: wire.Heard) -> RejectedError | None:
    """
    What one of several reports was refused with.

    Raises:
        ControlPlaneError: it was not refused, and not heard either; all of them may be said again.
    """
    if line.http_status in REPORT.accepts:
        return None
    refused = refusal(REPORT, line.http_status, {}, json.dumps(line.error).encode())
    if not isinstance(refused, RejectedError):
        raise refused
    return refused


def _held_line(line: Held, *, has_pace: bool) -> dict[str, Any]:
    told = line.progress if has_pace or line.progress is None else replace(line.progress, usd=None, eta_s=None)
    progress = told and {**told.as_json(), "step_name": told.step_name[:255]}
    return {"job_id": line.job_id, "attempt": line.attempt, "progress": progress}


def _orders(answer: wire.HeartbeatAnswer) -> Orders:
    directives, leases = {}, {}
    for order in answer.jobs:
        with suppress(ValueError):  # a directive of a newer server changes nothing
            directives[order.job_id] = Directive(order.directive)
        if (lease := _lease(order.lease)) is not None:
            leases[order.job_id] = lease
    return Orders(directives, leases, drain=answer.drain, is_replaced=answer.replaced)


def _host_os() -> str:
    try:
        found = platform.freedesktop_os_release()
        return f"{found.get('NAME', 'Linux')} {found.get('VERSION_ID', '')}".strip()
    except OSError:
        return platform.system()
