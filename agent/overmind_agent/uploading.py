"""UPLOADING: the result files of one claim on their way, each noted in the journal when it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    JobError,
    ProtocolError,
    RejectedError,
    TransientError,
    UploadError,
)
from overmind_agent.files.lanes import Lanes
from overmind_agent.files.together import together
from overmind_agent.host.time_limits import OutOfTime, TimeLimits, UploadTime
from overmind_agent.jobs import Claim, Progress, Result, ResultFile
from overmind_agent.ports import Clock, ControlPlane, Journal

PARTIAL_S: Final = 30.0
"""What a file is given without which the job is done as well. Nobody insists on that."""

T = TypeVar("T")


class Insist(Protocol):
    """Tries a call again through an outage, until it is refused, *is_over*, or the work is asked to end."""

    def __call__(self, call: Callable[[], T], *, is_over: Callable[[BaseException | None], bool]) -> T:
        """What *call* answers."""


class Uploading:
    """
    Files that an earlier run of the attempt has stored are not sent again.

    Args:
        lanes: over which several files go at once.
        limits: how long it may take.
        on_progress: told of each file, or of several.
    """

    def __init__(
        self,
        claim: Claim,
        control_plane: ControlPlane,
        *,
        journal: Journal,
        lanes: Lanes,
        limits: TimeLimits,
        insist: Insist,
        on_progress: Callable[[Progress], None],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._claim = claim
        self._control_plane = control_plane
        self._journal = journal
        self._lanes = lanes
        self._limits = limits
        self._insist = insist
        self._on_progress = on_progress
        self._clock = clock
        self._log = log

    def upload(self, result: Result) -> None:
        """
        Store every file of *result*.

        Raises:
            UploadError, OutOfTime: a file without which the job is not done will not be stored.
            Stopped, ClaimLost, AuthError: the work is over, or cannot go on now.
        """
        stored = self._journal.uploaded(self._claim)
        waiting = [file for file in result.files if stored.get(file.name) != file.sha256]
        gone = self._upload_together(waiting)
        waiting = [file for file in waiting if file not in gone]
        first = len(result.files) - len(waiting) + 1
        for number, file in enumerate(self._lanes.each(waiting, self._upload_one), start=first):
            self._on_progress(Progress(number, len(result.files), f"upload {file.name}"))

    def _upload_together(self, waiting: Sequence[ResultFile]) -> Set[ResultFile]:
        """Those of *waiting* that went in company. If a call is refused, the rest go alone, and say why not."""
        gone: set[ResultFile] = set()
        for files in together(waiting):
            time = UploadTime(self._limits, sum(file.size_bytes for file in files), self._clock)
            call = partial(self._control_plane.upload_together, self._claim, files)
            try:
                ids = self._insist(call, is_over=time.is_over)
            except AuthError:
                raise
            except (RejectedError, TransientError, ProtocolError, UploadError):
                return gone
            if ids is None:
                return gone
            for file, remote_id in zip(files, ids, strict=True):
                self._note(file, remote_id)
            gone.update(files)
            self._on_progress(Progress(len(gone), len(waiting), "upload"))
        return gone

    def _upload_one(self, plane: ControlPlane, file: ResultFile) -> None:
        try:
            remote_id = self._send(plane, file)
        except JobError as error:
            if file.is_required:
                raise
            self._log.warning("job.file_left", file=file.name, reason=error.reason, error=str(error))
            return
        self._note(file, remote_id)

    def _note(self, file: ResultFile, remote_id: str) -> None:
        self._journal.note_upload(self._claim, file, remote_id)
        self._log.info("job.file_uploaded", file=file.name, size_bytes=file.size_bytes)

    def _send(self, plane: ControlPlane, file: ResultFile) -> str:
        """*file*, until it is stored; the time of one that is not required runs on through an outage."""
        limits = self._limits if file.is_required else replace(self._limits, uploading_s=PARTIAL_S)
        time = UploadTime(limits, file.size_bytes, self._clock)
        try:
            return self._insist(
                lambda: plane.upload(self._claim, file),
                is_over=lambda error: time.is_over(error if file.is_required else None),
            )
        except (TransientError, ProtocolError) as error:
            raise OutOfTime(f"uploading {file.name} took longer than {time.limit_s:g} s: {error}") from error
        except (AuthError, ClaimLost):
            raise
        except RejectedError as error:
            raise UploadError(str(error)) from error
