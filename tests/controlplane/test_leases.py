"""Leases: what renews them, and what happens when they run out. The hasty server gives half a second."""

from __future__ import annotations

from pathlib import Path

from plane_calls import Project, eventually, names

from overmind_controlplane.timers import Leases, Reservations
from server import start_control_plane


def test_a_job_whose_lease_ran_out_waits_again(hasty: Project) -> None:
    job_id = hasty.submit.make_job()["id"]
    agent_id = hasty.agent.register("lease")
    hasty.agent.say(job_id, "Claimed", agent_id, key="a")

    eventually(lambda: hasty.submit.status(job_id) == "Pending")

    job = hasty.submit.job(job_id)
    late = hasty.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)
    assert ["Pending", "Claimed", "Pending"] == names(job)
    assert "the lease ran out" == job["status_history"][-1]["message"]
    assert (409, "superseded") == (late.status_code, late.json()["code"])


def test_the_last_lost_attempt_fails_the_job(hasty: Project) -> None:
    job_id = hasty.submit.make_job(max_attempts=2)["id"]
    agent_id = hasty.agent.register("lease")
    for attempt in (1, 2):
        claimed = hasty.agent.say(job_id, "Claimed", agent_id, key=f"k{attempt}").json()
        assert attempt == claimed["attempt"]
        eventually(lambda: hasty.submit.status(job_id) != "Claimed")

    job = hasty.submit.job(job_id)

    assert ["Pending", "Claimed", "Pending", "Claimed", "Failed"] == names(job)
    assert {"reason": "attempts_exhausted"} == job["status_history"][-1]["detail"]


def test_three_attempts_may_be_lost_by_default(hasty: Project) -> None:
    job = hasty.submit.make_job()

    assert 3 == job["limits"]["max_attempts"]


def test_heartbeats_keep_a_lease_longer_than_it_is(hasty: Project) -> None:
    kept, lost = hasty.submit.make_job()["id"], hasty.submit.make_job()["id"]
    agent_id = hasty.agent.register("lease")
    hasty.agent.say(kept, "Claimed", agent_id, key="a")
    hasty.agent.say(lost, "Claimed", agent_id, key="b")

    def beat() -> bool:
        hasty.agent.heartbeat(agent_id, (kept, 1))
        return hasty.submit.status(lost) == "Pending"

    eventually(beat)

    assert "Claimed" == hasty.submit.status(kept)


def test_an_agent_without_a_lease_keeps_its_job(hasty: Project) -> None:
    kept, lost = hasty.submit.make_job()["id"], hasty.submit.make_job()["id"]
    hasty.agent.say(kept, "Claimed", hasty.agent.register())
    hasty.agent.say(lost, "Claimed", hasty.agent.register("lease"))

    eventually(lambda: hasty.submit.status(lost) == "Pending")

    assert "Claimed" == hasty.submit.status(kept)


def test_a_restart_gives_every_lease_anew(tmp_path: Path) -> None:
    """An agent that could not reach a server which was down has lost nothing by it."""
    with start_control_plane(tmp_path, lease_s=1.0) as plane:
        project = Project(plane.url, plane.tokens)
        job_id = project.submit.make_job()["id"]
        agent_id = project.agent.register("lease")
        project.agent.say(job_id, "Claimed", agent_id, key="a")
        plane.kill()

        plane.restart()
        answer = project.agent.heartbeat(agent_id, (job_id, 1))

        assert "continue" == answer["jobs"][0]["directive"]
        assert ["Pending", "Claimed"] == names(project.submit.job(job_id))
        eventually(lambda: project.submit.status(job_id) == "Pending")
        project.close()


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_lease_is_measured_from_its_last_renewal() -> None:
    clock = Hands()
    leases = Leases(60.0, clock)
    leases.renew(("job", 1))
    clock.now_s += 59
    leases.renew(("job", 1))
    clock.now_s += 59.9

    before = leases.has_run_out(("job", 1))
    clock.now_s += 0.1

    assert (False, True) == (before, leases.has_run_out(("job", 1)))


def test_a_lease_that_is_not_known_starts_when_it_is_asked_about() -> None:
    clock = Hands()
    leases = Leases(60.0, clock)

    first = leases.has_run_out(("job", 1))
    clock.now_s += 60

    assert (False, True) == (first, leases.has_run_out(("job", 1)))


def test_a_reservation_lapses() -> None:
    clock = Hands()
    reservations = Reservations(5.0, clock)
    reservations.take("job", "first")

    refused = reservations.take("job", "second")
    clock.now_s += 5

    assert (False, True) == (refused, reservations.take("job", "second"))


def test_an_agent_is_offered_its_own_reservation_again() -> None:
    reservations = Reservations(5.0, Hands())
    reservations.take("job", "mine")

    assert reservations.take("job", "mine")
    assert [] == reservations.of_others("mine")
    assert ["job"] == reservations.of_others("other")
