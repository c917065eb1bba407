"""
What must hold of every history, whatever was killed, frozen, lost or said twice: twelve rules, I1 to I12.

I1 to I7 are about safety. I8 and I9 find what safety alone does not: a heartbeat that does not beat and a journal
that is not read cost no result, only work, and show as work that nobody's misfortune explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.testing.history import EXPIRED, Disturbance, Event, History

# A lease may run out this long after its holder was disturbed: it had just been renewed.
AFTERMATH_S: Final = 20.0
RESUMED: Final = 0.95


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold: its name, whom it is about (a job mostly), and what was seen."""

    rule: str
    whom: str
    seen: str

    def __str__(self) -> str:
        return f"{self.rule} {self.whom}: {self.seen}"


Seen = Iterator[tuple[str, str]]


def violations(history: History, *rules: str) -> list[Violation]:
    """All violations of *rules*, or of every rule."""
    return [Violation(rule, whom, seen) for rule in rules or INVARIANTS for whom, seen in INVARIANTS[rule](history)]


def _everything_ends(history: History) -> Seen:
    by_job = history.by_job()
    for job_id in history.jobs:
        last = by_job[job_id][-1].status if job_id in by_job else None
        if last is None or not LIFECYCLE[last].is_final:
            yield job_id, f"is {last} at the end"


def _ends_once(history: History) -> Seen:
    for job_id, events in history.by_job().items():
        finals = [number for number, event in enumerate(events) if LIFECYCLE[event.status].is_final]
        if finals and finals != [len(events) - 1]:
            yield job_id, f"goes on after its end: {[event.status.value for event in events]}"


def _goes_legal_ways(history: History) -> Seen:
    for job_id, events in history.by_job().items():
        before = Status.CREATED
        for event in events:
            if event.status not in LIFECYCLE[before].next:
                yield job_id, f"from {before.value} to {event.status.value}"
            before = event.status


def _attempts_grow(history: History) -> Seen:
    for job_id, events in history.by_job().items():
        attempt, is_held = 0, False
        for event in events:
            if event.status is Status.CLAIMED:
                if event.attempt <= attempt:
                    yield job_id, f"attempt {event.attempt} is granted after {attempt}"
                if is_held:
                    yield job_id, f"attempt {event.attempt} is granted while {attempt} is held"
                attempt = event.attempt
            is_held = LIFECYCLE[event.status].is_held


def _only_the_holder_speaks(history: History) -> Seen:
    for job_id, events in history.by_job().items():
        holder: tuple[int, str | None] | None = None
        for event in events:
            if event.status is Status.CLAIMED:
                holder = (event.attempt, event.agent)
            elif holder and event.agent is not None and (event.attempt, event.agent) != holder:
                yield job_id, f"{event.status.value} of {(event.attempt, event.agent)} while {holder} holds it"
            if not LIFECYCLE[event.status].is_held:
                holder = None


def _each_key_grants_once(history: History) -> Seen:
    keys: dict[str, tuple[str, int]] = {}
    for grant in history.grants:
        if keys.setdefault(grant.key, (grant.job_id, grant.attempt)) != (grant.job_id, grant.attempt):
            yield grant.job_id, f"key {grant.key} was granted twice"
    granted = {(grant.job_id, grant.attempt) for grant in history.grants}
    if granted:
        for event in history.events:
            if event.status is Status.CLAIMED and (event.job_id, event.attempt) not in granted:
                yield event.job_id, f"attempt {event.attempt} was granted without its key being kept"


def _completed_is_whole(history: History) -> Seen:
    there = {(file.job_id, file.name, file.sha256) for file in history.stored}
    made = {(effect.job_id, effect.sha256) for effect in history.effects if effect.what == "ended"}
    for file in history.stored:
        if file.found_sha256 != file.sha256:
            yield file.job_id, f"{file.name} is said to be {file.sha256}, and is {file.found_sha256}"
    for job_id, events in history.by_job().items():
        if events[-1].status is not Status.COMPLETED:
            continue
        declared = [event for event in events if event.status is Status.UPLOADING and event.declared]
        if not declared or declared[-1].attempt != events[-1].attempt:
            yield job_id, "is completed, and its last attempt declared no file"
            continue
        for name, sha256 in sorted(declared[-1].declared):
            if (job_id, name, sha256) not in there:
                yield job_id, f"is completed without {name}"
        digests = {sha256 for _, sha256 in declared[-1].declared}
        if history.effects and not any((job_id, sha256) in made for sha256 in digests):
            yield job_id, "is completed with a file that no executor made"


