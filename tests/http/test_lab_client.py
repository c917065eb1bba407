"""The adapter for Overmind Lab's jobs REST, against a real server of records in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_parts import a_result_file
from lab_server import LOST, LabServer, Reply
from overmind_agent.errors import AuthError, ClaimLost, InvalidInput, ProtocolError, RejectedError, TransientError
from overmind_agent.jobs import Claim, Directive, Held, Job, NoJob, Progress, StatusUpdate
from overmind_agent.lab.client import LONG_SETTLE_S, SETTLE_S, LabControlPlane, Shared
from overmind_agent.lab.host_results import HostResults
from overmind_agent.lab.listing import follow
from overmind_agent.lab.result import MAX_ENVELOPE_BYTES, MAX_ERRORS
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.testing import VirtualClock
from overmind_executors import strict_json

V, R, U = Status.VALIDATING, Status.RUNNING, Status.UPLOADING
DONE, FAILED, CANCELED, PENDING = Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.PENDING


def nothing() -> None:
    """A step of a script that lets the request be."""


@pytest.fixture
def server() -> Iterator[LabServer]:
    with LabServer() as running:
        yield running


class Agents:
    """Makes agents of one server, which share a clock and nothing else."""

    def __init__(self, server: LabServer, folder: Path) -> None:
        self.clock = VirtualClock()
        self._server = server
        self._folder = folder
        self._calls: list[HttpCalls] = []

    def make(self, name: str, *job_types: str) -> LabControlPlane:
        """An agent called *name*."""
        self._calls.append(HttpCalls(self._server.url, lambda: self._server.token))
        return LabControlPlane(
            self._calls[-1],
            job_types=job_types or ("inference", "judge_scoring"),
            agent_id=lambda: name,
            shared=Shared(HostResults(self._folder / "results", name)),
            clock=self.clock,
        )

    def close(self) -> None:
        """Give the connections back."""
        for calls in self._calls:
            calls.close()


@pytest.fixture
def agents(server: LabServer, tmp_path: Path) -> Iterator[Agents]:
    made = Agents(server, tmp_path)
    yield made
    made.close()


@pytest.fixture
def agent(agents: Agents) -> LabControlPlane:
    return agents.make("one")


@pytest.fixture
def other(agents: Agents) -> LabControlPlane:
    return agents.make("two")


def offered(plane: LabControlPlane) -> Job:
    job = plane.next_job(wait_s=0)
    assert isinstance(job, Job)
    return job


def claimed(plane: LabControlPlane) -> Claim:
    return plane.claim(offered(plane), key="key-1")


def say(plane: LabControlPlane, claim: Claim, sequence: int, status: Status, **more: Any) -> None:
    plane.report(StatusUpdate(claim.job.id, claim.attempt, sequence, status, **more))


def look(plane: LabControlPlane, claim: Claim, progress: Progress | None = None) -> Directive:
    line = Held(claim.job.id, claim.attempt, progress)
    return plane.heartbeat([line], draining=False, wait_s=0).directives[claim.job.id]


# ------------------------------------------------------------------------------------ the list


def test_the_oldest_pending_job_of_our_types_is_offered(server: LabServer, agent: LabControlPlane) -> None:
    server.submit({}, job_type="prompt_tuning")
    server.submit({}, status="running")
    newer = server.submit({}, created_at="2026-01-02T00:00:00Z")
    older = server.submit({}, job_type="judge_scoring", created_at="2026-01-01T00:00:00Z")

    assert (older, "judge_scoring") == (offered(agent).id, offered(agent).job_type)
    assert {newer, older} < set(server.jobs)


def test_pages_are_followed_until_there_is_a_job(server: LabServer, agent: LabControlPlane) -> None:
    server.page_size = 2
    for _ in range(5):
        server.submit({}, job_type="prompt_tuning")
    job_id = server.submit({})

    assert job_id == offered(agent).id
    assert 3 == len([path for _, path in server.calls if path.startswith("/api/jobs/?")])


def test_one_job_type_is_asked_for_by_name(server: LabServer, agents: Agents) -> None:
    """So that a host for one kind of work does not read the others' pages."""
    server.submit({}, job_type="prompt_tuning")

    found = agents.make("one", "inference").next_job(wait_s=0)

    assert isinstance(found, NoJob)
    assert "job_type=inference" in server.calls[0][1]


