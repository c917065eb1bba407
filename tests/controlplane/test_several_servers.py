"""Several servers on one PostgreSQL database behave as one."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from plane_calls import Api, Project, eventually, names
from postgres import Postgres

from server import ControlPlaneProcess, start_control_plane

# Generous beside what it takes (see benchmarks/control_plane.py), small beside the wait it cuts short.
AT_ONCE_S = 1.0
WAIT_S = 20.0
WHOLE_LIFE = ["Pending", "Claimed", "Validating", "Running", "Uploading", "Completed"]

AnswerT = TypeVar("AnswerT")


@dataclasses.dataclass
class Pair:
    """Two servers and one project that both serve."""

    first: ControlPlaneProcess
    second: ControlPlaneProcess
    here: Project
    there: Project
    database_url: str


@contextmanager
def start_pair(folder: Path, database_url: str, lease_s: float = 60.0) -> Iterator[Pair]:
    """Two servers on the database, which share the folder; they end with the block."""
    with start_control_plane(folder, lease_s=lease_s, database_url=database_url) as first:
        second = dataclasses.replace(first, name="second", process=None, url="")
        second.start()
        here, there = Project(first.url, first.tokens), Project(second.url, first.tokens)
        try:
            yield Pair(first, second, here, there, database_url)
        finally:
            here.close()
            there.close()
            second.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Pair]:
    """Two servers for the module; tests that harm theirs start their own."""
    with start_pair(tmp_path_factory.mktemp("pair"), postgres.new_database()) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path, postgres: Postgres) -> Iterator[Pair]:
    """Two servers of the test's own."""
    with start_pair(tmp_path, postgres.new_database()) as running:
        yield running


def let_it_be_held(project: Project) -> None:
    """Come back when the server has read what was sent before: a short poll of its own takes the same way."""
    bystander = Project(project.url, project.tokens)
    agent_id = bystander.agent.register(modules=[("none", "0")])
    assert {"message": "no job"} == bystander.agent.next_job(agent_id, 0.2)
    bystander.close()


@contextmanager
def held(call: Callable[[], AnswerT]) -> Iterator[Callable[[], tuple[AnswerT, float]]]:
    """*call*, going on in a thread; what it gives, and when it gave it."""
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(lambda: (call(), time.monotonic()))
        yield lambda: going_on.result(WAIT_S)


def test_a_job_submitted_through_one_is_claimed_through_the_other_at_once(pair: Pair) -> None:
    agent_id = pair.there.agent.register("lease")

    with held(lambda: pair.there.agent.next_job(agent_id, WAIT_S)) as answer:
        let_it_be_held(pair.there)
        job_id = pair.here.submit.make_job()["id"]
        made_at = time.monotonic()
        offered, answered_at = answer()
    claimed = pair.there.agent.say(job_id, "Claimed", agent_id, key="k")

    assert job_id == offered["id"]
    assert answered_at - made_at < AT_ONCE_S
    assert 200 == claimed.status_code
    pair.here.submit.cancel(job_id)


def test_a_cancel_through_one_wakes_a_heartbeat_that_the_other_holds(pair: Pair) -> None:
    agent_id = pair.there.agent.register("lease")
    job_id = pair.here.submit.make_job()["id"]
    assert pair.there.agent.say(job_id, "Claimed", agent_id, key="k").ok

    with held(lambda: pair.there.agent.heartbeat(agent_id, (job_id, 1), wait_s=WAIT_S)) as answer:
        let_it_be_held(pair.there)
        pair.here.submit.cancel(job_id)
        canceled_at = time.monotonic()
        told, answered_at = answer()

    assert ["cancel"] == [line["directive"] for line in told["jobs"]]
    assert answered_at - canceled_at < AT_ONCE_S