def _trouble_is_explained(history: History) -> Seen:
    for job_id, events in history.by_job().items():
        holder: str | None = None
        for event in events:
            if event.status is Status.CLAIMED:
                holder = event.agent
            elif event.status is Status.PENDING and (event.message or "").startswith(EXPIRED):
                name = history.agents.get(holder or "", holder or "")
                if not history.is_noisy and not _is_disturbed(history, name, event.at_s):
                    yield job_id, f"the lease of {name} ran out, and nothing had happened to it"
    begun: dict[tuple[str, int], float] = {}
    for effect in history.effects:
        if effect.what != "begun":
            continue
        before_s = begun.get((effect.job_id, effect.attempt))
        begun[effect.job_id, effect.attempt] = effect.at_s
        if before_s is not None and not _is_disturbed(history, effect.where, effect.at_s, since_s=before_s):
            yield (
                effect.job_id,
                f"attempt {effect.attempt} was begun twice on {effect.where}, and nothing had happened",
            )


def _is_disturbed(history: History, name: str, at_s: float, *, since_s: float | None = None) -> bool:
    from_s = at_s - AFTERMATH_S if since_s is None else since_s
    return any(d.whom in (name, "server") and d.at_s <= at_s and d.until_s >= from_s for d in history.disturbances)


def _work_is_resumed(history: History) -> Seen:
    uploading: dict[tuple[str, int], float] = {}
    for event in history.events:
        if event.status is Status.UPLOADING:
            uploading[event.job_id, event.attempt] = event.at_s
    for effect in history.effects:
        if effect.what == "begun" and effect.at_s > uploading.get((effect.job_id, effect.attempt), effect.at_s):
            yield effect.job_id, f"attempt {effect.attempt} was begun anew when its result was there"
    kept = [_goes_on(history.of(job_id), event) for job_id, event in _held_when_killed(history)]
    if kept and sum(kept) < RESUMED * len(kept):
        yield "all", f"of {len(kept)} jobs whose agent was killed, {sum(kept)} went on as the same attempt"


def _held_when_killed(history: History) -> Iterator[tuple[str, Event]]:
    """The last event before the kill, for each job that a killed agent held."""
    kills = [d for d in history.disturbances if d.kind == "kill" and d.whom != "server"]
    for job_id, events in history.by_job().items():
        for before, after in zip(events, [*events[1:], None], strict=True):
            name = history.agents.get(before.agent or "", before.agent)
            ends_s = after.at_s if after else float("inf")
            if LIFECYCLE[before.status].is_held and any(
                kill.whom == name and before.at_s < kill.at_s < ends_s for kill in kills
            ):
                yield job_id, before


def _goes_on(events: list[Event], held: Event) -> bool:
    return not any(event.status is Status.CLAIMED and event.attempt > held.attempt for event in events)


def _nothing_is_left(history: History) -> Seen:
    yield from ((what, "is left over") for what in history.left_over)


def _it_settles(history: History) -> Seen:
    if history.calm_at_s is None:
        return
    for event in history.events:
        if event.at_s > history.calm_at_s + history.settle_s:
            yield (
                event.job_id,
                f"{event.status.value} came {event.at_s - history.calm_at_s:.1f} s after all was calm",
            )


def _no_secret_is_told(history: History) -> Seen:
    yield from ((where, "has a secret in it") for where in history.leaks)


def disturbed(kind: str, whom: str, at_s: float, *, lasting_s: float = 0.0) -> Disturbance:
    """A disturbance that lasted so long."""
    return Disturbance(kind, whom, at_s, at_s + lasting_s)


INVARIANTS: Final[Mapping[str, Callable[[History], Seen]]] = MappingProxyType(
    {
        "I1": _everything_ends,  # every job is final at the end
        "I2": _ends_once,  # nothing follows a final status
        "I3": _goes_legal_ways,  # every step is one of the life of a job
        "I4": _attempts_grow,  # and none is granted while another is held
        "I5": _only_the_holder_speaks,  # each word has the present attempt and its agent
        "I6": _each_key_grants_once,  # no idempotency key takes effect twice
        "I7": _completed_is_whole,  # declared files are there, as the executor made them
        "I8": _trouble_is_explained,  # each lost lease and each second run has a disturbance before it
        "I9": _work_is_resumed,  # killed agents go on as the same attempt; what has a result is never run again
        "I10": _nothing_is_left,  # no process, no undelivered status, no temporary file
        "I11": _it_settles,  # once it is calm everything ends soon
        "I12": _no_secret_is_told,  # the canary is nowhere
    }
)
