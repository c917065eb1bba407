"""
The second room: the life of one claimed job, from VALIDATING to its last word.

Each step is in the journal before it is said, so a run that was cut off goes on where it was: what is already
posted is not posted again, work that has ended is not done again, a file that is stored is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import insist
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    ControlPlaneError,
    InvalidInput,
    JobError,
    JournalError,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    Stopped,
)
from overmind_agent.files.lanes import Lanes
from overmind_agent.files.partial import MOST_BYTES, partial_files
from overmind_agent.files.result import apart, check_unchanged
from overmind_agent.held_jobs import HeldJob
from overmind_agent.host.size_limits import SizeLimits
from overmind_agent.host.time_limits import OutOfTime, RunningTime, TimeLimits, within
from overmind_agent.jobs import Ended, LogCounts, Progress, RemoteFile, Result, ResultFile, StopReason
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.ports import Clock, ControlPlane, Journal, Launcher, Logs, Workspace, Workspaces
from overmind_agent.signing.policy import Signatures
from overmind_agent.uploading import PARTIAL_S, Uploading
from overmind_config.redaction import Redactor
from overmind_executors.contract import InvalidParameters
from overmind_executors.process.host_faults import reason_of

T = TypeVar("T")

MESSAGE_CHARS: Final = 1000
# How long the last word waits for the rest of the log.
LOG_FLUSH_S: Final = 30.0


def _never(_error: BaseException | None) -> bool:
    """An outage only delays a job."""
    return False


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """
    The room: what a run of a job has at hand. Runs claimed jobs, one after the other, in one thread.

    Attributes:
        validate: raises InvalidParameters when a job of that type cannot be run with those parameters.
        on_change: told of each status and each progress, for whoever watches.
        limits: how long each phase may take.
        sizes: how large input and result may be.
        signatures: whether a job's signature will do.
        redactor: masks secrets in all words about the job before they are written down; not in its result files.
    """

    control_plane: ControlPlane
    journal: Journal
    launcher: Launcher
    workspaces: Workspaces
    logs: Logs
    lanes: Lanes
    clock: Clock
    validate: Callable[[str, Mapping[str, Any]], object]
    on_change: Callable[[HeldJob, Status], None]
    log: FilteringBoundLogger
    redactor: Redactor = field(default_factory=Redactor)
    limits: TimeLimits = field(default_factory=TimeLimits)
    sizes: SizeLimits = field(default_factory=SizeLimits)
    signatures: Signatures = field(default_factory=Signatures)

    def __call__(self, held: HeldJob) -> Ended:
        """
        Run the job to its end, whatever that is.

        Raises:
            AuthError, JournalError: about the agent, not the job. The job stays held in the journal
                and is gone on with later.
        """
        return _Run(self, held).ended()


class _Run:
    """One job on its way through JobRun."""

    def __init__(self, room: JobRun, held: HeldJob) -> None:
        self._room = room
        self._held = held
        self._claim = held.claim
        self._job = held.claim.job
        self._log = room.log.bind(job_id=self._job.id, job_type=self._job.job_type, attempt=self._claim.attempt)
        self._said = list(room.journal.statuses(self._claim))
        self._started_s = self._phase_s = room.clock.now_s()
        self._phases_s: dict[str, float] = {}
        self._running: RunningTime | None = None
        self._unfinished: Workspace | None = None
        self._enclosed: tuple[ResultFile, ...] = ()

    def ended(self) -> Ended:
        try:
            result = self._work()
        except Stopped as stopped:
            return self._on_stopped(stopped.reason)
        except ClaimLost as error:
            self._room.journal.lose(self._claim)
            self._room.logs.abandon(self._claim)
            return self._ended(None, reason="claim_lost", message=str(error))
        except JobError as error:
            return self._end(Status.FAILED, reason=error.reason, message=str(error))
        except (AuthError, JournalError):
            raise
        except RejectedError as error:
            return self._end(Status.FAILED, reason="rejected", message=str(error))
        except OSError as error:
            self._log.exception("job.crashed")
            reason = reason_of(error) or "internal_error"
            return self._end(Status.FAILED, reason=reason, message=f"on this host: {error.strerror or error}")
        except Exception as error:
            self._log.exception("job.crashed")
            return self._end(Status.FAILED, reason="internal_error", message=f"{type(error).__name__} in the agent")
        return self._end(Status.COMPLETED, message=f"{len(result.files)} files", result=result)

    def _work(self) -> Result:
        plane = self._room.control_plane
        input_file = self._insist(lambda: plane.input_file(self._job))
        self._must_be_signed(input_file)
        self._enter(Status.VALIDATING)
        parameters = self._insist(lambda: plane.read_parameters(self._job))
        self._check(parameters)
        with self._room.workspaces.open(self._job, input_file) as workspace:
            self._fetch(input_file, workspace)
            self._enter(Status.RUNNING)
            self._running = RunningTime(self._room.limits, self._job.timeout_s, self._room.clock)
            self._room.logs.follow(self._claim)
            self._unfinished = workspace
            try:
                result = self._room.launcher.run(
                    self._claim,
                    parameters,
                    workspace,
                    on_progress=self._on_progress,
                    on_iteration=self._on_iteration,
                    stop_reason=self._stop_reason,
                )
            finally:
                self._room.logs.end(self._claim)  # the files go while the rest of the log does
            self._unfinished = None
            self._room.sizes.check_result(result.files)
            result = self._redacted(result)
            self._enclosed = self._enclosable(result)
            if not self._enclosed:
                self._enter_uploading(result)
                self._uploading().upload(result)
        return result

    # ------------------------------------------------------------------------------------------ the phases

    def _enter(self, status: Status, **detail: Any) -> None:
        """Begin the next phase; it is posted unless an earlier run of this attempt has done so."""
        self._end_phase()
        if status not in self._said:
            self._room.journal.post(self._claim, status, detail=detail)
            self._said.append(status)
        self._log.info(_EVENTS[status])
        self._room.on_change(self._held, status)

    def _enter_uploading(self, result: Result) -> None:
        self._enter(Status.UPLOADING, files=[_declared(file) for file in result.files if file.is_required])

    def _end_phase(self) -> None:
        now_s = self._room.clock.now_s()
        self._phases_s[self._said[-1].value.lower()] = round(now_s - self._phase_s, 3)
        self._phase_s = now_s

    def _stop_reason(self) -> StopReason | None:
        """Why the executor should end."""
        if (asked := self._held.stop_reason) is not None:
            return asked
        return StopReason.TIMEOUT if self._running and self._running.limit() else None

    def _must_be_signed(self, input_file: RemoteFile | None) -> None:
        """Before anything else is done with the job; *input_file* is the one that it will work on."""
        is_begun = Status.VALIDATING in self._said
        if (doubt := self._room.signatures.admit(self._job, input_file, is_begun=is_begun)) is not None:
            self._log.warning("job.signature_doubted", message=doubt)

    def _check(self, parameters: Mapping[str, Any]) -> None:
        limit_s = self._room.limits.validating_s
        try:
            within(
                limit_s,
                lambda: self._room.validate(self._job.job_type, parameters),
                "validating",
                clock=self._room.clock,
            )
        except InvalidParameters as error:
            raise InvalidInput(str(error)) from error

    def _fetch(self, file: RemoteFile | None, workspace: Workspace) -> None:
        if file is not None and not workspace.input_file.exists():
            self._room.sizes.check_input(file.size_bytes)
            self._insist(lambda: self._room.control_plane.download(file, workspace.input_file))
            self._room.sizes.check_input(workspace.input_file.stat().st_size)

    def _enclosable(self, result: Result) -> tuple[ResultFile, ...]:
        """All files of *result*, if they may go with the last word; none, if they are to be stored before it."""
        files = result.files
        is_begun = self._held.stop_reason is not None or self._room.journal.uploaded(self._claim)
        if is_begun or not all(file.is_required for file in files):
            return ()
        try:
            if not self._room.control_plane.encloses(files):
                return ()
        except (ControlPlaneError, ProtocolError):
            return ()
        for file in files:  # nobody changes them any more; that they are whole is to be known before it is said
            check_unchanged(file)
        return files

    def _uploading(self) -> Uploading:
        room = self._room
        return Uploading(
            self._claim,
            room.control_plane,
            journal=room.journal,
            lanes=room.lanes,
            limits=room.limits,
            insist=self._insist,
            on_progress=self._on_progress,
            clock=room.clock,
            log=self._log,
        )

    def _redacted(self, result: Result) -> Result:
        """*result* without secrets in its names and its outcome; the files themselves are the job's product."""
        redactor = self._room.redactor
        names = apart([redactor.text(file.name) for file in result.files])
        files = tuple(replace(file, name=name) for file, name in zip(result.files, names, strict=True))
        return Result(files, redactor.value(result.outcome))

    def _on_progress(self, progress: Progress) -> None:
        progress = replace(progress, step_name=self._room.redactor.text(progress.step_name))
        if self._running is not None:
            self._running.progressed()
        self._held.progress = progress
        self._room.on_change(self._held, self._said[-1])

    def _on_iteration(self, fields: Mapping[str, Any]) -> None:
        self._held.add_iteration(self._room.redactor.value(fields))

    def _insist(self, call: Callable[[], T], *, is_over: Callable[[BaseException | None], bool] = _never) -> T:
        """*call*, until it goes well, is refused, or the work is asked to end: an outage only delays a job."""
        held = self._held

        def on_retry(error: BaseException, wait_s: float) -> None:
            self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(wait_s, 1))

        if held.stop_reason is not None:
            raise Stopped(held.stop_reason)
        try:
            return insist(
                call,
                sleep=held.wait,
                stop=lambda state: (
                    held.stop_reason is not None or is_over(state.outcome.exception() if state.outcome else None)
                ),
                on_retry=on_retry,
            )
        except (ControlPlaneError, ProtocolError):
            if held.stop_reason is not None:
                raise Stopped(held.stop_reason) from None
            raise

    # ------------------------------------------------------------------------------------------ the ends

    def _on_stopped(self, reason: StopReason) -> Ended:
        match reason:
            case StopReason.USER_REQUEST:
                return self._end(Status.CANCELED)
            case StopReason.HOST_REQUEST:
                return self._end(Status.CANCELED, reason=reason, message="canceled on the host that ran it")
            case StopReason.TIMEOUT:
                limit = self._running.limit() if self._running else None
                return self._end(Status.FAILED, reason=reason, message=limit or "its time limit ran out")
            case StopReason.LEASE_LOST:
                self._room.logs.abandon(self._claim)
                return self._ended(None, reason=reason, message="the lease was not renewed; it is asked for first")
            case StopReason.AGENT_STOPPING:
                if Status.UPLOADING in self._said:  # a finished result is kept for the next start
                    return self._ended(
                        None, reason="agent_stopping", message="the result is kept for the next start"
                    )
                return self._end(Status.PENDING, reason=reason, message="released: the agent stops")

    def _end(
        self, status: Status, *, reason: str | None = None, message: str | None = None, result: Result | None = None
    ) -> Ended:
        detail: dict[str, Any] = {"reason": reason} if reason else {}
        if result is not None:
            detail["outcome"] = dict(result.outcome)
        if LIFECYCLE[status].is_final and self._unfinished is not None:
            self._send_partial(self._unfinished)
        if (log := self._settled_log(status)) is not None:
            detail["log"] = asdict(log)
        text = _clean(self._room.redactor.text(message))[:MESSAGE_CHARS] if message else None
        shown = f"{reason}: {text}" if reason and text and status is Status.FAILED else text
        files = self._enclosed if result is not None else ()
        if result is not None and files:
            self._enter_uploading(result)  # not before, so that it goes out with the last word
        self._room.journal.post(self._claim, status, message=shown, detail=detail, files=files)
        return self._ended(status, reason=reason, message=text, result=result)

    def _send_partial(self, workspace: Workspace) -> None:
        """What the job left, as far as it goes: each file is tried once, until one fails or PARTIAL_S are over."""
        ends_at_s = self._room.clock.now_s() + PARTIAL_S
        most_bytes = min(MOST_BYTES, self._room.sizes.max_result_bytes or MOST_BYTES)

        def send(plane: ControlPlane, file: ResultFile) -> None:
            if self._room.clock.now_s() >= ends_at_s:
                raise OutOfTime(f"partial files took longer than {PARTIAL_S:g} s")
            plane.upload(self._claim, replace(file, name=self._room.redactor.text(file.name)))

        def send_all() -> int:
            files = list(partial_files(workspace.output, most_bytes=most_bytes))
            return len(list(self._room.lanes.each(files, send)))

        try:
            sent = within(PARTIAL_S, send_all, "sending partial files", clock=self._room.clock)
        except (OvermindAgentError, OSError) as error:
            self._log.warning("job.partial_files_left", error=str(error))
        else:
            self._log.info("job.partial_files_sent", files=sent)

    def _settled_log(self, status: Status) -> LogCounts | None:
        """What has become of the log; a job that is given back does not wait for it."""
        wait_s = LOG_FLUSH_S if LIFECYCLE[status].is_final else 0.0
        counts = self._room.logs.settle(self._claim, wait_s=wait_s)
        return counts if counts is not None and any(asdict(counts).values()) else None

    def _ended(
        self, status: Status | None, *, reason: str | None, message: str | None, result: Result | None = None
    ) -> Ended:
        self._end_phase()
        ended = Ended(
            job_id=self._job.id,
            job_type=self._job.job_type,
            attempt=self._claim.attempt,
            status=status,
            reason=reason,
            message=message,
            files=result.files if result else (),
            outcome=result.outcome if result else {},
            phases_s=self._phases_s,
        )
        self._tell(ended)
        return ended

    def _tell(self, ended: Ended) -> None:
        """The one line that tells the whole story."""
        say = self._log.error if ended.status is Status.FAILED else self._log.info
        say(
            _EVENTS[ended.status],
            reason=ended.reason,
            message=ended.message,
            files=len(ended.files),
            size_bytes=sum(file.size_bytes for file in ended.files),
            duration_s=round(self._room.clock.now_s() - self._started_s, 3),
            phases_s=ended.phases_s,
        )
        self._room.on_change(self._held, ended.status or Status.UNKNOWN)


_EVENTS: Final[dict[Status | None, str]] = {
    Status.VALIDATING: "job.validating",
    Status.RUNNING: "job.started",
    Status.UPLOADING: "job.uploading",
    Status.COMPLETED: "job.completed",
    Status.FAILED: "job.failed",
    Status.CANCELED: "job.canceled",
    Status.PENDING: "job.released",
    None: "job.lost",
}


def _clean(text: str) -> str:
    """*text* without halves of surrogate pairs, which neither the journal nor the wire can hold."""
    return text.encode("utf-8", errors="replace").decode()


def _declared(file: ResultFile) -> dict[str, Any]:
    return {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
