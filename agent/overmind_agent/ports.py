"""
The labelled openings in the walls: what the rooms ask of the world outside.

`service` fills each port with the one class that does it for real; the tests fill them with fakes that pass the
same contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from overmind_agent.jobs import (
    Claim,
    Ended,
    Held,
    Job,
    NoJob,
    Orders,
    Progress,
    RemoteFile,
    Result,
    ResultFile,
    StatusUpdate,
    StopReason,
)


class Clock(Protocol):
    """Time, passed in. `now_s` counts up through a suspended host and never jumps with the wall clock."""

    def now_s(self) -> float:
        """Seconds from some fixed moment."""

    def sleep(self, seconds: float) -> bool:
        """Sleep, but no longer than until the agent is asked to stop; returns whether it was."""


class ControlPlane(Protocol):
    """
    The server that holds the jobs.

    One object serves one thread. All calls have a total deadline and may raise TransientError, RejectedError,
    AuthError or ProtocolError; calls on a job also ClaimLost. Only `heartbeat`, `report`, `upload` and
    `append_log` are ever repeated by their callers, and all four are safe to repeat.
    """

    def register(self) -> str:
        """Make this agent known, with what it can do; returns its id. Safe to repeat."""

    def next_job(self, *, wait_s: float) -> Job | NoJob:
        """A job that this agent may claim, asked for during at most *wait_s* seconds. Claims nothing."""

    def claim(self, job: Job, *, key: str) -> Claim:
        """Take *job*. The same *key* gives the same claim again, so a lost answer is resolved by repeating."""

    def report(self, update: StatusUpdate) -> None:
        """Say how a held job is. In the order of `sequence`; a repeated update changes nothing."""

    def heartbeat(self, held: Sequence[Held], *, draining: bool, wait_s: float) -> Orders:
        """Renew all leases; the answer may take *wait_s* seconds, and comes at once when there is news."""

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """The job's parameters. Raises InvalidInput when they are not a JSON object."""

    def input_file(self, job: Job) -> RemoteFile | None:
        """What the job's input file is, None when it has none."""

    def download(self, file: RemoteFile, destination: Path) -> None:
        """Fetch *file*, checked against its digest, and put it at *destination* in one step."""

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """Store *file* as a result of the job; returns its id. The same file twice is stored once."""

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int:
        """Append to the job's log; returns the offset that the server has now, which may differ from ours."""


class Journal(Protocol):
    """
    What this agent knows, on disk. A call returns when its effect would survive `kill -9` and power loss.

    Safe to use from any thread. Every method raises JournalError when the disk does not take it.
    """

    def intend(self, job: Job, key: str) -> None:
        """Before a claim is sent: *job* will be claimed with *key*."""

    def forget(self, job_id: str) -> None:
        """The claim was refused, or the job turned out to be someone else's."""

    def hold(self, claim: Claim) -> None:
        """The claim was granted."""

    def intended(self) -> Sequence[tuple[Job, str]]:
        """Claims whose answer never came."""

    def held(self) -> Sequence[Claim]:
        """Jobs that were claimed and have no final status yet: the work of a restart."""

    def write(self, claim: Claim, update: Ended | None, *, status: str, detail: Mapping[str, Any]) -> None:
        """Put a status into the outbox."""


class Launcher(Protocol):
    """Runs an executor in a child process of its own and sees to it that nothing of it outlives the job."""

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        folder: Path,
        *,
        on_progress: Callable[[Progress], None],
        stop: Callable[[], StopReason | None],
        timeout_s: float,
    ) -> Result:
        """The result. Raises JobError when the job failed and Stopped when it was asked to end."""