def test_a_page_that_cannot_be_read_makes_the_list_unknown(server: LabServer, agent: LabControlPlane) -> None:
    """A part of a list taken for the whole would be silence about jobs that wait."""
    server.page_size = 1
    server.submit({}, job_type="prompt_tuning")
    server.submit({})
    server.script("GET", nothing, Reply(500, {"detail": "… (ref 0123456789ab)", "code": "internal_error"}))

    with pytest.raises(TransientError, match="ref 0123456789ab"):
        agent.next_job(wait_s=0)


def test_a_list_that_leads_back_is_refused(server: LabServer, agent: LabControlPlane) -> None:
    page = {"count": 9, "next": "/api/jobs/?page=2", "results": []}
    server.script("GET", Reply(200, page), Reply(200, page))

    with pytest.raises(ProtocolError, match="leads back"):
        agent.next_job(wait_s=0)


@pytest.mark.parametrize("end", [{"next": None}, {"next": ""}, {}])
def test_a_list_ends_in_any_of_three_ways(server: LabServer, agent: LabControlPlane, end: dict[str, Any]) -> None:
    server.script("GET", Reply(200, {"results": [], **end}))

    assert isinstance(agent.next_job(wait_s=0), NoJob)


@pytest.mark.parametrize(
    ("base", "link", "path"),
    [
        ("https://lab.example", "https://lab.example/api/jobs/?page=2", "/api/jobs/?page=2"),
        ("https://lab.example", "http://lab.example/api/jobs/?page=2", "/api/jobs/?page=2"),
        ("https://lab.example", "/api/jobs/?page=2", "/api/jobs/?page=2"),
        ("https://lab.example", "?page=2", "/api/jobs/?page=2"),
        ("https://lab.example/lab", "https://lab.example/lab/api/jobs/?page=2", "/api/jobs/?page=2"),
    ],
)
def test_a_link_is_followed_on_our_own_server(base: str, link: str, path: str) -> None:
    assert path == follow(link, base, "/api/jobs/?status=pending")


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/lab/api/jobs/?page=2",
        "//elsewhere.example/lab/api/jobs/?page=2",
        "https://lab.example:8443/lab/api/jobs/?page=2",
        "https://lab.example@elsewhere.example/lab/api/jobs/",
        "https://lab.example/other/api/jobs/?page=2",
        "https://lab.example/laboratory/?page=2",
        "file:///etc/passwd",
        "javascript:0",
    ],
)
def test_a_link_that_leads_elsewhere_is_refused(link: str) -> None:
    """The token goes to control_plane.url and nowhere else."""
    with pytest.raises(ProtocolError):
        follow(link, "https://lab.example/lab", "/api/jobs/")


def test_a_server_that_cannot_order_is_asked_without(server: LabServer, agent: LabControlPlane) -> None:
    """The reference has the parameter and does not say what it takes."""
    server.orderings = set()
    server.script("GET", nothing, Reply(200, {"results": []}), Reply(200, {"results": []}))

    found = [agent.next_job(wait_s=0), agent.next_job(wait_s=0)]

    assert [NoJob, NoJob] == [type(step) for step in found]
    assert [True, False, False] == ["ordering" in path for _, path in server.calls]


def test_a_record_that_cannot_be_read_is_left_to_others(server: LabServer, agent: LabControlPlane) -> None:
    """It does not stand before those that can."""
    bad_id = server.submit({}, celery_task_id=7)
    good_id = server.submit({})

    assert [good_id, good_id] == [offered(agent).id, offered(agent).id]
    assert [] == server.written(bad_id)


