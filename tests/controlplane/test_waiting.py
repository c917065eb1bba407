"""Held requests: they are answered at once when something happens, and cost the others nothing."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from plane_calls import Api, Project

# Generous beside what it takes (a few milliseconds), small beside the wait that it cuts short.
AT_ONCE_S = 1.0
WAIT_S = 20.0


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and when."""
    answer = call()
    return answer, time.monotonic()


def let_it_be_held(project: Project) -> None:
    """Come back when the server has read what was sent before: a short poll of its own takes the same way."""
    bystander = Project(project.url, project.tokens)
    agent_id = bystander.agent.register(modules=[("none", "0")])
    assert {"message": "no job"} == bystander.agent.next_job(agent_id, 0.2)
    bystander.close()


def test_a_held_poll_wakes_when_a_job_is_made(project: Project) -> None:
    agent_id = project.agent.register()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed, lambda: project.agent.next_job(agent_id, WAIT_S))
        let_it_be_held(project)

        job_id = project.submit.make_job()["id"]
        made_at = time.monotonic()
        offered, answered_at = held.result(WAIT_S)

    assert job_id == offered["id"]
    assert answered_at - made_at < AT_ONCE_S


def test_a_held_question_is_granted_a_job_when_it_is_made(project: Project) -> None:
    agent_id = project.agent.register("lease")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed, lambda: project.agent.next_claim(agent_id, "k", wait_s=WAIT_S))
        let_it_be_held(project)

        job_id = project.submit.make_job()["id"]
        made_at = time.monotonic()
        answer, answered_at = held.result(WAIT_S)

    granted = answer.json()
    assert (job_id, "Claimed") == (granted["id"], granted["status_history"][-1]["name"])
    assert granted["lease"]["waited_s"] > 0.1
    assert answered_at - made_at < AT_ONCE_S


def test_a_held_poll_wakes_when_a_job_is_released(project: Project) -> None:
    holder, other = project.agent.register(), project.agent.register()
    job_id = project.submit.make_job()["id"]
    project.agent.say(job_id, "Claimed", holder)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed, lambda: Api(project.url, project.tokens.agent).next_job(other, WAIT_S))
        let_it_be_held(project)

        project.agent.say(job_id, "Pending", holder)
        released_at = time.monotonic()
        offered, answered_at = held.result(WAIT_S)

    assert job_id == offered["id"]
    assert answered_at - released_at < AT_ONCE_S


def test_a_poll_without_a_job_is_answered_after_its_wait(project: Project) -> None:
    agent_id = project.agent.register()
    began = time.monotonic()

    answer = project.agent.next_job(agent_id, 0.3)

    assert {"message": "no job"} == answer
    assert 0.3 <= time.monotonic() - began < WAIT_S


def test_a_wait_of_more_than_thirty_seconds_is_refused(project: Project) -> None:
    agent_id = project.agent.register()

    answer = project.agent.call("GET", f"/api/v2/agents/{agent_id}/job?wait_s=31")

    assert 422 == answer.status_code


def test_a_held_heartbeat_says_at_once_that_another_start_took_over(project: Project) -> None:
    about = {"agent_version": "1", "host_os": "none"}
    agent_id = project.agent.read("POST", "/api/v2/agents", {**about, "instance": "older"})["id"]
    path = f"/api/v2/agents/{agent_id}"
    beat = {"slots": 1, "instance": "older", "wait_s": WAIT_S}
    before = project.agent.read("POST", f"{path}/heartbeat", {**beat, "wait_s": 0})
    older = Api(project.url, project.tokens.agent)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed, lambda: older.read("POST", f"{path}/heartbeat", beat))
        let_it_be_held(project)

        project.agent.read("PUT", path, {**about, "instance": "newer"})
        replaced_at = time.monotonic()
        answer, answered_at = held.result(WAIT_S)
    older.read("POST", f"{path}/heartbeat", {"slots": 1, "instance": "older", "draining": True})
    older.close()
    others = [{}, {"instance": "newer"}]
    told = [project.agent.read("POST", f"{path}/heartbeat", {"slots": 1, **other})["replaced"] for other in others]

    assert (False, True) == (before["replaced"], answer["replaced"])
    assert answered_at - replaced_at < AT_ONCE_S
    assert [False, False] == told
    assert not project.agent.read("GET", path)["draining"]


