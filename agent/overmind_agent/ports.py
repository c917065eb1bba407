"""
The labelled openings in the walls: what the rooms ask of the world outside.

`service` fills each port with the one class that does it for real; the tests fill them with fakes that pass the
same contract suite.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from overmind_agent.errors import RejectedError
from overmind_agent.jobs import (
    Claim,
    Held,
    Job,
    LogCounts,
    NoJob,
    Orders,
    Progress,
    RemoteFile,
    Result,
    ResultFile,
    StatusUpdate,
    StopReason,
)
from overmind_agent.lifecycle import Status


class Clock(Protocol):
    """Time, passed in. `now_s` counts on through a suspended host and never jumps with the wall clock."""

    def now_s(self) -> float:
        """Seconds from some fixed moment."""

    def sleep(self, seconds: float) -> bool:
        """Sleep, but no longer than until the sleeper is asked to stop; returns whether it was."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep, but no longer than until *event*; returns whether it is set."""


class ControlPlane(Protocol):
    """
    The server that holds the jobs.

    One object serves one thread. Order of calls: `register` once, then `next_job` and `claim`, then anything on
    the claimed job. Every call has a total deadline and may raise TransientError, RejectedError, AuthError or
    ProtocolError; a call on a job also ClaimLost. All calls are safe to repeat.
    """

    def register(self, known_id: str | None) -> str:
        """Make this agent known, under *known_id* if the server lets it; returns its id."""

    def next_job(self, *, wait_s: float, job_types: Collection[str] | None = None) -> Job | NoJob:
        """
        A job that this agent may claim, asked for during at most *wait_s* seconds. Claims nothing.

        Args:
            job_types: of one of these types, as far as the server can tell them apart; None for any of ours.
        """

    def next_claim(
        self, *, key: str, wait_s: float, job_types: Collection[str] | None = None
    ) -> Claim | NoJob | None:
        """
        As `next_job` and then `claim`, in one exchange. The same *key* gives the same claim again as long as
        nothing was said of it, so a lost answer is resolved by asking once more; with no *job_types*, that alone.

        Returns:
            None when the control plane only offers jobs.

        Raises:
            ClaimLost: what *key* was granted is over, or known to us; another key is needed.
        """

    def find_job(self, job_id: str) -> Job | NoJob:
        """The job of that id if it waits for an agent. Claims nothing."""

    def stop_waiting(self) -> None:
        """End a `register`, `next_job` or `heartbeat` that is under way. The one call that other threads make."""

    def claim(self, job: Job, *, key: str) -> Claim:
        """Take *job*. The same *key* gives the same claim again, so a lost answer is resolved by repeating."""

    def refuse(self, job_id: str, *, key: str, reason: str, message: str) -> None:
        """Claim a job that cannot be read and fail it at once, for nobody else could run it either."""

    def report(self, update: StatusUpdate) -> None:
        """Say how a held job is, in the order of `sequence`. A repeated update changes nothing."""

    def report_together(self, updates: Sequence[StatusUpdate]) -> Sequence[RejectedError | None] | None:
        """
        As `report` for each of *updates*, in one exchange: what each was refused with. The one way for updates that
        have files with them.

        Returns:
            None when they have to be said one by one.
        """

    def heartbeat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None = None
    ) -> Orders:
        """
        Renew all leases; the answer may take *wait_s* seconds, and comes at once when there is news.

        Args:
            not_accepting: why no job is taken now, in a few words; None when one is.
        """

    def leave(self) -> None:
        """Say once that this agent takes no more jobs; at the end, and within two seconds."""

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """The job's parameters. Raises InvalidInput when they are not a JSON object."""

    def input_file(self, job: Job) -> RemoteFile | None:
        """What the job's input file is, None when it has none."""

    def download(self, file: RemoteFile, destination: Path) -> None:
        """Put *file* at *destination*, in one step, after its digest was checked."""

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """Store *file* as a result of the job; returns its id. The same file twice is stored once."""

    def upload_together(self, claim: Claim, files: Sequence[ResultFile]) -> Sequence[str] | None:
        """
        As `upload` for each of *files*, small ones, in one call: all of them or none; returns their ids.

        None where there is no such call; then nothing was stored.
        """

    def encloses(self, files: Sequence[ResultFile]) -> bool:
        """Whether *files* may go with a word about their job; they are few and small, then."""

    def append_log(self, claim: Claim, *, offset: int, data: bytes) -> int | None:
        """
        Append to the job's log, also after the job's end, as long as nobody else has it.

        Returns:
            How many bytes the server has now, which may differ from ours; None when it keeps no logs.
        """