def test_a_job_that_was_taken_since_it_was_listed_is_not_offered(server: LabServer, agent: LabControlPlane) -> None:
    first, second = server.submit({}), server.submit({})
    server.script("GET", nothing, lambda: server.jobs[first].update(status="running"))

    assert second == offered(agent).id


# ------------------------------------------------------------------------------------ the claim


def test_a_claim_is_written_waited_for_and_read_back(
    server: LabServer, agents: Agents, agent: LabControlPlane
) -> None:
    job_id = server.submit({"a": 1})

    claim = claimed(agent)

    record = server.jobs[job_id]
    run = record["result"]["agent_run"]
    assert (1, None, Status.CLAIMED, "one") == (claim.attempt, claim.lease, claim.job.status, claim.job.holder)
    assert ("running", record["celery_task_id"]) == (record["status"], run["run_id"])
    assert ("one", 1, "Claimed", "key-1") == tuple(run[k] for k in ("agent_id", "attempt", "phase", "claim_key"))
    assert ({"a": 1}, {"spans": 3}) == (record["result"]["parameters"], record["result"]["validation_stats"])
    assert [SETTLE_S] == agents.clock.slept


def test_whoever_wrote_last_has_the_job(server: LabServer, agent: LabControlPlane) -> None:
    """Another worker's write falls between ours and the look back."""
    job_id = server.submit({})
    job = offered(agent)
    server.script("GET", nothing, lambda: server.jobs[job_id].update(celery_task_id="another run"))

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")

    assert "another run" == server.jobs[job_id]["celery_task_id"]


def test_two_that_read_at_once_do_not_both_win(
    server: LabServer, agents: Agents, agent: LabControlPlane, other: LabControlPlane
) -> None:
    """The other one reads before our write and writes after it, before we look back: it wins, we do not."""
    job_id = server.submit({})
    job = offered(agent)
    before = dict(server.jobs[job_id])
    won: list[Claim] = []

    def other_claims_from_what_it_read() -> None:
        ours = dict(server.jobs[job_id])
        server.jobs[job_id] |= before
        won.append(other.claim(job, key="key-2"))
        assert ours["celery_task_id"] != server.jobs[job_id]["celery_task_id"]

    server.script("GET", nothing, other_claims_from_what_it_read)

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")

    assert Directive.CONTINUE is look(other, won[0])


def test_a_slow_writer_waits_until_the_other_one_has_looked(
    server: LabServer, agents: Agents, agent: LabControlPlane, other: LabControlPlane
) -> None:
    """
    The window that stays: the other one claims and looks back before our late write. Our write stands; the other
    one drops the job at its next look, and by then we have not begun.
    """
    server.submit({})
    job = offered(agent)
    theirs: list[Claim] = []
    server.script("PATCH", lambda: theirs.append(other.claim(job, key="key-2")))

    ours = agent.claim(job, key="key-1")

    assert [SETTLE_S, LONG_SETTLE_S] == agents.clock.slept
    assert (Directive.CONTINUE, Directive.SUPERSEDED) == (look(agent, ours), look(other, theirs[0]))


def test_a_claim_that_was_canceled_before_it_was_read_back_is_none(
    server: LabServer, agent: LabControlPlane
) -> None:
    job_id = server.submit({})
    job = offered(agent)
    server.script("GET", nothing, lambda: server.jobs[job_id].update(status="cancelled"))

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")

    assert "cancelled" == server.jobs[job_id]["status"]


@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled", "a new word"])
def test_a_job_that_does_not_wait_is_not_claimed(server: LabServer, agent: LabControlPlane, status: str) -> None:
    job_id = server.submit({})
    job = offered(agent)
    server.jobs[job_id]["status"] = status

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-1")

    assert [] == server.written(job_id)