def test_a_held_poll_says_at_once_that_another_start_took_over(project: Project) -> None:
    """An idle agent sends no heartbeat; and it is offered no job any more."""
    about = {"agent_version": "1", "host_os": "none"}
    agent_id = project.agent.read("POST", "/api/v2/agents", {**about, "instance": "older"})["id"]
    path = f"/api/v2/agents/{agent_id}"
    older = Api(project.url, project.tokens.agent)
    with ThreadPoolExecutor(1) as pool:
        poll = {"wait_s": WAIT_S, "instance": "older"}
        held = pool.submit(timed, lambda: older.read("GET", f"{path}/job", params=poll))
        let_it_be_held(project)

        project.agent.read("PUT", path, {**about, "instance": "newer"})
        replaced_at = time.monotonic()
        answer, answered_at = held.result(WAIT_S)
    older.close()
    job_id = project.submit.make_job()["id"]
    polls = [{"instance": "older"}, {"instance": "newer"}]
    told = [project.agent.read("GET", f"{path}/job", params=poll) for poll in polls]

    assert answer["replaced"]
    assert answered_at - replaced_at < AT_ONCE_S
    assert (True, job_id) == (told[0]["replaced"], told[1]["id"])


def test_why_an_agent_takes_no_job_is_known_until_it_takes_one_or_starts_again(project: Project) -> None:
    about = {"agent_version": "1", "host_os": "none"}
    path = f"/api/v2/agents/{project.agent.read('POST', '/api/v2/agents', {**about, 'instance': 'a'})['id']}"
    beats = [{"not_accepting": "disk: full"}, {}, {"not_accepting": "disk: full"}]
    seen = []

    for beat in beats:
        project.agent.read("POST", f"{path}/heartbeat", {"slots": 1, **beat})
        seen.append(project.agent.read("GET", path)["not_accepting"])
    project.agent.read("PUT", path, {**about, "instance": "b"})
    seen.append(project.agent.read("GET", path)["not_accepting"])

    assert ["disk: full", None, "disk: full", None] == seen


def test_an_agent_drains_until_it_registers_again(project: Project) -> None:
    about = {"agent_version": "1", "host_os": "none"}
    path = f"/api/v2/agents/{project.agent.register()}"
    project.agent.read("POST", f"{path}/heartbeat", {"slots": 1, "draining": True})
    drains = project.agent.read("GET", path)["draining"]

    project.agent.read("PUT", path, about)

    assert drains
    assert not project.agent.read("GET", path)["draining"]


def test_a_held_heartbeat_brings_a_cancel_at_once(project: Project) -> None:
    agent_id = project.agent.register("lease")
    job_id = project.submit.make_job()["id"]
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed, lambda: project.agent.heartbeat(agent_id, (job_id, 1), wait_s=WAIT_S))
        let_it_be_held(project)

        project.submit.cancel(job_id)
        canceled_at = time.monotonic()
        answer, answered_at = held.result(WAIT_S)

    assert [{"job_id": job_id, "attempt": 1, "directive": "cancel", "lease": None}] == answer["jobs"]
    assert answered_at - canceled_at < AT_ONCE_S


def test_a_held_heartbeat_returns_when_its_agent_claims_another_job(project: Project) -> None:
    agent_id = project.agent.register("lease")
    first, second = project.submit.make_job()["id"], project.submit.make_job()["id"]
    project.agent.say(first, "Claimed", agent_id, key="a")
    with ThreadPoolExecutor(1) as pool:
        beat = Api(project.url, project.tokens.agent)
        held = pool.submit(timed, lambda: beat.heartbeat(agent_id, (first, 1), wait_s=WAIT_S))
        let_it_be_held(project)

        project.agent.say(second, "Claimed", agent_id, key="b")
        answer, _ = held.result(WAIT_S / 2)

    assert ["continue"] == [line["directive"] for line in answer["jobs"]]


