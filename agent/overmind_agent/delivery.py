"""Brings the outbox to the control plane, in order, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import Backoff, is_worth_retrying
from overmind_agent.errors import (
    AuthError,
    JournalError,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    TransientError,
    UploadError,
)
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.jobs import Enclosed, ResultFile, StopReason
from overmind_agent.lifecycle import LIFECYCLE
from overmind_agent.ports import Clock, ControlPlane, Outbox, Posted

IDLE_S: Final = 1.0
# A short job has said all that it has to say within such a time: that goes out in one exchange, as soon as it ends.
GATHER_S: Final = 0.1
# An outage may last for days, and there may be many of us.
BASE_S: Final = 1.0
CAP_S: Final = 60.0
REFUSED_S: Final = 10.0
# Between two tries when the disk does not take the note that something was delivered; it is sent again, then.
DISK_GAP_S: Final = 5.0
INTERNAL_SERVER_ERROR: Final = 500
# Updates in one exchange.
MOST_TOGETHER: Final = 16


class Delivery:
    """
    A thread and a connection of its own.

    A status leaves the outbox when the control plane has confirmed it, or will never take it; then the job is no
    longer ours, and its work is asked to end.
    """

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        outbox: Outbox,
        held_jobs: HeldJobs,
        on_refused: Callable[[AuthError], object],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._control_plane = control_plane
        self._outbox = outbox
        self._held_jobs = held_jobs
        self._on_refused = on_refused
        self._clock = clock
        self._log = log
        self._backoff = Backoff(base_s=BASE_S, cap_s=CAP_S)

    def run(self, closing: threading.Event) -> None:
        """Deliver until *closing*."""
        while not closing.is_set():
            self._outbox.wait_for_post(IDLE_S)
            self._outbox.gather(GATHER_S)
            self._clock.sleep(self.deliver())

    def deliver(self) -> float:
        """Send what waits; returns how many seconds to wait before the next try, 0 when all was sent."""
        try:
            error: OvermindAgentError | None = self._send_all()
        except AuthError as refused:
            self._on_refused(refused)
            return REFUSED_S
        except JournalError as failed:
            self._log.error("journal.refused", error=str(failed), wait_s=DISK_GAP_S, hint="make room on the disk")
            return DISK_GAP_S
        except OvermindAgentError as failed:
            if not is_worth_retrying(failed):
                raise
            error = failed
        if error is None:
            self._backoff.reset()
            return 0.0
        wait_s = self._backoff.after(error)
        self._log.warning("control_plane.retry_scheduled", error=str(error), wait_s=round(wait_s, 1))
        return wait_s

    def _send_all(self) -> TransientError | None:
        """Send what waits. A job over which the server breaks holds up no other; returns the last such error."""
        broken: TransientError | None = None
        stuck: set[str] = set()
        while waiting := [posted for posted in self._outbox.undelivered() if posted.update.job_id not in stuck]:
            together = self._fitting(waiting)
            is_one_word = len(together) == 1 and together[0].update.enclosed is None
            if is_one_word or not self._send_together(together):
                broken = self._send_each(together, stuck) or broken
        return broken

    def _fitting(self, waiting: Sequence[Posted]) -> Sequence[Posted]:
        """The first ones, as many as go into one exchange with all that is enclosed."""
        together: list[Posted] = []
        files: list[ResultFile] = []
        for posted in waiting[:MOST_TOGETHER]:
            more = posted.update.enclosed.files if posted.update.enclosed else ()
            if together and more and not self._control_plane.encloses([*files, *more]):
                break
            together.append(posted)
            files += more
        return together

    def _send_together(self, together: Sequence[Posted]) -> bool:
        """Whether all of them were heard, in one exchange."""
        try:
            heard = self._control_plane.report_together([posted.update for posted in together])
        except TransientError as error:
            if error.http_status != INTERNAL_SERVER_ERROR:
                raise
            return False  # it may have broken over one of them
        except AuthError:
            raise
        except RejectedError:
            return False  # too long together, or by now there is no such call
        if heard is None:
            return False
        refused: set[str] = set()
        for posted, why in zip(together, heard, strict=True):
            if posted.update.job_id in refused:
                continue
            # It may be a file that is refused; and a canceled job keeps its files.
            is_apart = why is not None and posted.update.enclosed is not None and not isinstance(why, AuthError)
            if not self._settle(posted, self._send(posted) if is_apart else why):
                refused.add(posted.update.job_id)
        return True

    def _send_each(self, waiting: Sequence[Posted], stuck: set[str]) -> TransientError | None:
        broken: TransientError | None = None
        refused: set[str] = set()
        for posted in waiting:
            if (job_id := posted.update.job_id) in stuck | refused:
                continue
            try:
                if not self._settle(posted, self._send(posted)):
                    refused.add(job_id)
            except TransientError as error:
                if error.http_status != INTERNAL_SERVER_ERROR:
                    raise  # nobody is there, or asks for patience: so it would be for the next one
                broken = error
                stuck.add(job_id)
        return broken

    def _send(self, posted: Posted) -> RejectedError | None:
        """*posted* by itself; files first, since none can go with it so."""
        if (enclosed := posted.update.enclosed) is not None:
            self._store(enclosed)
        try:
            self._control_plane.report(replace(posted.update, enclosed=None))
        except RejectedError as error:
            return error
        return None

    def _store(self, enclosed: Enclosed) -> None:
        """Each as far as the control plane takes it: what is missing then, the word is refused for."""
        claim = enclosed.claim
        for file in enclosed.files:
            try:
                self._control_plane.upload(claim, file)
            except (AuthError, TransientError, ProtocolError):
                raise
            except (RejectedError, UploadError) as error:
                self._log.warning(
                    "outbox.file_refused",
                    job_id=claim.job.id,
                    attempt=claim.attempt,
                    file=file.name,
                    error=str(error),
                )

    def _settle(self, posted: Posted, refused: RejectedError | None) -> bool:
        """Note what became of it; False when nothing more of its attempt will be taken."""
        update = posted.update
        about = {"job_id": update.job_id, "attempt": update.attempt, "status": update.status.value}
        if isinstance(refused, AuthError):
            raise refused
        if refused is not None:
            self._outbox.refused(posted, str(refused))
            self._held_jobs.said(update.job_id, update.attempt)
            self._log.warning("outbox.refused", **about, http_status=refused.http_status, error=str(refused))
            held = self._held_jobs.find(update.job_id)
            if held is not None and held.claim.attempt == update.attempt:
                held.ask_to_stop(StopReason.LEASE_LOST)
            return False
        self._outbox.delivered(posted)
        if update.enclosed is not None:
            self._tell_of_files(update.enclosed)
        if not LIFECYCLE[update.status].is_held:
            self._held_jobs.said(update.job_id, update.attempt)
        self._log.debug("outbox.delivered", **about, posted_at=posted.posted_at)
        return True

    def _tell_of_files(self, enclosed: Enclosed) -> None:
        job, attempt = enclosed.claim.job, enclosed.claim.attempt
        log = self._log.bind(job_id=job.id, job_type=job.job_type, attempt=attempt)
        for file in enclosed.files:
            log.info("job.file_uploaded", file=file.name, size_bytes=file.size_bytes)
