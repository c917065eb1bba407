"""What a crash or a lost lease left for this start to go on with."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Final

from overmind_agent.jobs import Claim, Job

# So many times a key may be answered with nonsense, before what it brings is left to whoever can read it.
UNREADABLE_TRIES: Final = 3
# So many times a job may meet a bug of ours; then its lease runs out, and the control plane counts the attempt.
BROKEN_TRIES: Final = 3

Interrupted = Claim | tuple[Job, str]


class InterruptedWork:
    """
    What a crash or a lost lease left: claims to go on with, and claims whose answer never came.

    Args:
        ended_by: what ended the start that left *found*, as `last_life` says it.
        ends: by job and attempt, how often this agent has ended in the midst of its work.
        suspects: by job and attempt, those that are to be gone on with one by one, and nothing else beside them.
        on_probe: told of each of these when it begins, and None when it is over.
    """

    def __init__(
        self,
        found: Iterable[Interrupted],
        ended_by: str = "unknown",
        ends: Mapping[tuple[str, int], int] | None = None,
        *,
        suspects: Collection[tuple[str, int]] = (),
        on_probe: Callable[[Claim | None], object] = lambda _claim: None,
    ) -> None:
        self._ends = ends or {}
        self._suspects = set(suspects)
        self._on_probe = on_probe
        self._waiting = deque(found)
        self._ended_by = {_job_id(piece): ended_by for piece in self._waiting}
        self._unreadable: Counter[str] = Counter()
        self._broken: Counter[tuple[str, int]] = Counter()

    def take(self) -> Interrupted | None:
        """The next piece; each is given to one worker."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def put(self, piece: Interrupted) -> None:
        """It could not be resolved now."""
        self._waiting.append(piece)

    def may_ask_again(self, key: str) -> bool:
        """Whether under *key*, which was answered with what cannot be read; False when that was so too often."""
        self._unreadable[key] += 1
        return self._unreadable[key] < UNREADABLE_TRIES

    def put_broken(self, claim: Claim) -> bool:
        """As `put`, after a bug of ours; False when that was so too often."""
        self._broken[claim.job.id, claim.attempt] += 1
        if self._broken[claim.job.id, claim.attempt] >= BROKEN_TRIES:
            return False
        self.put(claim)
        return True

    def ends(self, claim: Claim) -> int:
        """How often this agent has ended in the midst of its work, and it is gone on with."""
        return self._ends.get((claim.job.id, claim.attempt), 0)

    def is_suspect(self, piece: Interrupted) -> bool:
        """Whether *piece* is to be gone on with by itself."""
        return isinstance(piece, Claim) and (piece.job.id, piece.attempt) in self._suspects

    def suspects_wait(self) -> bool:
        """Whether some are still to be gone on with one by one."""
        return any(map(self.is_suspect, tuple(self._waiting)))

    def probe(self, claim: Claim, seats: ExitStack) -> None:
        """A suspect is at work until *seats* is closed: should the agent end meanwhile, it is on disk which one."""
        self._on_probe(claim)
        self._suspects.discard((claim.job.id, claim.attempt))
        seats.callback(self._on_probe, None)

    def cause(self, job_id: str) -> str:
        """What interrupted that job: how the last start ended, or something in this one."""
        return self._ended_by.pop(job_id, "lease_lost")

    def __len__(self) -> int:
        return len(self._waiting)


def _job_id(piece: Interrupted) -> str:
    return piece.job.id if isinstance(piece, Claim) else piece[0].id
