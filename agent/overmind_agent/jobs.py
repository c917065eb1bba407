"""What the agent knows of a job: plain values, the same on both sides of every port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from overmind_agent.lifecycle import Status

REPLACED: Final = "another agent runs on a copy of this state folder; give each host its own"
"""Why an agent drains that hears of another start of itself."""

FUNCTION_SCOPE: Final = "@overmind:"


def job_type_of(function_name: str) -> str:
    """`inference` for `@overmind:inference`; any other function is a job type by its own name."""
    return function_name.removeprefix(FUNCTION_SCOPE)


def is_plain_name(name: str) -> bool:
    """Whether *name* can be the name of a result file: of a file in a folder, wherever that is, and of no other."""
    is_short = 0 < len(name.encode(errors="replace")) <= 255
    return is_short and name not in (".", "..") and not set(name) & set("/\\\0")


class StopReason(StrEnum):
    """Why work is asked to end before it is done."""

    USER_REQUEST = "user_request"
    HOST_REQUEST = "host_request"
    AGENT_STOPPING = "agent_stopping"
    LEASE_LOST = "lease_lost"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class RemoteFile:
    """
    A file that the control plane keeps.

    Attributes:
        name: as its owner called it; untrusted, never used as a path.
        sha: hex SHA-384 of content and salt, its key in the control plane's storage.
        salt: 32 hex characters.
        size_bytes: as declared, None when the server did not say.
        revision_id: the revision that holds it; results name it as their source.
    """

    name: str
    sha: str
    salt: str
    size_bytes: int | None
    revision_id: str


@dataclass(frozen=True)
class Job:
    """
    One unit of work, as the control plane offers it.

    Attributes:
        id: a UUID in its canonical form.
        job_type: `inference` and the like, or the name of a registered function.
        parameters: the file that holds the job's parameters, a JSON object.
        model_id: the model that result files are attached to.
        has_input: whether that model's file is the job's input; not so for a job whose parameters say it all.
        status: the last one that the control plane knows.
        holder: the agent that claimed it, None before that.
        timeout_s: how long the executor may run, None for the host's own limit.
        traceparent: the trace that its submitter's call belonged to, None when it said none; untrusted.
        project: whose job it is, None where the server does not say.
        function_version, display_name: as its submitter gave them.
        signature: its submitter's, None for a job without; untrusted.
    """

    id: str
    job_type: str
    parameters: RemoteFile
    model_id: str | None
    status: Status
    has_input: bool = True
    holder: str | None = None
    timeout_s: float | None = None
    traceparent: str | None = None
    project: str | None = None
    function_version: str | None = None
    display_name: str | None = None
    signature: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NoJob:
    """
    There is nothing to do now; *message* is the control plane's own word for it.

    Attributes:
        is_replaced: another start of this agent, as from a copy of its state folder, asks for its jobs now.
    """

    message: str
    is_replaced: bool = False


@dataclass(frozen=True)
class Lease:
    """
    For how long a claim holds without a heartbeat; a duration, since clocks differ between hosts.

    Attributes:
        waited_s: the lease began no earlier than so long after the call for it was sent.
    """

    ttl_s: float
    waited_s: float = 0.0


@dataclass(frozen=True)
class Claim:
    """
    A job that this agent holds.

    Attributes:
        attempt: which grant of this job it is, counted from 1; every later write carries it.
        lease: None where the control plane has none.
    """

    job: Job
    attempt: int
    lease: Lease | None


@dataclass(frozen=True)
class Progress:
    """
    How far a job is; the first three names are those of the prompt-optimisation dialect.

    Attributes:
        usd: US dollars spent so far; None where a price is unknown, or nothing is spent.
        eta_s: seconds until the work is done, as far as can be told.
    """

    step: int
    total_steps: int
    step_name: str
    usd: float | None = None
    eta_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ResultFile:
    """
    One file that an executor made and the agent uploads: `path` is absolute, inside the workspace.

    Attributes:
        is_required: whether the job fails when it cannot be uploaded.
        is_model: whether it is to be a model file, too, where the control plane can do that.
    """

    name: str
    path: Path
    size_bytes: int
    sha256: str
    is_required: bool = True
    is_model: bool = False


@dataclass(frozen=True)
class Result:
    """
    What came out of a job.

    Attributes:
        files: in the order in which they are uploaded.
        outcome: a small JSON object, the same facts as the summary file; it ends up in the Job record.
    """

    files: tuple[ResultFile, ...]
    outcome: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Enclosed:
    """Result files that go with a word about their job: they are stored and it is taken, or neither."""

    claim: Claim
    files: tuple[ResultFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class StatusUpdate:
    """
    One word to the control plane about a held job.

    Attributes:
        sequence: 1, 2, 3… within the attempt; the claim itself has none.
        message: for people, at most 4,096 characters.
        detail: what a program reads: `reason` of a failure, declared `files`, the `outcome`.
        enclosed: what goes with it.
    """

    job_id: str
    attempt: int
    sequence: int
    status: Status
    message: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    enclosed: Enclosed | None = None


@dataclass(frozen=True)
class LogCounts:
    """What has become of a job's log, in bytes: `left_bytes` are still to be sent, `lost_bytes` will never be."""

    sent_bytes: int
    left_bytes: int
    lost_bytes: int


class Directive(StrEnum):
    """What the control plane wants of a job that we hold."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Held:
    """
    One line of a heartbeat: a job that we hold, how far it is, and the steps of its search not told yet.

    Attributes:
        ends: how often this agent has ended in the midst of its work in this attempt, and gone on with it.
    """

    job_id: str
    attempt: int
    progress: Progress | None = None
    iterations: tuple[Mapping[str, Any], ...] = ()
    ends: int = 0


@dataclass(frozen=True)
class Orders:
    """
    The answer to a heartbeat.

    Attributes:
        directives: by job id, for every job that was named.
        leases: by job id, for those that continue.
        drain: take no new job.
        is_replaced: another start of this agent, as from a copy of its state folder, has taken its place.
    """

    directives: Mapping[str, Directive]
    leases: Mapping[str, Lease] = field(default_factory=dict)
    drain: bool = False
    is_replaced: bool = False


@dataclass(frozen=True)
class Ended:
    """
    How a job ended here.

    Attributes:
        status: COMPLETED, FAILED or CANCELED; PENDING when it was released; None when it was lost.
        reason: of a failure, a release or a loss.
        phases_s: seconds spent in each phase, by its name.
    """

    job_id: str
    job_type: str
    attempt: int
    status: Status | None
    reason: str | None = None
    message: str | None = None
    files: tuple[ResultFile, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    phases_s: Mapping[str, float] = field(default_factory=dict)
