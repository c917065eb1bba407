"""The jobs that this agent holds now: where the threads that know something about a job meet."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from overmind_agent.jobs import Claim, Held, Lease, Progress, StopReason
from overmind_agent.ports import Clock

# What must be left of a lease for the work to be stopped and its processes to be gone before it ends.
MARGIN_S: Final = 10.0
# Steps of a search that wait to be told; what is beyond that comes with the outcome.
MOST_UNTOLD: Final = 100
# Of all jobs in one heartbeat, as they are sent: letters beyond ASCII escaped.
MOST_TOLD_BYTES: Final = 200_000


class HeldJob:
    """
    One held job: its claim, how far it is, and whether its work should end.

    The first reason to stop wins: a job that was canceled does not become one that timed out. A lease that was
    not renewed in time is such a reason, too, and needs no server and no other thread to be noticed.

    Args:
        claimed_at_s: on *clock*, when the claim was sent.
    """

    def __init__(self, claim: Claim, clock: Clock, *, claimed_at_s: float) -> None:
        self.claim = claim
        self.progress: Progress | None = None
        self._untold: deque[tuple[Mapping[str, Any], int]] = deque(maxlen=MOST_UNTOLD)
        self._clock = clock
        self._reason: StopReason | None = None
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._claimed_at_s = claimed_at_s
        self._fenced_at_s = math.inf
        self.renew(claim.lease, sent_at_s=claimed_at_s)

    def renew(self, lease: Lease | None, *, sent_at_s: float) -> None:
        """
        Work on until shortly before *lease* ends.

        A lease counts from when we asked for it, since we cannot know when the server began to count.
        """
        if lease is not None:
            self._fenced_at_s = sent_at_s + lease.ttl_s - min(MARGIN_S, lease.ttl_s / 6)

    def ask_to_stop(self, reason: StopReason) -> None:
        """Wish that the work end, for *reason*."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
                self._asked.set()

    def add_iteration(self, fields: Mapping[str, Any]) -> None:
        """A step of the job's search, to be told with the next heartbeats."""
        self._untold.append((fields, len(json.dumps(fields))))

    def untold(self, room_bytes: int) -> tuple[tuple[Mapping[str, Any], ...], int]:
        """As many of the steps not told yet as *room_bytes* hold, oldest first; and how much room is left."""
        found = []
        for fields, size_bytes in self._untold.copy():
            if size_bytes > room_bytes:
                break
            room_bytes -= size_bytes
            found.append(fields)
        return tuple(found), room_bytes

    def told(self, iterations: Sequence[Mapping[str, Any]]) -> None:
        """The control plane has them. Called by the thread that asked for `untold`."""
        for one in iterations:
            with self._lock:
                if self._untold and self._untold[0][0] is one:
                    self._untold.popleft()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the work should end, None as long as it should not."""
        if self._reason is None and self._clock.now_s() >= self._fenced_at_s:
            self.ask_to_stop(StopReason.LEASE_LOST)
        return self._reason

    @property
    def asked_to_stop(self) -> StopReason | None:
        """As `stop_reason`, but nothing more than what was asked: for whoever only looks."""
        return self._reason

    @property
    def held_s(self) -> float:
        """Seconds since the claim was sent."""
        return self._clock.now_s() - self._claimed_at_s

    @property
    def lease_left_s(self) -> float | None:
        """Seconds until the work must end unless its lease is renewed; None without a lease."""
        return None if math.isinf(self._fenced_at_s) else self._fenced_at_s - self._clock.now_s()

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until the work should end; returns whether it should."""
        until_fence_s = self._fenced_at_s - self._clock.now_s()
        self._clock.wait(self._asked, min(seconds, until_fence_s))
        return self.stop_reason is not None