def test_a_lost_answer_is_resolved_by_claiming_again(server: LabServer, agent: LabControlPlane) -> None:
    """With the same key; with another one it is somebody else's."""
    job_id = server.submit({})
    job = offered(agent)
    server.script("PATCH", LOST)
    with pytest.raises(TransientError):
        agent.claim(job, key="key-1")

    with pytest.raises(ClaimLost):
        agent.claim(job, key="key-2")

    assert 1 == agent.claim(job, key="key-1").attempt
    assert ["PATCH"] == server.written(job_id)


def test_a_write_may_be_answered_without_a_body(server: LabServer, agent: LabControlPlane) -> None:
    job_id = server.submit({})
    server.without_body = True

    say(agent, claimed(agent), 1, V)

    assert "Validating" == server.jobs[job_id]["result"]["agent_run"]["phase"]


def test_a_job_whose_claim_is_refused_is_passed_over(server: LabServer, agent: LabControlPlane) -> None:
    """The reason is said field by field; the job does not stand before the others any more."""
    first, second = server.submit({}), server.submit({})
    server.script("PATCH", Reply(400, {"celery_task_id": ["Too long."], "result": ["Not", "so."]}))

    with pytest.raises(RejectedError, match=r"celery_task_id: Too long\.; result: Not so\."):
        agent.claim(offered(agent), key="key-1")

    assert (second, "pending") == (offered(agent).id, server.jobs[first]["status"])


def test_the_next_attempt_is_counted_in_the_record(
    server: LabServer, agent: LabControlPlane, other: LabControlPlane
) -> None:
    job_id = server.submit({})
    first = claimed(agent)
    say(agent, first, 1, PENDING)

    second = claimed(other)

    assert (1, 2) == (first.attempt, second.attempt)
    assert Directive.SUPERSEDED is look(agent, first)
    with pytest.raises(ClaimLost):
        say(agent, first, 2, FAILED)
    assert "running" == server.jobs[job_id]["status"]


@pytest.mark.parametrize(("code", "error"), [(401, AuthError), (403, AuthError), (402, RejectedError)])
def test_what_the_server_thinks_of_the_token_is_told(
    server: LabServer, agent: LabControlPlane, code: int, error: type[Exception]
) -> None:
    server.script("GET", Reply(code, {"detail": "Insufficient credits.", "code": "insufficient_credits"}))

    with pytest.raises(error, match=r"Insufficient credits\."):
        agent.register(None)


def test_the_server_knows_no_agents_so_each_makes_an_id_once(agent: LabControlPlane) -> None:
    made = agent.register(None)

    assert made == agent.register(made)
    assert made != agent.register(None)


# ------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize("status", [V, R, U])
def test_a_step_on_the_way_leaves_the_status_alone(
    server: LabServer, agent: LabControlPlane, status: Status
) -> None:
    """A cancel that came between the read and the write stays."""
    job_id = server.submit({})
    claim = claimed(agent)
    server.script("PATCH", lambda: server.jobs[job_id].update(status="cancelled"))

    say(agent, claim, 1, status)

    result = server.jobs[job_id]["result"]
    assert ("cancelled", status.value) == (server.jobs[job_id]["status"], result["agent_run"]["phase"])
    assert {"step": 0, "total_steps": 1, "step_name": status.value.lower()} == result["progress"]


@pytest.mark.parametrize("status", [DONE, FAILED, CANCELED, PENDING])
def test_an_end_is_written_in_the_five_words(server: LabServer, agent: LabControlPlane, status: Status) -> None:
    kept = {"parameters": {"a": 1}, "of somebody else": [1], "validation_stats": {}}
    job_id = server.submit({}, result=dict(kept))
    claim = claimed(agent)
    say(agent, claim, 1, V)

    say(agent, claim, 2, status, detail={"reason": "timeout"} if status is FAILED else {})

    record = server.jobs[job_id]
    assert LIFECYCLE[status].rest_name == record["status"]
    assert kept == {name: record["result"][name] for name in kept}
    assert {"phase": status.value, "sequence": 2}.items() <= record["result"]["agent_run"].items()


