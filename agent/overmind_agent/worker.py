"""
The first room: a worker asks for a job, claims it, hands it to JobRun, and asks again.

A job that an earlier run of this agent was at comes first: the control plane is asked whether it is still ours, and
then it is gone on with.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.backoff import insist
from overmind_agent.errors import (
    AuthError,
    BrokenJob,
    ClaimLost,
    JournalError,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    TransientError,
)
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.capacity import Capacity, Seat
from overmind_agent.interrupted import Interrupted, InterruptedWork
from overmind_agent.jobs import Claim, Directive, Ended, Held, Job, NoJob, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Clock, ControlPlane, Journal

CLAIM_TRIES: Final = 3
# Between two signs of life of a worker whose turn to ask has not come.
TURN_S: Final = 1.0
DRAINING: Final = "draining"
# What was granted before is settled, and the question with it.
AGAIN: Final = NoJob("the next question is another")
MOST_QUESTIONS: Final = 10
"""Without a pause, when each is answered with what cannot be begun."""


class Worker:
    """
    One thread that runs one job at a time.

    Args:
        capacity: what fits beside the jobs of the other workers.
        job_run: runs a claimed job to its end, as JobRun does.
        job_types: what this host runs now; a job of another type is left for another agent.
        is_welcome: whether jobs of a project may run here; the others are left.
        refusal: why no job can be taken now, None when one can.
        poll_turn: held while a worker asks, so that idle workers ask one at a time.
        is_draining: whether no new job may be taken.
        only: the id of the one job that may be taken; None for any.
    """

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        journal: Journal,
        held_jobs: HeldJobs,
        interrupted: InterruptedWork,
        capacity: Capacity,
        job_run: Callable[[HeldJob], Ended],
        job_types: Callable[[], Collection[str]],
        is_welcome: Callable[[str | None], bool],
        refusal: Callable[[], str | None],
        poll_turn: threading.Lock,
        is_draining: Callable[[], bool],
        clock: Clock,
        log: FilteringBoundLogger,
        only: str | None = None,
    ) -> None:
        self._control_plane = control_plane
        self._journal = journal
        self._held_jobs = held_jobs
        self._interrupted = interrupted
        self._capacity = capacity
        self._job_run = job_run
        self._job_types = job_types
        self._is_welcome = is_welcome
        self._refusal = refusal
        self._poll_turn = poll_turn
        self._is_draining = is_draining
        self._clock = clock
        self._log = log
        self._only = only

    def step(self, *, wait_s: float) -> Ended | NoJob:
        """
        One job from the question to its end, or the news that there is none.

        Raises:
            ControlPlaneError, ProtocolError: the control plane could not be asked. Nothing is lost by trying again.
            JournalError: the disk does not take what must be written before a job may be run.
        """
        with ExitStack() as seats:
            held = self._resume(seats) or self._take(seats, wait_s)
            return held if isinstance(held, NoJob) else self._run(held)

    def _run(self, held: HeldJob) -> Ended:
        with self._held_jobs.holding(held, is_said=lambda: self._is_said(held.claim)):
            try:
                ended = self._job_run(held)
            except OvermindAgentError:
                self._interrupted.put(held.claim)  # about the agent, not the job
                raise
            except Exception:
                if not self._interrupted.put_broken(held.claim):
                    self._log.error("job.given_up", job_id=held.claim.job.id, attempt=held.claim.attempt)
                    self._journal.lose(held.claim)
                raise
        if ended.reason == StopReason.LEASE_LOST and self._is_still_held(held.claim):
            self._interrupted.put(held.claim)
        return ended

    def _is_said(self, claim: Claim) -> bool:
        """Whether nothing more comes of it: no word waits, and it is not to be gone on with."""
        return self._journal.last_fate(claim.job.id, claim.attempt) != "waiting" and not self._is_still_held(claim)

    def _is_still_held(self, claim: Claim) -> bool:
        """Not so after the control plane refused a status: what follows it would be refused as well."""
        return (claim.job.id, claim.attempt) in {(c.job.id, c.attempt) for c in self._journal.held()}

    # ------------------------------------------------------------------------------------ going on

    def _resume(self, seats: ExitStack) -> HeldJob | None:
        for _ in range(len(self._interrupted)):
            if (piece := self._interrupted.take()) is None:
                return None
            job = piece.job if isinstance(piece, Claim) else piece[0]
            is_suspect = self._interrupted.is_suspect(piece)
            if (seat := self._capacity.take(job.job_type, alone=is_suspect)) is None:
                self._interrupted.put(piece)
                continue
            with self._only_if_held(seat, seats) as keep:
                if (held := self._resolve(piece)) is not None:
                    if is_suspect:
                        self._probe(held.claim, seats)
                    keep()
                    after = self._interrupted.cause(job.id)
                    self._log.info("job.resumed", job_id=job.id, attempt=held.claim.attempt, after=after)
                    return held
        return None

    def _probe(self, claim: Claim, seats: ExitStack) -> None:
        try:
            self._interrupted.probe(claim, seats)
        except JournalError:
            self._interrupted.put(claim)  # a suspect as before: it does not begin before that is on disk
            raise

    def _resolve(self, piece: Interrupted) -> HeldJob | None:
        try:
            return self._ask_for(piece) if isinstance(piece, Claim) else self._claim(*piece)
        except ProtocolError as error:
            self._set_aside(piece, error)
            return None
        except OvermindAgentError:
            self._interrupted.put(piece)  # whether it was granted is asked before anything else is
            raise

    @staticmethod
    @contextmanager
    def _only_if_held(seat: Seat, seats: ExitStack) -> Iterator[Callable[[], object]]:
        """*seat* is refunded, unless the block calls what it is given: then *seats* sees to its end."""
        with ExitStack() as unless_kept:
            unless_kept.callback(seat.refund)

            def keep() -> None:
                unless_kept.pop_all()
                seats.callback(seat.leave)

            yield keep

    def _ask_for(self, claim: Claim) -> HeldJob | None:
        """*claim* again, if the control plane says that it still holds."""
        asked_at_s = self._clock.now_s()
        line = Held(claim.job.id, claim.attempt, ends=self._interrupted.ends(claim))
        orders = self._control_plane.heartbeat([line], draining=self._is_draining(), wait_s=0)
        directive = orders.directives.get(claim.job.id)
        if directive is not Directive.CONTINUE:
            self._journal.lose(claim)
            self._held_jobs.said(claim.job.id, claim.attempt)
            self._log.info("job.lost", job_id=claim.job.id, attempt=claim.attempt, directive=directive)
            return None
        held = HeldJob(claim, self._clock, claimed_at_s=asked_at_s)
        held.renew(orders.leases.get(claim.job.id), sent_at_s=asked_at_s)
        return held

    # ------------------------------------------------------------------------------------ a new one

    def _take(self, seats: ExitStack, wait_s: float) -> HeldJob | NoJob:
        with self._turn():
            refused: set[str] = set()
            for _ in range(MOST_QUESTIONS):
                if self._is_draining():
                    return NoJob(DRAINING)
                if self._interrupted.suspects_wait():
                    return NoJob("jobs that ended this agent together go on one by one")
                if (refusal := self._refusal()) is not None:
                    return NoJob(refusal)
                try:
                    found = self._ask(wait_s)
                except BrokenJob as broken:
                    self._refuse(broken, str(uuid.uuid4()))
                    continue
                if found is AGAIN:
                    continue
                if isinstance(found, NoJob):
                    return found
                held = self._seated(found, refused, seats)
                if held is not None:
                    return held
        return NoJob("offered nothing that can be begun")

    def _seated(self, found: Job | HeldJob, refused: set[str], seats: ExitStack) -> HeldJob | NoJob | None:
        """*found* with room kept for it; None when it was not to be had, or the daemon drains."""
        job = found.claim.job if isinstance(found, HeldJob) else found
        why_not = self._why_not(job, refused) or (DRAINING if self._is_draining() else None)
        if why_not is None and (seat := self._capacity.take(job.job_type)) is not None:
            with self._only_if_held(seat, seats) as keep:
                held = found if isinstance(found, HeldJob) else self._claim_new(found)
                if held is not None:
                    keep()
                    self._capacity.turns.began()
            refused.add(job.id)
            return held
        why_not = why_not or f"offered a job of type {job.job_type!r}, for which no slot is free"
        if isinstance(found, HeldJob):
            self._give_back(found.claim, why_not)
        return NoJob(why_not)

    def _why_not(self, job: Job, refused: Collection[str]) -> str | None:
        """Why a job that was offered cannot be taken, though it was asked for: that may have been a while ago."""
        if (refusal := self._refusal()) is not None:
            return refusal
        if job.job_type not in self._job_types():
            return f"offered a job of type {job.job_type!r}, which this host does not run"
        if not self._is_welcome(job.project):
            return self._unwelcome(job)
        return "offered only a job that it then refuses" if job.id in refused else None

    def _give_back(self, claim: Claim, why: str) -> None:
        """It was granted before this host could say no."""
        reason = StopReason.AGENT_STOPPING.value if why == DRAINING else "not_accepting"
        try:
            self._journal.post(claim, Status.PENDING, message=f"released: {why}", detail={"reason": reason})
        except JournalError:
            self._interrupted.put(claim)
            raise
        self._log.info("job.given_back", job_id=claim.job.id, attempt=claim.attempt, reason=reason, message=why)

    def _ask(self, wait_s: float) -> Job | HeldJob | NoJob:
        """A job of a type that fits beside what runs; but heavier ones have their turn, too."""
        job_types = frozenset(self._job_types())
        if not (fitting := self._capacity.fitting(job_types)) and self._capacity.turns.kept is None:
            return NoJob("no slot is free")
        if self._only is not None:
            return self._control_plane.find_job(self._only)
        if self._capacity.turns.is_due(fitting, job_types) and (offer := self._ask_for_heavy(fitting)):
            return offer
        if (kept := self._capacity.turns.kept) is not None:
            return NoJob(f"room is kept for a job of type {kept!r}")
        asked = fitting if fitting != job_types else None
        granted = self._next_claim(wait_s, asked)
        return self._control_plane.next_job(wait_s=wait_s, job_types=asked) if granted is None else granted

    def _ask_for_heavy(self, fitting: Collection[str]) -> Job | NoJob | None:
        """The first job of all, if it fits; None when there is none, or when its room is kept from now on."""
        turns = self._capacity.turns
        offer = self._control_plane.next_job(wait_s=0, job_types=None if turns.kept is None else {turns.kept})
        if isinstance(offer, Job) and offer.job_type in set(self._job_types()) - set(fitting):
            turns.keep(offer.job_type)
            return None
        turns.forget()
        return offer if isinstance(offer, Job) or offer.is_replaced else None

    def _next_claim(self, wait_s: float, job_types: Collection[str] | None) -> HeldJob | NoJob | None:
        """
        What the control plane grants in one exchange; None where it does not.

        The key is on disk before it is sent, and stays the same until its grant is known: an answer that is lost is
        heard when the next question is asked, by this start or another one. A key that is answered with nonsense
        again and again is given up, and a grant that may be behind it runs out: nothing else could be asked for.
        """
        key = self._journal.claim_key()
        try:
            return self._ask_under(key, wait_s, job_types)
        except ProtocolError as error:
            if not self._interrupted.may_ask_again(key):
                self._journal.spend(key)
                self._log.error("claim.given_up", error=str(error))
            raise

    def _ask_under(self, key: str, wait_s: float, job_types: Collection[str] | None) -> HeldJob | NoJob | None:
        sent_at_s = self._clock.now_s()
        try:
            found = self._control_plane.next_claim(key=key, wait_s=wait_s, job_types=job_types)
        except ClaimLost:
            self._journal.spend(key)
            return AGAIN
        except BrokenJob as broken:
            self._refuse(broken, key)
            self._journal.spend(key)
            return AGAIN
        except TransientError:
            if self._is_draining():
                self._recall(key)
            raise
        return self._held(found, key, sent_at_s) if isinstance(found, Claim) else found

    def _recall(self, key: str) -> None:
        """The last question was cut short: what it brought all the same is given back."""
        sent_at_s = self._clock.now_s()
        found = self._control_plane.next_claim(key=key, wait_s=0, job_types=())
        if isinstance(found, Claim) and isinstance(held := self._held(found, key, sent_at_s), HeldJob):
            self._give_back(held.claim, DRAINING)

    def _held(self, claim: Claim, key: str, sent_at_s: float) -> HeldJob | NoJob:
        """*claim*, from now on in the journal."""
        job = claim.job
        if not self._journal.hold(claim, key=key):
            self._journal.spend(key)
            self._log.warning("job.granted_again", job_id=job.id, attempt=claim.attempt)
            return AGAIN
        self._log.info("job.claimed", job_id=job.id, job_type=job.job_type, attempt=claim.attempt)
        waited_s = claim.lease.waited_s if claim.lease else 0.0
        return HeldJob(claim, self._clock, claimed_at_s=min(self._clock.now_s(), sent_at_s + waited_s))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        while not self._poll_turn.acquire(timeout=TURN_S):
            self._clock.now_s()
        try:
            yield
        finally:
            self._poll_turn.release()

    def _unwelcome(self, job: Job) -> str:
        """A server that knows this agent's projects does not offer such a job: somebody should look."""
        why = f"it is of project {(job.project or 'none')[:64]!r}, which policy.projects does not name"
        self._log.error("job.refused", job_id=job.id, reason="wrong_project", message=why)
        return f"offered a job that may not run here: {why}"

    def _refuse(self, broken: BrokenJob, key: str) -> None:
        self._log.error("job.refused", job_id=broken.job_id, reason="invalid_job", message=str(broken))
        try:
            self._control_plane.refuse(broken.job_id, key=key, reason="invalid_job", message=str(broken))
        except RejectedError as error:
            raise ProtocolError(f"a job that cannot be read is offered, and not taken back: {error}") from error

    def _set_aside(self, piece: Interrupted, error: ProtocolError) -> None:
        """An answer about *piece* was nonsense: it is asked about again later, and others are not held up."""
        if isinstance(piece, Claim):
            self._interrupted.put(piece)
            return
        job, key = piece
        if self._interrupted.may_ask_again(key):
            self._interrupted.put(piece)
        else:
            self._journal.not_granted(job.id)
            self._log.error("job.not_granted", job_id=job.id, error=str(error))

    def _claim_new(self, offer: Job) -> HeldJob | None:
        key = str(uuid.uuid4())
        try:
            return self._claim(offer, key)
        except ProtocolError as error:
            self._set_aside((offer, key), error)
            return None
        except OvermindAgentError:
            self._interrupted.put((offer, key))
            raise

    def _claim(self, job: Job, key: str) -> HeldJob | None:
        """*job*, or None when somebody else was quicker. The intention is on disk before the question is asked."""
        self._journal.intend(job, key)
        sent_at_s = self._clock.now_s()
        try:
            claim = insist(
                lambda: self._control_plane.claim(job, key=key),
                sleep=self._clock.sleep,
                stop=lambda state: state.attempt_number >= CLAIM_TRIES,
                on_retry=lambda error, wait_s: self._log.warning(
                    "control_plane.retry_scheduled", job_id=job.id, error=str(error), wait_s=round(wait_s, 1)
                ),
            )
        except AuthError:
            raise
        except RejectedError as error:
            self._journal.not_granted(job.id)
            say = self._log.debug if isinstance(error, ClaimLost) else self._log.error
            say("job.not_granted", job_id=job.id, http_status=error.http_status, error=str(error))
            return None
        if not self._journal.hold(claim):
            self._log.warning("job.granted_again", job_id=job.id, attempt=claim.attempt)
            return None
        self._log.info("job.claimed", job_id=job.id, job_type=job.job_type, attempt=claim.attempt)
        return HeldJob(claim, self._clock, claimed_at_s=sent_at_s)
