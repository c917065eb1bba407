"""Health tells the truth: what is dead is not live, and what takes no job is not ready and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from overmind_agent.contact import Contact
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    ControlPlaneError,
    InvalidInput,
    ProtocolError,
    RejectedError,
    TransientError,
)
from overmind_agent.jobs import NoJob
from overmind_agent.loops import BUSY_S, STILL_S, Pulses, keep_going
from overmind_agent.supervisor import TICK_S
from overmind_agent.telemetry.health import ENDING_S, MAIN_LATE_S, REASONS, Health
from overmind_agent.telemetry.traces import Traces
from overmind_agent.telemetry.watched_plane import Call, outcome_of, watched
from overmind_agent.testing import FakeControlPlane, FakeServer, VirtualClock

AWAY_S = 45.0


class Daemon:
    """What health sees of one."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pulses = Pulses(lambda: float)  # threads that never work
        self.clock = VirtualClock()
        self.contact = Contact(self.clock)
        self.health = Health(
            pulses=self.pulses,
            jobs=lambda: 2,
            contact=self.contact,
            away_after_s=AWAY_S,
            clock=self.clock,
            now_s=lambda: self.now_s,
        )

    def codes(self) -> list[str]:
        """Why it is not well."""
        return [reason.code for reason in self.health.report().reasons]


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def well(daemon: Daemon) -> Daemon:
    """One that the control plane has answered."""
    daemon.contact.ended(None)
    return daemon


def test_a_daemon_that_was_answered_is_live_and_ready(well: Daemon) -> None:
    report = well.health.report()

    assert (True, True, (), 2) == (report.live, report.ready, report.reasons, report.jobs)


def test_before_the_first_answer_it_is_live_and_not_ready(daemon: Daemon) -> None:
    report = daemon.health.report()

    assert (True, False) == (report.live, report.ready)
    assert ["starting"] == daemon.codes()


# ------------------------------------------------------------------------------------ live


def test_a_loop_that_stands_still_is_named(well: Daemon) -> None:
    well.pulses.add("worker-1").begin()

    well.pulses.look(STILL_S + 1)

    report = well.health.report()
    assert (False, False) == (report.live, report.ready)
    assert [("loop_late", "worker-1: no sign of life for 5 s")] == [(r.code, r.message) for r in report.reasons]