def test_a_heartbeat_says_what_is_wanted_of_each_job(project: Project) -> None:
    agent_id, other = project.agent.register("lease"), project.agent.register()
    goes_on, done, theirs, stopped, deleted = (project.submit.make_job()["id"] for _ in range(5))
    for job_id in (goes_on, done, stopped, deleted):
        project.agent.say(job_id, "Claimed", agent_id, key=f"k-{job_id}")
    project.agent.say(done, "Failed", agent_id, attempt=1, sequence=1)
    project.agent.say(theirs, "Claimed", other)
    project.submit.cancel(stopped)
    project.submit.call("DELETE", f"/api/jobs/{deleted}/")

    named = [(job_id, 1) for job_id in (goes_on, done, theirs, stopped, deleted, "unknown")]
    answer = project.agent.heartbeat(agent_id, *named, wait_s=WAIT_S)

    assert ["continue", "superseded", "superseded", "cancel", "cancel", "superseded"] == [
        line["directive"] for line in answer["jobs"]
    ]
    assert 60.0 == answer["jobs"][0]["lease"]["ttl_s"]
    assert [None] * 5 == [line["lease"] for line in answer["jobs"][1:]]


def test_progress_of_a_heartbeat_is_in_the_record(project: Project) -> None:
    agent_id = project.agent.register("lease")
    job_id = project.submit.make_job()["id"]
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    progress = {"step": 3, "total_steps": 64, "step_name": "rows", "usd": 0.41, "eta_s": 310.0}

    project.agent.heartbeat(agent_id, (job_id, 1), progress=progress)

    assert progress == project.submit.read("GET", f"/api/jobs/{job_id}/")["result"]["progress"]


def test_two_hundred_waiting_agents_block_nobody(project: Project) -> None:
    """More than the server has threads: held requests must not take one each."""
    agent_ids = [project.agent.register() for _ in range(5)]
    host = urlsplit(project.url).netloc
    held = []
    for number in range(200):
        connection = http.client.HTTPConnection(host, timeout=30)
        path = f"/api/v2/agents/{agent_ids[number % 5]}/job?wait_s=30"
        connection.request("GET", path, headers={"Authorization": f"Bearer {project.tokens.agent}"})
        held.append(connection)

    began = time.monotonic()
    assert project.submit.call("GET", "/health").ok
    assert project.submit.call("GET", "/api/v2/jobs").ok
    job_id = project.submit.make_job()["id"]
    took_s = time.monotonic() - began
    project.agent.say(job_id, "Claimed", agent_ids[0])

    for connection in held:
        connection.close()
    assert took_s < 5.0


def test_an_offer_is_not_made_to_a_caller_that_has_gone(project: Project) -> None:
    gone, other = project.agent.register(), project.agent.register()
    connection = http.client.HTTPConnection(urlsplit(project.url).netloc, timeout=30)
    path = f"/api/v2/agents/{gone}/job?wait_s=30"
    connection.request("GET", path, headers={"Authorization": f"Bearer {project.tokens.agent}"})
    let_it_be_held(project)
    connection.close()
    let_it_be_held(project)

    job_id = project.submit.make_job()["id"]

    assert job_id == project.agent.next_job(other, WAIT_S)["id"]


def test_json_of_a_held_answer_is_whole(project: Project) -> None:
    agent_id = project.agent.register()
    project.submit.make_job()

    answer = project.agent.call("GET", f"/api/v2/agents/{agent_id}/job?wait_s=5")

    assert "application/json" == answer.headers["Content-Type"]
    assert json.loads(answer.content)["function"]["name"] == "@overmind:inference"


def test_a_job_goes_to_one_of_two_hundred_that_wait_and_the_others_go_on_waiting(project: Project) -> None:
    """They are all woken, and asked together: none of them holds up the one that gets it."""
    agent_ids = [project.agent.register("lease") for _ in range(5)]
    host = urlsplit(project.url).netloc
    held = []
    for number in range(200):
        connection = http.client.HTTPConnection(host, timeout=30)
        path = f"/api/v2/agents/{agent_ids[number % 5]}/job?wait_s=3"
        connection.request("GET", path, headers={"Authorization": f"Bearer {project.tokens.agent}"})
        held.append(connection)
    let_it_be_held(project)

    job_id = project.submit.make_job()["id"]
    answers = [json.loads(connection.getresponse().read()) for connection in held]

    for connection in held:
        connection.close()
    # An agent that asks forty times is offered its own reservation again, so all of one agent's may have it.
    offered = {number % 5 for number, answer in enumerate(answers) if answer.get("id") == job_id}
    assert 1 == len(offered)
    assert all(answer.get("id", job_id) == job_id for answer in answers)
