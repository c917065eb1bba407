"""The control plane over HTTP: the agent-pull dialect, with our extensions where the server has them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.errors import ClaimLost, ProtocolError, RejectedError, TransientError, UploadError
from overmind_agent.jobs import Claim, Held, Job, NoJob, Orders, RemoteFile, ResultFile, StatusUpdate
from overmind_agent.lifecycle import Status
from overmind_agent.over_http import answers
from overmind_agent.over_http.calls import HttpCalls, content_digest, segment
from overmind_agent.over_http.downloads import Downloads
from overmind_agent.over_http.extensions import Extensions
from overmind_agent.over_http.given_files import GivenFiles
from overmind_agent.over_http.plain import PlainServer
from overmind_agent.over_http.presence import Presence
from overmind_agent.over_http.refusals import MIB, Verb
from overmind_agent.over_http.uploads import ForgetfulLedger, Uploads
from overmind_agent.ports import Clock, Offer, UploadLedger

MESSAGE_CHARS: Final = 4096
SHORT_MESSAGE_CHARS: Final = 255
# A shorter piece of a log is not worth packing.
PACK_BYTES: Final = 1024
# What our server, and many others, say of a path that they do not have.
NO_ROUTE: Final = "Not Found"

# Each call's whole time. A server may hold `next_job` and `next_claim`, which get that time on top.
NEXT_JOB: Final = Verb("next_job", 10, max_bytes=8 * MIB)
NEXT_CLAIM: Final = Verb("next_claim", 10, max_bytes=8 * MIB)
CLAIM: Final = Verb("claim", 15, is_on_job=True)
REPORT: Final = Verb("report", 15, is_on_job=True)
REPORTS: Final = Verb("reports", 30)
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
        self._extensions = Extensions(calls)
        self._has = self._extensions.has
        offer = Offer(tuple(job_types), dict(functions or {}), slots, tuple(capabilities))
        self._presence = Presence(calls, self._extensions, offer, display_name=display_name, instance=instance)
        self._plain = PlainServer(calls, lambda: self._agent, clock)
        self._given = GivenFiles()
        self._downloads = Downloads(calls, self._given)
        self._uploads = Uploads(calls, has=self._has, ledger=ledger or ForgetfulLedger())
        self._display_name = display_name
        self._known_id = agent_id

    # ------------------------------------------------------------------------------------- the agent itself

    def now_offers(self, offer: Offer) -> None:
        """From now on this is what the agent says of itself. From any thread; `register` tells the server."""
        self._presence.offer = offer

    def register(self, known_id: str | None) -> str:
        """See ControlPlane."""
        with self._calls.giving_way():
            return self._presence.register(known_id)

    def leave(self) -> None:
        """See ControlPlane."""
        if self._extensions.were_asked_for:
            self._presence.leave(self._agent)

    @property
    def _agent(self) -> str:
        known = self._known_id()
        if known is None:
            raise ProtocolError("not registered yet")
        return known

    # ------------------------------------------------------------------------------------- getting a job

    def next_job(self, *, wait_s: float, job_types: Collection[str] | None = None) -> Job | NoJob:
        """See ControlPlane."""
        wanted = frozenset(self._presence.offer.job_types if job_types is None else job_types)
        with self._calls.giving_way():
            return self._next_job(wait_s, wanted)

    def next_claim(
        self, *, key: str, wait_s: float, job_types: Collection[str] | None = None
    ) -> Claim | NoJob | None:
        """See ControlPlane."""
        if not self._has("claims"):
            return None
        asked: dict[str, Any] = {"wait_s": wait_s, "message": self._claimed_by(), **self._presence.which_start()}
        if job_types is not None:
            asked["job_types"] = sorted(job_types)
        path = f"/api/v2/agents/{segment(self._agent)}/claims"
        headers = {"Idempotency-Key": key}
        try:
            with self._calls.giving_way():
                answer = self._calls.call(NEXT_CLAIM, "POST", path, headers=headers, body=asked, extra_s=wait_s)
        except RejectedError as error:
            if error.facts.get("detail") == NO_ROUTE:  # an older server has taken the place of the one that we knew
                self._extensions.lost("claims")
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
        return f"claimed by {self._display_name}"[:SHORT_MESSAGE_CHARS]

    def find_job(self, job_id: str) -> Job | NoJob:
        """See ControlPlane."""
        try:
            found = wire.read_job(self._plain.read(job_id))
        except ClaimLost as error:
            return NoJob(f"job {job_id} is not known ({error})")
        return found if found.status is Status.PENDING else NoJob(f"job {job_id} is {found.status.value}")

    def stop_waiting(self) -> None:
        """See ControlPlane."""
        self._calls.stop_waiting()

    def _next_job(self, wait_s: float, job_types: frozenset[str]) -> Job | NoJob:
        path = f"/api/v2/agents/{segment(self._agent)}/job"
        if not self._has("next_job"):
            return self._plain.next_job(job_types)
        query: dict[str, Any] = {"wait_s": f"{wait_s:.3f}"}
        if not job_types.issuperset(self._presence.offer.job_types):
            query["job_type"] = sorted(job_types)
        query |= self._presence.which_start()
        answer = self._calls.call(NEXT_JOB, "GET", path, query=query, extra_s=wait_s)
        return wire.parse_next_job(answer.body)

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
            found = self._plain.read(job.id)  # without keys, the answer to an earlier try may have been lost
            if not self._plain.is_ours(found, Status.CLAIMED):
                raise
        granted = self._granted(job, found)
        self._given.take(granted.job, found)
        return granted

    def refuse(self, job_id: str, *, key: str, reason: str, message: str) -> None:
        """See ControlPlane."""
        path = f"/api/v2/jobs/{segment(job_id)}/status"
        query = {"status_name": Status.CLAIMED, "agent_id": self._agent}
        answer = self._calls.call(CLAIM, "PUT", path, query=query, headers={"Idempotency-Key": key})
        body: dict[str, Any] = {"message": f"{reason}: {message}"[:SHORT_MESSAGE_CHARS]}
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
            lease=answers.lease(found.lease),
        )

    # ------------------------------------------------------------------------------------- holding it

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane."""
        if not self._has("fence"):
            self._plain.report(update)
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
        return [answers.heard(REPORT, line) for line in answer.reports]

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

    def heartbeat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None = None
    ) -> Orders:
        """See ControlPlane. A plain server is told by the status that nothing is accepted."""
        if not self._has("heartbeat"):
            return self._plain.heartbeat(held, wait_s=wait_s, is_accepting=not not_accepting)
        return self._presence.beat(self._agent, held, draining=draining, wait_s=wait_s, not_accepting=not_accepting)

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
        return self._downloads.read_parameters(job)

    def input_file(self, job: Job) -> RemoteFile | None:
        """See ControlPlane."""
        return self._downloads.input_file(job)

    def download(self, file: RemoteFile, destination: Path) -> None:
        """See ControlPlane."""
        self._downloads.download(file, destination)

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """See ControlPlane."""
        return self._uploads.upload(claim, file)

    def upload_together(self, claim: Claim, files: Sequence[ResultFile]) -> Sequence[str] | None:
        """See ControlPlane."""
        return self._uploads.upload_together(claim, files)