@dataclass(frozen=True)
class Offer:
    """
    What a control plane is told that this host has for jobs.

    Attributes:
        job_types: those that it takes, functions of the host among them.
        functions: version by name.
        capabilities: what else it says of itself, such as `label:gpu`.
    """

    job_types: tuple[str, ...]
    functions: Mapping[str, str]
    slots: int
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class Posted:
    """A status in the outbox; `position` orders them over all jobs. `posted_at` is ISO 8601."""

    position: int
    update: StatusUpdate
    posted_at: str


@dataclass(frozen=True)
class Parked:
    """A status that the control plane would not have; `position` names it. What follows it is parked with it."""

    position: int
    update: StatusUpdate
    why: str
    posted_at: str


@dataclass(frozen=True)
class Tally:
    """How many statuses wait to be sent, since when the oldest of them does (ISO 8601), and how many are parked."""

    waiting: int
    oldest_posted_at: str | None
    parked: int


class Outbox(Protocol):
    """
    Statuses on their way, on disk, in order. A call returns when its effect would survive `kill -9`; what
    `undelivered` gives survives a power cut, too.

    Safe to use from any thread. Every call raises JournalError when the disk does not take it.
    """

    def post(
        self,
        claim: Claim,
        status: Status,
        *,
        message: str | None = None,
        detail: Mapping[str, Any] | None = None,
        files: Sequence[ResultFile] = (),
    ) -> None:
        """
        Put the next status of *claim* into the outbox. A final status, or PENDING (a release), also ends the
        claim, in the same transaction.

        Args:
            files: go with it, read when it is sent.

        Raises:
            IllegalTransition: *status* may not follow the last one that was posted.
        """

    def statuses(self, claim: Claim) -> Sequence[Status]:
        """What was posted for *claim*, oldest first; CLAIMED is always the first."""

    def last_fate(self, job_id: str, attempt: int) -> str:
        """`waiting`, `delivered` or `refused`: what has become of the last status of that attempt."""

    def undelivered(self) -> Sequence[Posted]:
        """What waits, oldest first; what is said of one job has to be said in this order."""

    def delivered(self, posted: Posted) -> None:
        """The server has it."""

    def refused(self, posted: Posted, why: str) -> None:
        """
        The server will not have it: neither it nor anything later of the same attempt is sent, and the job is
        not held any more.
        """

    def parked(self) -> Sequence[Parked]:
        """What was refused or was too old to be sent, oldest first; nobody sends it unless `retry` says so."""

    def tally(self) -> Tally:
        """How many there are of each."""

    def retry(self, position: int) -> bool:
        """Send what is parked under *position*, and what follows it of the same attempt; False when nothing is."""

    def wait_for_post(self, timeout_s: float) -> None:
        """Sleep until something waits to be sent, at most *timeout_s* seconds or until `wake`."""

    def gather(self, timeout_s: float) -> None:
        """Let more gather behind what waits: for *timeout_s* seconds, or until the last word about a job waits."""

    def wake(self) -> None:
        """End a `wait_for_post`."""

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Sleep until nothing waits to be sent, at most *timeout_s* seconds; returns whether that is so."""


class UploadLedger(Protocol):
    """Uploads in parts that were begun, by the storage key of their blob; so that a restart goes on with them."""

    def upload_id(self, key: str) -> str | None:
        """The control plane's id of the upload, None when none was begun."""

    def note_upload_id(self, key: str, upload_id: str) -> None:
        """An upload was begun; it takes the place of an earlier one."""

    def forget_upload_id(self, key: str) -> None:
        """It is done, or it will not be gone on with."""


@dataclass(frozen=True)
class OwedLog:
    """A log that was not shipped whole when its job ended; `base_bytes` of the remote log lie before it."""

    claim: Claim
    base_bytes: int


class LogLedger(Protocol):
    """What must survive of logs on their way. Written only where a log is no plain one."""

    def log_base(self, claim: Claim) -> int | None:
        """How many bytes of the remote log lie before ours; None when nothing was noted."""

    def note_log(self, claim: Claim, base_bytes: int, *, is_owed: bool) -> None:
        """Keep that, and whether the job has ended and its log is still to be shipped."""

    def forget_log(self, claim: Claim) -> None:
        """All of it is shipped, or will never be."""

    def owed_logs(self) -> Sequence[OwedLog]:
        """The logs of jobs that have ended, to go on with."""


