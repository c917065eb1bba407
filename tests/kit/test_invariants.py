"""Each rule about histories finds the history that breaks it, and a good one breaks none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overmind_agent.lifecycle import Status
from overmind_agent.testing.history import EXPIRED, Disturbance, Effect, Event, Grant, History, Stored
from overmind_agent.testing.invariants import INVARIANTS, violations

JOB, ONE, TWO = "job", "agent-1", "agent-2"
DIGEST, OTHER = "a" * 64, "b" * 64


def event(status: Status, attempt: int, agent: str | None, at_s: float, message: str | None = None) -> Event:
    declared = frozenset({("output.bin", DIGEST)}) if status is Status.UPLOADING else frozenset()
    return Event(JOB, status, attempt, agent, at_s, message, declared)


def begun(attempt: int, where: str, at_s: float) -> Effect:
    return Effect(JOB, attempt, "begun", where, at_s)


# The first agent was frozen for longer than its lease; the second one took over and was killed once on the way.
GOOD = History(
    jobs=[JOB],
    events=[
        event(Status.PENDING, 0, None, 0),
        event(Status.CLAIMED, 1, ONE, 1),
        event(Status.VALIDATING, 1, ONE, 2),
        event(Status.RUNNING, 1, ONE, 3),
        event(Status.PENDING, 1, ONE, 9, EXPIRED),
        event(Status.CLAIMED, 2, TWO, 10),
        event(Status.VALIDATING, 2, TWO, 11),
        event(Status.RUNNING, 2, TWO, 12),
        event(Status.UPLOADING, 2, TWO, 20),
        event(Status.COMPLETED, 2, TWO, 21),
    ],
    stored=[Stored(JOB, "output.bin", DIGEST, DIGEST)],
    effects=[
        begun(1, "one", 3),
        begun(2, "two", 12),
        begun(2, "two", 15),
        Effect(JOB, 2, "ended", "two", 19, DIGEST),
    ],
    disturbances=[Disturbance("freeze", "one", 4, 10), Disturbance("kill", "two", 14, 14)],
    grants=[Grant(JOB, 1, "key-1"), Grant(JOB, 2, "key-2")],
    agents={ONE: "one", TWO: "two"},
    calm_at_s=14,
    settle_s=10,
)


def changed(number: int, **changes: object) -> list[Event]:
    """The events of GOOD, one of them otherwise."""
    events = list(GOOD.events)
    events[number] = replace(events[number], **changes)  # type: ignore[arg-type]
    return events


def with_one_more(new: Event, at: int | None = None) -> list[Event]:
    """The events of GOOD and another, before that number or at the end."""
    events = list(GOOD.events)
    events.insert(len(events) if at is None else at, new)
    return events


BAD: list[tuple[str, str, History]] = [
    ("I1", "a job that has no end", replace(GOOD, events=GOOD.events[:-1])),
    ("I1", "a job that nobody knows of", replace(GOOD, jobs=[JOB, "another"])),
    ("I2", "a second end", replace(GOOD, events=with_one_more(event(Status.FAILED, 2, TWO, 22)))),
    ("I3", "a status left out", replace(GOOD, events=[*GOOD.events[:6], *GOOD.events[7:]])),
    ("I4", "an attempt that counts down", replace(GOOD, events=changed(5, attempt=1))),
    ("I4", "a claim of a held job", replace(GOOD, events=[*GOOD.events[:4], *GOOD.events[5:]])),
    ("I5", "a word of another agent", replace(GOOD, events=changed(8, agent=ONE))),
    ("I5", "a word of an older attempt", replace(GOOD, events=changed(8, attempt=1))),
    ("I6", "a key for two attempts", replace(GOOD, grants=[Grant(JOB, 1, "key-1"), Grant(JOB, 2, "key-1")])),
    ("I6", "a grant without its key", replace(GOOD, grants=[Grant(JOB, 1, "key-1")])),
    ("I7", "a declared file that is not there", replace(GOOD, stored=[])),
    ("I7", "a stored file with other bytes", replace(GOOD, stored=[Stored(JOB, "output.bin", DIGEST, OTHER)])),
    ("I7", "a file that no executor made", replace(GOOD, effects=GOOD.effects[:-1])),
    ("I7", "files of the attempt before", replace(GOOD, events=changed(8, declared=frozenset()))),
    ("I8", "a lease that ran out for no reason", replace(GOOD, disturbances=GOOD.disturbances[1:])),
    ("I8", "a second run for no reason", replace(GOOD, disturbances=GOOD.disturbances[:1])),
    ("I9", "a run when the result was there", replace(GOOD, effects=[*GOOD.effects, begun(2, "two", 20.5)])),
    ("I9", "a killed agent whose job others took", replace(GOOD, disturbances=[Disturbance("kill", "one", 4, 4)])),
    ("I10", "a process that is left", replace(GOOD, left_over=["process 77"])),
    ("I11", "an end long after it was calm", replace(GOOD, settle_s=5)),
    ("I12", "a secret in a log", replace(GOOD, leaks=["agent.log"])),
]


def test_a_good_history_breaks_no_rule() -> None:
    assert [] == violations(GOOD)


@pytest.mark.parametrize(("rule", "history"), [(rule, bad) for rule, _, bad in BAD], ids=[why for _, why, _ in BAD])
def test_a_rule_finds_what_breaks_it(rule: str, history: History) -> None:
    assert {rule} <= {violation.rule for violation in violations(history)}


def test_every_rule_has_a_history_that_breaks_it() -> None:
    assert set(INVARIANTS) == {rule for rule, _, _ in BAD}


def test_a_lease_may_run_out_where_the_network_is_bad() -> None:
    assert [] == violations(replace(GOOD, disturbances=GOOD.disturbances[1:], is_noisy=True))