def test_a_lease_granted_by_one_is_renewed_by_the_other(pair: Pair) -> None:
    agent_id = pair.here.agent.register("lease")
    job_id = pair.here.submit.make_job()["id"]
    pair.here.agent.say(job_id, "Claimed", agent_id, key="k")

    told = pair.there.agent.heartbeat(agent_id, (job_id, 1))

    assert ["continue"] == [line["directive"] for line in told["jobs"]]
    assert 60.0 == told["jobs"][0]["lease"]["ttl_s"]
    pair.here.submit.cancel(job_id)


def test_of_twenty_agents_that_claim_over_both_one_gets_the_job(pair: Pair) -> None:
    job_id = pair.here.submit.make_job()["id"]
    agent_ids = [pair.here.agent.register("lease") for _ in range(20)]
    start = threading.Barrier(20)

    def claim(number: int) -> int:
        project = (pair.here, pair.there)[number % 2]
        api = Api(project.url, project.tokens.agent)
        start.wait(10)
        answer = api.say(job_id, "Claimed", agent_ids[number], key="key")
        api.close()
        return answer.status_code

    with ThreadPoolExecutor(20) as pool:
        answers = Counter(pool.map(claim, range(20)))

    assert {200: 1, 409: 19} == answers
    assert ["Pending", "Claimed"] == names(pair.there.submit.job(job_id))
    pair.here.submit.cancel(job_id)


def test_of_twenty_agents_that_ask_over_both_each_is_offered_another_job(pair: Pair) -> None:
    job_ids = [pair.here.submit.make_job()["id"] for _ in range(20)]
    agent_ids = [pair.here.agent.register("lease") for _ in range(20)]
    start = threading.Barrier(20)

    def ask(number: int) -> str:
        project = (pair.here, pair.there)[number % 2]
        api = Api(project.url, project.tokens.agent)
        start.wait(10)
        offered = api.next_job(agent_ids[number], 5)
        api.close()
        return str(offered["id"])

    with ThreadPoolExecutor(20) as pool:
        offered = sorted(pool.map(ask, range(20)))

    assert sorted(job_ids) == offered
    for job_id in job_ids:
        pair.here.submit.cancel(job_id)


def test_a_lease_that_ran_out_is_taken_back_once(tmp_path: Path, postgres: Postgres) -> None:
    """Both servers sweep, eight times a second."""
    with start_pair(tmp_path, postgres.new_database(), lease_s=0.5) as pair:
        agent_id = pair.here.agent.register("lease")
        job_ids = [pair.here.submit.make_job()["id"] for _ in range(10)]
        for job_id in job_ids:
            pair.here.agent.say(job_id, "Claimed", agent_id, key=job_id)

        eventually(lambda: all("Pending" == pair.there.submit.status(job_id) for job_id in job_ids))

        assert [["Pending", "Claimed", "Pending"]] * 10 == [
            names(pair.there.submit.job(job_id)) for job_id in job_ids
        ]


class Roaming:
    """Calls that go to the other server when one does not answer, and are repeated there as they are."""

    def __init__(self, urls: tuple[str, str], token: str) -> None:
        self._apis = [Api(url, token) for url in urls]

    def insist(self, call: Callable[[Api], requests.Response]) -> Any:
        """The JSON of the first answer that is neither an absence nor a 503."""
        end = time.monotonic() + WAIT_S
        while True:
            try:
                answer = call(self._apis[0])
            except requests.ConnectionError:
                self._apis.reverse()
            else:
                if answer.status_code != 503:
                    assert answer.ok, answer.text
                    return answer.json()
            assert time.monotonic() < end, "no server answered in time"

    def live(self, job_id: str, agent_id: str) -> None:
        """Claim the job and take it through its life, each word with its number."""
        self.insist(lambda api: api.say(job_id, "Claimed", agent_id, key=f"claim-{job_id}"))
        for sequence, status in enumerate(WHOLE_LIFE[2:], start=1):
            self.insist(lambda api, n=sequence, s=status: api.say(job_id, s, agent_id, attempt=1, sequence=n))

    def close(self) -> None:
        """Give the connections back."""
        for api in self._apis:
            api.close()