@pytest.mark.parametrize("status", [V, DONE, FAILED, CANCELED, PENDING])
def test_saying_it_again_writes_nothing(server: LabServer, agent: LabControlPlane, status: Status) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    say(agent, claim, 1, status)
    writes = len(server.written(job_id))

    say(agent, claim, 1, status)

    assert writes == len(server.written(job_id))


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "pending"])
@pytest.mark.parametrize("status", [V, DONE, FAILED, PENDING])
def test_what_somebody_else_decided_stays(
    server: LabServer, agent: LabControlPlane, end: str, status: Status
) -> None:
    """A final record is never moved, and a job that a person put back is not ours."""
    job_id = server.submit({})
    claim = claimed(agent)
    server.jobs[job_id]["status"] = end

    with pytest.raises(ClaimLost):
        say(agent, claim, 1, status)

    assert end == server.jobs[job_id]["status"]


def test_a_cancel_may_be_confirmed(server: LabServer, agent: LabControlPlane) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    server.jobs[job_id]["status"] = "cancelled"

    say(agent, claim, 1, CANCELED)

    assert "cancelled" == server.jobs[job_id]["status"]


def test_an_outcome_is_merged_and_its_scores_are_fields(server: LabServer, agent: LabControlPlane) -> None:
    scores = {
        "baseline_score": 61,
        "best_score": 70.5,
        "improvement": 9.5,
        "best_agent_code": "def run(): …",
        "report_markdown": "# better",
        "backtest_results": [{"model": "m"}],
    }
    job_id = server.submit({"a": 1})
    claim = claimed(agent)

    say(agent, claim, 1, DONE, detail={"outcome": {**scores, "status": "improved", "parameters": "never"}})

    record = server.jobs[job_id]
    assert scores == {name: record[name] for name in scores} == {name: record["result"][name] for name in scores}
    assert ({"a": 1}, "improved") == (record["result"]["parameters"], record["result"]["status"])


def test_a_score_of_another_type_is_no_field(server: LabServer, agent: LabControlPlane) -> None:
    """One bad field would have the whole write refused."""
    job_id = server.submit({})
    claim = claimed(agent)

    say(agent, claim, 1, DONE, detail={"outcome": {"best_score": True, "best_agent_code": 7, "improvement": None}})

    assert {"best_agent_code": None} | dict.fromkeys(("best_score", "improvement")) == {
        name: server.jobs[job_id].get(name) for name in ("best_agent_code", "best_score", "improvement")
    }


def test_iterations_are_listed_once_before_the_last_word(server: LabServer, agent: LabControlPlane) -> None:
    """The answer to the second one is lost, so the word is said again; nothing is listed twice."""
    server.submit({})
    claim = claimed(agent)
    steps = [{"order": n, "iteration_name": f"i{n}", "avg_score": None} for n in range(3)]
    server.script("POST", nothing, LOST)

    with pytest.raises(TransientError):
        say(agent, claim, 1, DONE, detail={"outcome": {"iterations": steps}})
    say(agent, claim, 1, DONE, detail={"outcome": {"iterations": steps}})

    (record,) = server.jobs.values()
    assert [{"order": n, "iteration_name": f"i{n}", "job": record["id"]} for n in range(3)] == record["iterations"]
    assert ("completed", True) == (record["status"], "iterations" not in record["result"])


def test_the_steps_of_a_running_search_are_listed_as_they_are_told(
    server: LabServer, agent: LabControlPlane
) -> None:
    """The answer to the second one is lost, so both are told again, and with the last word: each is there once."""
    server.submit({})
    claim = claimed(agent)
    steps = tuple({"order": n, "iteration_name": f"i{n}"} for n in range(3))
    server.script("POST", nothing, LOST)

    with pytest.raises(TransientError):
        agent.heartbeat([Held(claim.job.id, claim.attempt, iterations=steps[:2])], draining=False, wait_s=0)
    agent.heartbeat([Held(claim.job.id, claim.attempt, iterations=steps[:2])], draining=False, wait_s=0)
    (record,) = server.jobs.values()
    running = [step["iteration_name"] for step in record["iterations"]]
    say(agent, claim, 1, DONE, detail={"outcome": {"iterations": list(steps)}})

    assert ["i0", "i1"] == running
    assert ["i0", "i1", "i2"] == [step["iteration_name"] for step in record["iterations"]]


