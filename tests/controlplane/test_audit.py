"""The audit: who changed what, and who was refused what."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from plane_calls import Api, Project, eventually
from sqlalchemy import select

from overmind_controlplane.plane import open_database
from overmind_controlplane.record import audit
from overmind_controlplane.record.tables import AuditEntry, Token
from overmind_controlplane.serving.auditing import Audited
from overmind_controlplane.serving.tally import MOST_CALLERS, Refusal, Tally
from server import ControlPlaneProcess

Lines = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def lines(plane: ControlPlaneProcess) -> Lines:
    """The lines about one path, oldest first: verb, decision, http_status, code, role of the caller."""

    def read(path: str) -> list[tuple[Any, ...]]:
        entry = AuditEntry
        about = select(entry.verb, entry.decision, entry.http_status, entry.code, Token.role)
        about = about.join(Token, Token.id == entry.token_id, isouter=True)
        database = open_database(plane.data, plane.database_url)
        with database.read() as session:
            found = session.execute(about.where(entry.object == path).order_by(entry.number))
            told = [tuple(row) for row in found]
        database.close()
        return told

    return read


def test_every_change_of_a_job_has_a_line(project: Project, lines: Lines) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.walk(job_id, agent_id, "Running")
    project.submit.cancel(job_id)

    told = lines(f"/api/v2/jobs/{job_id}/status")

    granted = ("PUT", "granted", None, None)
    assert [(*granted, "agent")] * 3 + [(*granted, "submit")] == told


def test_what_is_repeated_changes_nothing_and_has_no_line(project: Project, lines: Lines) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    for _ in range(3):
        assert project.agent.say(job_id, "Claimed", agent_id, key="k").ok

    assert 1 == len(lines(f"/api/v2/jobs/{job_id}/status"))


def test_every_refusal_has_a_line(project: Project, lines: Lines) -> None:
    job_id = project.submit.make_job()["id"]
    path = f"/api/v2/jobs/{job_id}/status"
    nobody = Api(project.url, f"ovr_{uuid.uuid4()}")  # what is told apart is counted apart
    nobody.call("PUT", f"{path}?status_name=Canceled")
    project.agent.call("PUT", f"{path}?status_name=Canceled")
    project.submit.call("PUT", f"{path}?status_name=Flown")
    project.agent.say(job_id, "Running", "nobody", attempt=7)
    nobody.close()

    eventually(lambda: 4 == len(lines(path)))

    assert [
        ("PUT", "refused", 401, None, None),
        ("PUT", "refused", 403, None, "agent"),
        ("PUT", "refused", 422, None, "submit"),
        ("PUT", "refused", 409, "superseded", "agent"),
    ] == lines(path)


def test_what_another_project_may_not_see_is_a_refusal(project: Project, stranger: Project, lines: Lines) -> None:
    job_id = project.submit.make_job()["id"]

    assert 404 == stranger.submit.call("GET", f"/api/v2/jobs/{job_id}").status_code

    eventually(lambda: [("GET", "refused", 404, None, "submit")] == lines(f"/api/v2/jobs/{job_id}"))


def test_polls_and_heartbeats_leave_no_line(project: Project, lines: Lines) -> None:
    """They change nothing that anybody asked for, and there are thousands."""
    project.submit.make_job()
    agent_id = project.agent.register("lease")

    project.agent.next_job(agent_id)
    project.agent.heartbeat(agent_id)

    assert [] == lines(f"/api/v2/agents/{agent_id}/job") + lines(f"/api/v2/agents/{agent_id}/heartbeat")


def test_a_secret_is_in_no_line(project: Project, plane: ControlPlaneProcess) -> None:
    requests.get(f"{plane.url}/api/v2/jobs", headers={"X-Api-Key": "ovr_hunter2"}, timeout=10)
    project.submit.make_model()
    database = open_database(plane.data, plane.database_url)

    with database.read() as session:
        kept = repr([vars(entry) for entry in session.scalars(select(AuditEntry))])
    database.close()

    assert "/api/v2/models" in kept
    assert not [secret for secret in ("ovr_", "signature") if secret in kept]


TURNED_AWAY = {
    "host": (421, {"Host": "evil.example"}, ""),
    "headers": (431, {"X-Long": "x" * (40 << 10)}, ""),
    "url": (414, {}, "?" + "x" * (9 << 10)),
}


@pytest.mark.parametrize("which", TURNED_AWAY)
def test_what_a_limit_or_the_host_check_turns_away_has_a_line(project: Project, lines: Lines, which: str) -> None:
    status, headers, query = TURNED_AWAY[which]
    path = f"/api/v2/jobs/{uuid.uuid4()}"

    answer = project.submit.call("GET", f"{path}{query}", headers=headers)

    assert status == answer.status_code
    eventually(lambda: [("GET", "refused", status, None, "submit")] == lines(path))


def refusal(path: str = "/a", status: int = 429) -> Refusal:
    """Of one kind for one status."""
    return Refusal(audit.Asked("GET", path, code="rate_limited"), status)


def test_of_refusals_alike_the_first_is_written_and_the_others_are_counted() -> None:
    tally = Tally()

    written = [tally.is_first(refusal(), "one") for _ in range(4)]
    others = [tally.is_first(refusal(), "two"), tally.is_first(refusal(status=414), "one")]
    counted = [(line.http_status, line.calls) for line in tally.end()]

    assert [True, False, False, False] == written
    assert [True, True] == others
    assert [(429, 3)] == counted
    assert tally.is_first(refusal(), "one")


def test_a_flood_from_many_callers_leaves_a_few_lines() -> None:
    tally = Tally()

    written = [tally.is_first(refusal(f"/{caller}"), str(caller)) for caller in range(1000)]
    counted = tally.end()

    assert MOST_CALLERS + 1 == written.count(True)
    assert [("", 1000 - MOST_CALLERS - 1)] == [(line.call.path, line.calls) for line in counted]


def test_what_was_counted_is_written_when_its_minute_ends(tmp_path: Path, database_url: str | None) -> None:
    database = open_database(tmp_path, database_url)

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 429, "headers": []})

    async def flood() -> None:
        audited = Audited(refuse, database, minute_s=0.01)
        scope = {"type": "http", "method": "GET", "path": "/a", "headers": [], "client": ("192.0.2.1", 1)}
        await asyncio.gather(*(audited(scope, ignore, ignore) for _ in range(20)))
        async with asyncio.timeout(10):
            while sum(calls()) < 20:
                await asyncio.sleep(0)

    async def ignore(*_message: Any) -> None:
        """Nobody is there."""

    def calls() -> list[int]:
        with database.read() as session:
            return list(session.scalars(select(AuditEntry.calls).order_by(AuditEntry.number)))

    asyncio.run(flood())
    told = calls()
    database.close()

    assert (20, 1) == (sum(told), told[0])
    assert len(told) < 20