class HeldJobs:
    """
    All held jobs, by id. Safe to use from any thread.

    Attributes:
        has_new: set when a job is held that was not before. Whoever looks at all of them clears it first.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, HeldJob] = {}
        self._kept: dict[str, HeldJob] = {}
        self._unwanted: dict[str, StopReason] = {}
        self._changed = threading.Condition()
        self.has_new = threading.Event()

    @contextmanager
    def holding(self, held: HeldJob, *, is_said: Callable[[], bool] = lambda: True) -> Iterator[HeldJob]:
        """
        Heartbeats name *held* until the block ends, and after it as long as it is to be gone on with, or its last
        word waits to be delivered: a lease that ran out meanwhile would give a finished job to somebody else.

        Args:
            is_said: whether nothing more comes of it; asked at the end of the block. Later `said` tells.
        """
        job_id = held.claim.job.id
        with self._changed:
            self._jobs[job_id] = held
            if (reason := self._unwanted.pop(job_id, None)) is not None:
                held.ask_to_stop(reason)
            self._kept.pop(job_id, None)
            self._changed.notify_all()
            self.has_new.set()
        try:
            yield held
        finally:
            with self._changed:
                self._kept[job_id] = self._jobs.pop(job_id)
                self._changed.notify_all()
            # After it was noted, so that a delivery at this very moment is seen here or takes it out itself.
            if is_said():
                self.said(job_id, held.claim.attempt)

    def keep(self, claims: Iterable[Claim], clock: Clock) -> None:
        """Heartbeats name *claims*, which an earlier start has left, until they are held again, or `said`."""
        with self._changed:
            for claim in claims:
                self._kept[claim.job.id] = HeldJob(claim, clock, claimed_at_s=clock.now_s())
            self._changed.notify_all()

    def said(self, job_id: str, attempt: int) -> None:
        """Nothing more comes about *attempt*: its last word was delivered or refused, or it is no longer ours."""
        with self._changed:
            kept = self._kept.get(job_id)
            if kept is not None and kept.claim.attempt == attempt:
                del self._kept[job_id]

    def all(self) -> tuple[HeldJob, ...]:
        """The held jobs, oldest first."""
        with self._changed:
            return tuple(self._jobs.values())

    def leased(self) -> tuple[HeldJob, ...]:
        """The jobs whose leases are to be kept: held, waiting for a slot, or with a last word on its way."""
        with self._changed:
            return (*self._jobs.values(), *self._kept.values())

    def find(self, job_id: str) -> HeldJob | None:
        """The held job of that id."""
        with self._changed:
            return self._jobs.get(job_id)

    def ask_to_stop(self, job_id: str, reason: StopReason) -> StopReason | None:
        """
        Wish that the work on that job end, now or as soon as it is held: one that a crash left waits for its slot.

        Returns:
            Why it ends: *reason*, or what was asked before. None for a job that is not held yet.
        """
        with self._changed:
            if (held := self._jobs.get(job_id)) is None:
                self._unwanted[job_id] = reason
                return None
        held.ask_to_stop(reason)
        return held.asked_to_stop

    def lines(self) -> tuple[Held, ...]:
        """What a heartbeat says of them."""
        lines, room_bytes = [], MOST_TOLD_BYTES
        for held in self.leased():
            steps, room_bytes = held.untold(room_bytes)
            lines.append(Held(held.claim.job.id, held.claim.attempt, held.progress, steps))
        return tuple(lines)

    def told(self, lines: Sequence[Held]) -> None:
        """The control plane has heard *lines*."""
        steps = {(line.job_id, line.attempt): line.iterations for line in lines}
        for held in self.leased():
            held.told(steps.get((held.claim.job.id, held.claim.attempt), ()))

    def wait_for_any(self, timeout_s: float) -> bool:
        """Wait until a lease is to be kept, at most *timeout_s* seconds or until `wake`; returns whether one is."""
        with self._changed:
            if not self._jobs and not self._kept:
                self._changed.wait(timeout_s)
            return bool(self._jobs or self._kept)

    def wake(self) -> None:
        """End all waits."""
        with self._changed:
            self._changed.notify_all()
            self.has_new.set()

    def ask_all_to_stop(self, reason: StopReason) -> None:
        """Wish that all work end."""
        for held in self.all():
            held.ask_to_stop(reason)