def test_a_server_without_iterations_gets_the_last_word(server: LabServer, agent: LabControlPlane) -> None:
    server.keeps_iterations = False
    server.submit({})
    claim = claimed(agent)

    say(agent, claim, 1, DONE, detail={"outcome": {"iterations": [{"iteration_name": "i1"}], "best_score": 3}})

    (record,) = server.jobs.values()
    assert ("completed", 3) == (record["status"], record["best_score"])


def test_an_outcome_that_is_too_long_loses_its_longest_keys(server: LabServer, agent: LabControlPlane) -> None:
    job_id = server.submit({"rows": "x" * 200_000}, result={"parameters": {"rows": "x" * 200_000}, "theirs": [1]})
    claim = claimed(agent)

    say(agent, claim, 1, DONE, detail={"outcome": {"long": "y" * 60_000, "middle": "z" * 30_000, "short": 1}})

    result = server.jobs[job_id]["result"]
    assert (["long"], "z" * 30_000, 1, [1]) == tuple(result[k] for k in ("left_out", "middle", "short", "theirs"))
    assert 200_000 == len(result["parameters"]["rows"])
    rest = {name: value for name, value in result.items() if name != "parameters"}
    assert MAX_ENVELOPE_BYTES >= len(strict_json.canonical(rest))


def test_errors_are_few_and_short_and_the_newest_stands_first(server: LabServer, agent: LabControlPlane) -> None:
    before = [{"code": f"e{n}", "message": "m"} for n in range(MAX_ERRORS)]
    job_id = server.submit({}, result={"errors": before})
    claim = claimed(agent)

    say(agent, claim, 1, FAILED, message="timeout: " + "m" * 5000, detail={"reason": "timeout"})

    errors = server.jobs[job_id]["result"]["errors"]
    assert {"code": "timeout", "message": "m" * 2000, "retryable": False} == errors[0]
    assert before[:-1] == errors[1:]


def test_files_are_named_with_their_digests_and_their_place(
    server: LabServer, agent: LabControlPlane, tmp_path: Path
) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    file = a_result_file(tmp_path / "out")
    line = {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}

    say(agent, claim, 1, U, detail={"files": [line]})
    ref = agent.upload(claim, file)

    place = tmp_path / "results" / job_id / file.name
    assert f"host:one:{place}" == ref
    (said,) = server.jobs[job_id]["result"]["files"]
    assert {"name": file.name, "sha256": file.sha256, "bytes": file.size_bytes, "ref": ref} == said
    assert file.path.read_bytes() == place.read_bytes()


# ------------------------------------------------------------------------------------ looking


@pytest.mark.parametrize(
    ("change", "directive"),
    [
        ({}, Directive.CONTINUE),
        ({"status": "a new word"}, Directive.CONTINUE),
        ({"status": "cancelled"}, Directive.CANCEL),
        ({"status": "completed"}, Directive.SUPERSEDED),
        ({"status": "failed"}, Directive.SUPERSEDED),
        ({"status": "pending"}, Directive.SUPERSEDED),
        ({"celery_task_id": "another run"}, Directive.SUPERSEDED),
    ],
)
def test_what_a_look_finds(
    server: LabServer, agent: LabControlPlane, change: dict[str, Any], directive: Directive
) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    server.jobs[job_id] |= change

    assert directive is look(agent, claim)


def test_a_job_that_is_gone_is_not_ours(server: LabServer, agent: LabControlPlane) -> None:
    claim_id = server.submit({})
    claim = claimed(agent)
    del server.jobs[claim_id]

    assert Directive.SUPERSEDED is look(agent, claim)


