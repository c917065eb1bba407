"""What may be asked of the daemon, over its real parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_parts import JOB_ID, a_claim
from overmind_agent.control.line import Refusal
from overmind_agent.control.verbs import DRAIN, verbs
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.intake import Intake
from overmind_agent.jobs import StopReason
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.logs.job_log import JobLog
from overmind_agent.testing import VirtualClock
from overmind_config.redaction import Redactor

SECRET = "hunter22-hunter22"


class Scene:
    """The verbs of a daemon that holds one job."""

    def __init__(self, folder: Path) -> None:
        self.journal = SqliteJournal(folder / "journal.sqlite")
        self.held_jobs = HeldJobs()
        self.intake = Intake(self.journal, structlog.get_logger())
        self.drained: list[str] = []
        self.held = HeldJob(a_claim(), VirtualClock(), claimed_at_s=0)
        self._verbs = verbs(
            snapshot=_never,
            intake=self.intake,
            held_jobs=self.held_jobs,
            waiting=lambda: ["left-by-a-crash"],
            outbox=self.journal,
            drain=self.drained.append,
            reload=lambda: {"changed": []},
            diagnosis=lambda: {"stacks": {}},
            open_log=lambda job_id: JobLog(folder / f"{job_id}.txt", Redactor([SECRET])),
        )

    def ask(self, verb: str, **more: Any) -> Mapping[str, Any]:
        """What is answered."""
        return self._verbs[verb](more)

    def code(self, verb: str, **more: Any) -> str:
        """The code with which it is refused."""
        with pytest.raises(Refusal) as caught:
            self.ask(verb, **more)
        return caught.value.code

    def park(self) -> int:
        """Have two words about the job refused; returns the position of the first."""
        claim = self.held.claim
        self.journal.intend(claim.job, "key")
        self.journal.hold(claim)
        self.journal.post(claim, Status.VALIDATING)
        self.journal.post(claim, Status.FAILED, message="no")
        self.journal.refused(self.journal.undelivered()[0], "409 superseded")
        return self.journal.parked()[0].position


def _never() -> Any:
    raise AssertionError("nobody asked for that")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A daemon that holds one job."""
    made = Scene(tmp_path)
    yield made
    made.journal.close()


def test_a_held_job_is_asked_to_stop(scene: Scene) -> None:
    with scene.held_jobs.holding(scene.held):
        answer = scene.ask("cancel", job_id=JOB_ID)

    assert {"job_id": JOB_ID, "stop_reason": "host_request"} == answer
    assert StopReason.HOST_REQUEST is scene.held.stop_reason


def test_a_job_that_was_asked_to_stop_before_keeps_its_first_reason(scene: Scene) -> None:
    scene.held.ask_to_stop(StopReason.LEASE_LOST)

    with scene.held_jobs.holding(scene.held):
        answer = scene.ask("cancel", job_id=JOB_ID)

    assert "lease_lost" == answer["stop_reason"]


@pytest.mark.parametrize("job_id", ["another", "", None, 7, ["x"], {"a": 1}])
def test_what_is_no_held_job_cannot_be_canceled(scene: Scene, job_id: object) -> None:
    assert "no_such_job" == scene.code("cancel", job_id=job_id)


def test_a_job_that_waits_after_a_restart_is_ended_as_soon_as_it_is_held(scene: Scene) -> None:
    held = HeldJob(a_claim(job_id="left-by-a-crash"), VirtualClock(), claimed_at_s=0)

    answer = scene.ask("cancel", job_id="left-by-a-crash")
    with scene.held_jobs.holding(held):
        reason = held.stop_reason

    assert {"job_id": "left-by-a-crash", "stop_reason": None} == answer
    assert StopReason.HOST_REQUEST is reason


def test_a_pause_and_its_end(scene: Scene) -> None:
    since = scene.ask("pause")["paused_at"]

    assert scene.intake.paused_at is not None
    assert scene.intake.paused_at.isoformat() == since
    assert {"was_paused": True} == scene.ask("resume")
    assert {"was_paused": False} == scene.ask("resume")


def test_a_drain_is_begun_as_a_signal_would(scene: Scene) -> None:
    assert {"jobs": 0} == scene.ask("drain")
    assert [DRAIN] == scene.drained


def test_what_is_parked_is_sent_when_it_is_asked_for(scene: Scene) -> None:
    position = scene.park()

    assert {"retried": 1} == scene.ask("retry", positions=[position])
    assert ([], 2) == (scene.journal.parked(), len(scene.journal.undelivered()))


def test_all_that_is_parked_may_be_sent_at_once(scene: Scene) -> None:
    scene.park()

    assert {"retried": 2} == scene.ask("retry", positions=None)
    assert [] == scene.journal.parked()


def test_one_position_that_is_not_parked_keeps_back_all(scene: Scene) -> None:
    position = scene.park()

    assert "not_parked" == scene.code("retry", positions=[position, 99])
    assert 2 == len(scene.journal.parked())


@pytest.mark.parametrize("positions", ["1", 1, ["1"], [True], [1.0], {}])
def test_positions_are_whole_numbers(scene: Scene, positions: object) -> None:
    assert "bad_request" == scene.code("retry", positions=positions)