LOOPS = ("worker-1", "worker-2", "heartbeat", "delivery", "logs")


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("is_dead", [True, False], ids=["ended", "frozen"])
def test_whichever_loop_stops_it_is_named_and_the_daemon_is_not_live(
    well: Daemon, name: str, is_dead: bool
) -> None:
    """One that has ended at the next question; one that stands still as soon as the main thread finds it late."""
    pulses = {one: well.pulses.add(one) for one in LOOPS}
    if is_dead:
        pulses[name].begin()
        pulses[name].end(is_broken=True)
    else:
        pulses[name].begin()
        for turn in range(int(STILL_S // TICK_S) + 1):
            assert [] == well.codes(), turn
            well.pulses.look(TICK_S)

    report = well.health.report()
    assert not report.live
    assert [("loop_ended" if is_dead else "loop_late", name)] == [
        (reason.code, reason.message.partition(":")[0].split()[0]) for reason in report.reasons
    ]


def test_a_thread_that_died_is_not_live(well: Daemon) -> None:
    """What no loop survives: not an error, but an end of the thread."""
    pulse = well.pulses.add("delivery")

    def die() -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        keep_going(die, pulse=pulse, clock=VirtualClock(), log=structlog.get_logger())

    assert not well.health.report().live
    assert ["loop_ended"] == well.codes()


def test_a_loop_that_was_asked_to_end_is_no_fault(well: Daemon) -> None:
    pulse = well.pulses.add("worker-1")

    keep_going(lambda: None, pulse=pulse, clock=VirtualClock(), log=structlog.get_logger())
    well.pulses.look(BUSY_S + 1)

    assert [] == well.codes()


def test_a_main_thread_that_hangs_is_not_live(well: Daemon) -> None:
    well.now_s += MAIN_LATE_S + 1

    assert not well.health.report().live
    assert ["main_thread_late"] == well.codes()


def test_at_the_end_the_main_thread_may_wait_longer(well: Daemon) -> None:
    well.health.end()
    well.now_s += MAIN_LATE_S + 1

    report = well.health.report()

    assert (True, ENDING_S) == (report.live, report.good_for_s)


# ------------------------------------------------------------------------------------ ready


def test_a_control_plane_that_is_away_makes_it_unready_after_a_while_and_never_dead(well: Daemon) -> None:
    well.contact.ended(_error(TransientError))

    before = well.codes()
    well.clock.sleep(AWAY_S + 1)

    assert [] == before
    assert ["control_plane_away"] == well.codes()
    assert well.health.report().live


def test_silence_alone_is_no_fault(well: Daemon) -> None:
    """A paused agent without jobs has nothing to ask."""
    well.clock.sleep(10 * AWAY_S)

    assert [] == well.codes()


@pytest.mark.parametrize("answer", [None, ClaimLost("gone", verb="report", http_status=404)], ids=str)
def test_any_answer_makes_it_ready_again(well: Daemon, answer: ControlPlaneError | None) -> None:
    well.contact.ended(_error(AuthError, http_status=401))
    assert ["token_refused"] == well.codes()

    well.contact.ended(answer)

    assert [] == well.codes()


def test_what_stands_in_the_way_is_asked_for_each_time(well: Daemon) -> None:
    why: list[str | None] = ["make room"]
    well.health.ask("disk_short", lambda: why[0])
    before = well.codes()

    why[0] = None

    assert ["disk_short"] == before
    assert [] == well.codes()


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "seeing-inside.md").read_text(encoding="utf-8")

    codes = [*REASONS, "not_running", "report_old"]
    assert [] == [code for code in codes if f"| `{code}` |" not in page]


# ------------------------------------------------------------------------------------ the calls that it goes by


def _error(kind: type[ControlPlaneError], **facts: float) -> ControlPlaneError:
    return kind("no", verb="claim", **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (_error(AuthError, http_status=401), "token_refused"),
        (_error(ClaimLost, http_status=409), "claim_lost"),
        (_error(RejectedError, http_status=400), "rejected"),
        (ProtocolError("no field"), "unreadable"),
        (_error(TransientError), "away"),
        (_error(TransientError, http_status=503), "away"),
        (_error(TransientError, http_status=503, retry_after_s=5.0), "throttled"),
        (_error(TransientError, http_status=429), "throttled"),
        (InvalidInput("not an object"), "failed"),
        (ValueError("a bug"), "failed"),
    ],
)
def test_each_error_has_one_name(error: Exception, outcome: str) -> None:
    assert outcome == outcome_of(error)


def test_a_watched_plane_tells_of_each_call_and_changes_nothing() -> None:
    seen: list[Call] = []
    server = FakeServer(VirtualClock())
    plane = watched(FakeControlPlane(server), seen.append, Traces())

    agent_id = plane.register(None)
    none = plane.next_job(wait_s=0)
    plane.stop_waiting()

    assert agent_id
    assert isinstance(none, NoJob)
    assert [("register", "ok"), ("next_job", "no_job")] == [(call.verb, call.outcome) for call in seen]


def test_what_a_watched_plane_raises_is_told_and_raised() -> None:
    seen: list[Call] = []

    class Gone:
        def leave(self) -> None:
            raise _error(TransientError)

    plane = watched(Gone(), seen.append, Traces())  # type: ignore[arg-type]

    with pytest.raises(TransientError) as raised:
        plane.leave()

    assert [("leave", "away", raised.value)] == [(call.verb, call.outcome, call.error) for call in seen]