def test_a_heartbeat_looks_again_until_there_is_news(
    server: LabServer, agents: Agents, agent: LabControlPlane
) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    slept = len(agents.clock.slept)
    server.script("GET", nothing, nothing, lambda: server.jobs[job_id].update(status="cancelled"))

    orders = agent.heartbeat([Held(job_id, claim.attempt)], draining=False, wait_s=10)

    assert {job_id: Directive.CANCEL} == orders.directives
    assert [2.0, 2.0] == agents.clock.slept[slept:]


def test_a_heartbeat_without_news_ends_in_time(server: LabServer, agents: Agents, agent: LabControlPlane) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    began_s = agents.clock.now_s()

    agent.heartbeat([Held(job_id, claim.attempt)], draining=False, wait_s=5)

    assert 5 == agents.clock.now_s() - began_s


def test_a_record_over_which_the_server_breaks_hides_no_cancel(server: LabServer, agent: LabControlPlane) -> None:
    first, second = server.submit({}), server.submit({})
    claims = [claimed(agent), claimed(agent)]
    server.jobs[second]["status"] = "cancelled"
    server.script("GET", Reply(500))

    lines = [Held(claim.job.id, claim.attempt) for claim in claims]
    orders = agent.heartbeat(lines, draining=False, wait_s=0)

    assert [first, second] == [claim.job.id for claim in claims]
    assert {second: Directive.CANCEL} == orders.directives


def test_a_server_that_breaks_over_all_records_is_an_error(server: LabServer, agent: LabControlPlane) -> None:
    server.submit({})
    claim = claimed(agent)
    server.script("GET", Reply(500))

    with pytest.raises(TransientError):
        look(agent, claim)


def test_progress_is_written_when_it_changed_and_not_too_often(
    server: LabServer, agents: Agents, agent: LabControlPlane
) -> None:
    job_id = server.submit({})
    claim = claimed(agent)
    shown = []

    for step, pause_s in ((1, 0), (2, 1), (3, 10), (3, 10)):
        agents.clock.advance(pause_s)
        look(agent, claim, Progress(step, 9, "rows", usd=0.41))
        shown.append((server.jobs[job_id]["result"]["progress"]["step"], len(server.written(job_id))))

    assert [(1, 2), (1, 2), (3, 3), (3, 3)] == shown
    line = {"step": 3, "total_steps": 9, "step_name": "rows", "usd": 0.41}
    assert line == server.jobs[job_id]["result"]["progress"]


def test_progress_undoes_no_last_word(server: LabServer, agent: LabControlPlane) -> None:
    """The record became final between the look and the write."""
    job_id = server.submit({})
    claim = claimed(agent)
    server.script("GET", nothing, lambda: server.jobs[job_id].update(status="completed", result={"done": 1}))

    look(agent, claim, Progress(1, 2, "rows"))

    assert {"done": 1} == server.jobs[job_id]["result"]


# ------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("result", "parameters"),
    [
        (None, {}),
        ({}, {}),
        ("text", {}),
        ([1], {}),
        ({"parameters": {"ü": [1.5, None]}}, {"ü": [1.5, None]}),
    ],
)
def test_parameters_are_read_from_the_record(
    server: LabServer, agent: LabControlPlane, result: Any, parameters: Any
) -> None:
    server.submit({}, result=result)

    assert parameters == agent.read_parameters(claimed(agent).job)


@pytest.mark.parametrize("parameters", [None, [1], "text", 7])
def test_parameters_that_are_no_object_are_refused(
    server: LabServer, agent: LabControlPlane, parameters: Any
) -> None:
    server.submit(parameters)

    with pytest.raises(InvalidInput, match="must be a JSON object"):
        agent.read_parameters(claimed(agent).job)