class Logs(Protocol):
    """
    Logs on their way to the control plane. No call waits for a server, but for `settle`.

    Order of calls for a claim: `follow`, `end`, `settle`; or `abandon` after any of them.
    """

    def follow(self, claim: Claim) -> None:
        """Ship what is in the job's log, and whatever comes into it from now on."""

    def end(self, claim: Claim) -> None:
        """Nothing more comes into the job's log."""

    def settle(self, claim: Claim, *, wait_s: float) -> LogCounts | None:
        """
        Wait at most *wait_s* seconds for the rest to be shipped, less when the control plane is out of reach; what
        is left then is shipped later.

        Returns:
            How far it is; None when the log was never followed.
        """

    def abandon(self, claim: Claim) -> None:
        """The job is someone else's: nothing more of its log is shipped."""


class Journal(Outbox, UploadLedger, LogLedger, Protocol):
    """What this agent knows, on disk, under the same promises as its outbox."""

    def agent_id(self) -> str | None:
        """Under which id this agent is registered."""

    def remember_agent(self, agent_id: str) -> None:
        """Keep the id for the next start."""

    def intend(self, job: Job, key: str) -> None:
        """*job* will be claimed with *key*; written before the claim is sent."""

    def claim_key(self) -> str:
        """
        The key of the next claim whose job is not known yet; on disk when this returns, and the same until a claim
        is held under it or it is `spent`.
        """

    def spend(self, key: str) -> None:
        """*key* brings nothing any more: the next one is another."""

    def hold(self, claim: Claim, *, key: str | None = None) -> bool:
        """
        The claim was granted, under the `claim_key` if *key* is given, which is spent with it; False when that very
        attempt has ended here before: then its statuses wait to be sent once more, and nothing is to be done.
        """

    def not_granted(self, job_id: str) -> None:
        """A claim that was intended was refused."""

    def lose(self, claim: Claim) -> None:
        """
        *claim* does not hold any more: nothing more is said about that attempt. A later one of the same job, which
        may have been claimed before this was known, loses nothing.
        """

    def intended(self) -> Sequence[tuple[Job, str]]:
        """Claims whose answer never came, with their keys."""

    def held(self) -> Sequence[Claim]:
        """Jobs that were claimed and have not ended: after a restart, the work to go on with."""

    def note_upload(self, claim: Claim, file: ResultFile, remote_id: str) -> None:
        """*file* is stored under *remote_id*."""

    def uploaded(self, claim: Claim) -> Mapping[str, str]:
        """SHA-256 by name of the files that are stored."""


class Launcher(Protocol):
    """Runs an executor in a child process of its own and sees to it that nothing of it outlives the job."""

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> Result:
        """
        The result of the work. What is already in the workspace is not done again.

        Args:
            on_iteration: told of each step of a search, in the job's own words, after an interruption once more.

        Raises:
            JobError: the job failed.
            Stopped: it was asked to end, or its time ran out.
        """


@dataclass(frozen=True)
class Workspace:
    """
    A job's own folder. Everything in `output` was made by the job and is untrusted.

    Attributes:
        input_file: where the input file is, or will be.
        input_name: as its owner called it, None when there is no input.
        state: survives an interruption.
        log: what the child wrote to its standard output.
        result: the child's last word; there as soon as, and only when, the work is done.
        temporary: for what is of no use to anybody after the job's processes: it is there as long as they are.
    """

    folder: Path
    input_file: Path
    input_name: str | None
    output: Path
    state: Path
    log: Path
    result: Path
    temporary: Path


class Workspaces(Protocol):
    """The folders of all jobs."""

    def open(self, job: Job, input_file: RemoteFile | None) -> AbstractContextManager[Workspace]:
        """
        The folder of *job*: as an interrupted run of the same parameters and input left it, else new.

        It stays when the block ends; `sweep` removes it when nothing of it is needed any more.
        """

    def sweep(
        self, needed: Callable[[str], bool], *, in_use: Callable[[str], bool] = ..., most_bytes: int = ...
    ) -> Sequence[str]:
        """
        Remove the folders of jobs that are not *needed*; and of those that are not *in_use*, the oldest first, as
        many as there are bytes beyond *most_bytes*. Returns the ids of those that could not be removed.
        """