def test_a_server_that_is_killed_under_load_loses_and_repeats_nothing(fresh: Pair) -> None:
    """Six agents, half on each server; each job that was answered for ends once, with one line for each step."""
    urls = fresh.first.url, fresh.second.url
    lived: list[str] = []
    half_way = threading.Event()
    model_id = fresh.here.submit.make_model()["id"]

    def work(number: int) -> None:
        calls = Roaming(urls if number % 2 else urls[::-1], fresh.first.tokens.admin)
        about = {"agent_version": "1.0", "host_os": "Debian", "capabilities": ["lease"]}
        agent_id = calls.insist(lambda api: api.call("POST", "/api/v2/agents", about))["id"]
        for _ in range(12):
            path = f"/api/v2/models/{model_id}/jobs?function_name=@overmind:inference&assigned_agent_id={agent_id}"
            job_id = calls.insist(lambda api, p=path: api.call("POST", p, revision))["id"]
            calls.live(job_id, agent_id)
            lived.append(job_id)
            if len(lived) == 30:
                half_way.set()
        calls.close()

    revision = fresh.here.submit.upload(b"{}", "parameters.json")
    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(work, number) for number in range(6)]
        assert half_way.wait(WAIT_S)
        fresh.first.kill()
        for worker in working:
            worker.result(2 * WAIT_S)

    histories = [names(fresh.there.submit.job(job_id)) for job_id in lived]
    assert 72 == len(set(lived))
    assert [WHOLE_LIFE] * 72 == histories


def test_what_a_killed_server_had_offered_goes_to_others(fresh: Pair) -> None:
    """A reservation is a fact of the database: whoever is left lets it lapse, and wakes those who wait."""
    job_id = fresh.here.submit.make_job()["id"]
    first, other = fresh.here.agent.register(), fresh.here.agent.register()
    assert job_id == fresh.here.agent.next_job(first)["id"]
    fresh.first.kill()

    assert job_id == fresh.there.agent.next_job(other, WAIT_S)["id"]


def test_a_listener_that_was_cut_off_comes_back(fresh: Pair, postgres: Postgres) -> None:
    agent_id = fresh.there.agent.register("lease")
    postgres.psql(
        fresh.database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%listener'"
        " AND datname = current_database()",
    )
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%listener'"
    eventually(lambda: "2" == postgres.psql(fresh.database_url, f"{listening} AND datname = current_database()"))

    with held(lambda: fresh.there.agent.next_job(agent_id, WAIT_S)) as answer:
        let_it_be_held(fresh.there)
        job_id = fresh.here.submit.make_job()["id"]
        made_at = time.monotonic()
        offered, answered_at = answer()

    assert job_id == offered["id"]
    assert answered_at - made_at < AT_ONCE_S


def test_a_database_that_is_away_is_a_503_and_comes_back(tmp_path: Path) -> None:
    with Postgres.start() as own, start_pair(tmp_path, own.new_database()) as pair:
        job_id = pair.here.submit.make_job()["id"]
        agent_id = pair.here.agent.register("lease")
        pair.here.agent.say(job_id, "Claimed", agent_id, key="k")

        own.server.stop()
        refused = pair.here.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)
        unheard = pair.there.agent.call("GET", f"/api/v2/agents/{agent_id}/job?wait_s=1")
        alive = pair.here.submit.call("GET", "/health")
        own.server.start()
        eventually(lambda: pair.here.submit.call("GET", "/api/v2/jobs").ok)
        repeated = pair.here.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)
        eventually(lambda: pair.there.submit.call("GET", "/api/v2/jobs").ok)

        with held(lambda: pair.there.agent.next_job(agent_id, WAIT_S)) as answer:
            next_id = pair.here.submit.make_job()["id"]
            offered, _ = answer()

    assert [(503, "1", "unavailable")] * 2 == [
        (answer.status_code, answer.headers["Retry-After"], answer.json()["code"]) for answer in (refused, unheard)
    ]
    assert (200, 200) == (alive.status_code, repeated.status_code)
    assert ["Pending", "Claimed", "Validating"] == names(repeated.json())
    assert next_id == offered["id"]