def test_parameters_that_changed_under_way_are_refused(server: LabServer, agent: LabControlPlane) -> None:
    """Half of the rows would have been done by the old ones."""
    job_id = server.submit({"a": 1})
    claim = claimed(agent)
    server.jobs[job_id]["result"]["parameters"] = {"a": 2}

    with pytest.raises(InvalidInput, match="were changed"):
        agent.read_parameters(claim.job)


def test_a_result_that_is_no_object_is_kept(server: LabServer, agent: LabControlPlane) -> None:
    job_id = server.submit({}, result=[1, 2])

    claimed(agent)

    assert [1, 2] == server.jobs[job_id]["result"]["original"]


def test_a_job_that_names_no_dataset_has_no_input(server: LabServer, agent: LabControlPlane) -> None:
    server.submit({"items": []})

    assert agent.input_file(claimed(agent).job) is None


def test_a_dataset_is_the_input_in_its_own_order(server: LabServer, agent: LabControlPlane, tmp_path: Path) -> None:
    """The pages come in any order; what has no number comes last."""
    server.page_size = 2
    points = [{"input": text, "expected_output": n, "order": n, "id": f"p{n}"} for n, text in enumerate("abcd")]
    server.datasets["d1"] = [points[3], points[0], {"input": None}, points[2], points[1]]
    server.submit({"dataset_id": "d1"})

    file = agent.input_file(claimed(agent).job)
    assert file is not None
    agent.download(file, tmp_path / "input.jsonl")

    lines = [strict_json.loads(line) for line in (tmp_path / "input.jsonl").read_text().splitlines()]
    assert ["a", "b", "c", "d", None] == [line["input"] for line in lines]
    assert {"id": "p1", "input": "b", "expected_output": 1} == {
        name: lines[1][name] for name in ("id", "input", "expected_output")
    }
    assert {"order": 1, "persona": None, "tags": None} == lines[1]["metadata"]


def test_a_part_of_a_dataset_is_not_taken_for_the_whole(
    server: LabServer, agent: LabControlPlane, tmp_path: Path
) -> None:
    server.page_size = 1
    server.datasets["d1"] = [{"input": "a"}, {"input": "b"}]
    server.submit({"dataset_id": "d1"})
    file = agent.input_file(claimed(agent).job)
    assert file is not None
    server.script("GET", nothing, Reply(503))

    with pytest.raises(TransientError):
        agent.download(file, tmp_path / "input.jsonl")

    assert [] == list(tmp_path.iterdir())


def test_a_dataset_that_is_not_there_is_said_by_name(
    server: LabServer, agent: LabControlPlane, tmp_path: Path
) -> None:
    server.submit({"dataset_id": "d1"})
    file = agent.input_file(claimed(agent).job)
    assert file is not None

    with pytest.raises(InvalidInput, match="there is no dataset 'd1'"):
        agent.download(file, tmp_path / "input.jsonl")


@pytest.mark.parametrize(
    ("parameters", "why"),
    [({"items_file": "x"}, "items_file: this control plane has no"), ({"dataset_id": 7}, "a string")],
)
def test_an_input_that_this_server_cannot_give_is_refused(
    server: LabServer, agent: LabControlPlane, parameters: Any, why: str
) -> None:
    server.submit(parameters)

    with pytest.raises(InvalidInput, match=why):
        agent.input_file(claimed(agent).job)


def test_a_log_stays_here(server: LabServer, agent: LabControlPlane) -> None:
    server.submit({})

    assert None is agent.append_log(claimed(agent), offset=4, data=b"12345")


def test_a_job_is_refused_by_a_word_and_a_reason(server: LabServer, agent: LabControlPlane) -> None:
    job_id = server.submit({})

    agent.refuse(job_id, key="key-1", reason="invalid_job", message="it cannot be read")
    with pytest.raises(ClaimLost):
        agent.refuse(job_id, key="key-1", reason="invalid_job", message="it cannot be read")

    (error,) = server.jobs[job_id]["result"]["errors"]
    assert ("failed", "invalid_job") == (server.jobs[job_id]["status"], error["code"])
