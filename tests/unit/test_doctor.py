"""The checks: each has a code that stays, and whatever is wrong comes with a hint."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path

import structlog

from agent_parts import a_claim
from overmind_agent.command_line.doctor import Doctor
from overmind_agent.command_line.findings import Finding
from overmind_agent.command_line.host_checks import HostChecks
from overmind_agent.control.server import ControlServer
from overmind_agent.host.state_folder import owning
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.over_http.calls import HttpCalls
from overmind_config.settings import Agent, ControlPlane, Policy, Settings

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
NOBODY = "http://127.0.0.1:9"


def found(state: Path, *, nice: int = 5) -> dict[str, Finding]:
    """All findings on a host whose control plane does not answer, by their codes."""
    settings = Settings(control_plane=ControlPlane(url=NOBODY), agent=Agent(state_dir=state, nice=nice))
    with closing(HttpCalls(NOBODY, lambda: "ovr_x")) as calls:
        return {finding.code: finding for finding in Doctor(settings, calls).findings()}


def test_every_check_is_documented_and_what_is_wrong_has_a_hint(tmp_path: Path) -> None:
    findings = found(tmp_path / "state")

    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().split("## The checks")[1], re.MULTILINE))
    assert {"configuration", "model"} | set(findings) == documented
    assert len(findings) >= 15
    assert [] == [code for code, finding in findings.items() if finding.grade != "ok" and not finding.hint]
    assert ("failed", "warning") == (findings["connection"].grade, findings["token"].grade)


def test_every_kind_of_limit_of_the_owner_is_told(tmp_path: Path) -> None:
    policy = Policy(
        max_calls=20_000, signatures="block", signing_keys={"release": tmp_path}, projects=("a", "b"), max_usd=2.5
    )
    settings = Settings(
        control_plane=ControlPlane(url=NOBODY), agent=Agent(state_dir=tmp_path / "state"), policy=policy
    )
    with closing(HttpCalls(NOBODY, lambda: "ovr_x")) as calls:
        (told,) = [one for one in Doctor(settings, calls).findings() if one.code == "policy"]

    expected = "signatures block; signing_keys release; projects a, b; max_usd 2.5; max_calls 20,000"
    assert ("ok", expected) == (told.grade, told.message)


def test_a_host_on_which_the_agent_works_is_no_reason_to_warn(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with owning(state):
        journal = SqliteJournal(state / "journal.sqlite")
        claim = a_claim()
        journal.intend(claim.job, "key")
        journal.hold(claim)
        journal.post(claim, Status.VALIDATING)
        server = ControlServer(state, {"status": dict}, structlog.get_logger(), refusal=lambda _peer: None)
        server.open()

        findings = found(state)
        server.close()
        journal.refused(journal.undelivered()[0], "409")
        parked = found(state)["journal"]
        journal.close()

    assert ("ok", "an agent works on it; jobs: 1; statuses to send: 1") == (
        findings["journal"].grade,
        findings["journal"].message,
    )
    assert "the agent that is running answers" == findings["control"].message
    assert ("warning", True) == (parked.grade, "parked: 1" in parked.message)


def test_root_may_look_at_the_journal_of_a_services_agent(tmp_path: Path) -> None:
    """Which it only reads, whether an agent works on it or not."""
    SqliteJournal(tmp_path / "journal.sqlite").close()
    settings = Settings(agent=Agent(state_dir=tmp_path))

    checks = dict(HostChecks(settings, user=os.geteuid() + 1).checks())

    assert f"of user {os.geteuid()}; jobs: 0; statuses to send: 0" == checks["journal"]()
