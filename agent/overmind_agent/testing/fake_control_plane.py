"""The ControlPlane port over a FakeServer."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_agent.errors import AuthError, InvalidInput, RejectedError, UploadError
from overmind_agent.jobs import Claim, Held, Job, NoJob, Orders, RemoteFile, ResultFile, StatusUpdate
from overmind_agent.lifecycle import Status
from overmind_agent.testing.fake_server import Beat, FakeServer
from overmind_executors import strict_json

# As little as the real one.
ENCLOSED_BYTES: Final = 256 * 1024


def _contents(update: StatusUpdate) -> dict[tuple[str, str], bytes]:
    """What is enclosed, as it is on disk now; a file that is gone is left out."""
    files = update.enclosed.files if update.enclosed else ()
    there = [file for file in files if file.path.exists()]
    return {
        (file.name, file.sha256): content
        for file in there
        if hashlib.sha256(content := file.path.read_bytes()).hexdigest() == file.sha256
    }


class FakeControlPlane:
    """
    Fills the ControlPlane port over a FakeServer. One agent's view of it; several may share a server.

    Args:
        agent_id: as who it speaks before it has registered.
    """

    def __init__(self, server: FakeServer, *, agent_id: str | None = None) -> None:
        self.server = server
        self.agent_id = agent_id

    def register(self, known_id: str | None) -> str:
        """See ControlPlane."""
        with self.server.call("register"):
            agent_id = known_id or str(uuid.uuid4())
            self.server.agents.add(agent_id)
            self.agent_id = agent_id
            return agent_id

    def next_job(self, *, wait_s: float, job_types: Collection[str] | None = None) -> Job | NoJob:
        """See ControlPlane. When there is none, *wait_s* seconds pass."""
        with self.server.call("next_job"):
            me = self._me("next_job")
            if self.server.is_replaced:
                return NoJob("replaced", is_replaced=True)
            job = self.server.offer(me, job_types)
            if job is None:
                self.server.clock.sleep(wait_s)
            return job or NoJob("no job")

    def next_claim(
        self, *, key: str, wait_s: float, job_types: Collection[str] | None = None
    ) -> Claim | NoJob | None:
        """See ControlPlane. When there is none, *wait_s* seconds pass."""
        if not self.server.grants:
            return None
        with self.server.call("next_claim"):
            me = self._me("next_claim")
            if self.server.is_replaced:
                return NoJob("replaced", is_replaced=True)
            claim = self.server.grant_next(me, key, job_types)
            if claim is None:
                self.server.clock.sleep(wait_s)
            return claim or NoJob("no job")

    def find_job(self, job_id: str) -> Job | NoJob:
        """See ControlPlane."""
        with self.server.call("find_job"):
            found = self.server.jobs.get(job_id)
            if found is None or found.status is not Status.PENDING:
                return NoJob(f"job {job_id} does not wait")
            return found.job

    def stop_waiting(self) -> None:
        """See ControlPlane."""

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

    def report_together(self, updates: Sequence[StatusUpdate]) -> Sequence[RejectedError | None] | None:
        """See ControlPlane."""
        if not self.server.hears_several:
            return None
        with self.server.call("report_together"):
            heard: list[RejectedError | None] = []
            for update in updates:
                try:
                    self.report(update)
                    heard.append(None)
                except AuthError:
                    raise
                except RejectedError as error:
                    heard.append(error)
            return heard

    def report(self, update: StatusUpdate) -> None:
        """See ControlPlane."""
        with self.server.call("report"):
            self.server.take_in(self._me("report"), update, _contents(update))

    def heartbeat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None = None
    ) -> Orders:
        """See ControlPlane. It is never held open."""
        with self.server.call("heartbeat"):
            me = self._me("heartbeat")
            self.server.beats.append(Beat(tuple(held), draining, wait_s, not_accepting))
            orders = {line.job_id: self.server.order(me, line) for line in held}
            return Orders(
                directives={job_id: directive for job_id, (directive, _) in orders.items()},
                leases={job_id: lease for job_id, (_, lease) in orders.items() if lease is not None},
                drain=self.server.drain,
                is_replaced=self.server.is_replaced,
            )

    def leave(self) -> None:
        """See ControlPlane."""
        with self.server.call("leave"):
            self.server.left.append(self._me("leave"))

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
            self.server.must_take_file("upload", claim).files[file.name, file.sha256] = content
            return str(uuid.uuid5(uuid.UUID(claim.job.id), f"{file.name}/{file.sha256}"))

    def upload_together(self, claim: Claim, files: Sequence[ResultFile]) -> Sequence[str] | None:
        """See ControlPlane."""
        if not self.server.takes_several:
            return None
        with self.server.call("upload_together"):
            stored = self.server.find("upload_together", claim.job.id).files
            before = dict(stored)
            try:
                return [self.upload(claim, file) for file in files]
            except Exception:
                stored.clear()
                stored.update(before)
                raise

    def encloses(self, files: Sequence[ResultFile]) -> bool:
        """See ControlPlane."""
        return self.server.takes_enclosed and sum(file.size_bytes for file in files) <= ENCLOSED_BYTES

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int | None:
        """See ControlPlane."""
        with self.server.call("append_log"):
            found = self.server.must_be_latest("append_log", claim)
            if offset == len(found.log):
                found.log += data
            return len(found.log)

    def _me(self, verb: str) -> str:
        if self.agent_id is None or self.agent_id not in self.server.agents:
            raise RejectedError(f"{verb}: 404: no such agent", verb=verb, http_status=404)
        return self.agent_id
