"""Who gets a job: offers, claims, fences, sequences."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from plane_calls import Api, Project, names


def code(answer: Any) -> tuple[int, str | None]:
    """What an answer says to programs."""
    return answer.status_code, answer.json().get("code")


def test_a_claim_names_the_attempt_and_the_lease(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease", "fence")

    claimed = project.agent.say(job_id, "Claimed", agent_id, key="k1").json()

    assert 1 == claimed["attempt"]
    assert 60.0 == claimed["lease"]["ttl_s"]
    assert agent_id == claimed["agent_id"]
    assert ["Pending", "Claimed"] == names(claimed)


def test_an_agent_without_the_capability_holds_without_a_lease(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()

    claimed = project.agent.say(job_id, "Claimed", agent_id).json()

    assert claimed["lease"] is None


def test_of_twenty_agents_that_claim_at_once_one_gets_the_job(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_ids = [project.agent.register("lease") for _ in range(20)]
    start = threading.Barrier(20)

    def claim(agent_id: str) -> tuple[int, str | None]:
        api = Api(project.url, project.tokens.agent)
        start.wait(10)
        answer = code(api.say(job_id, "Claimed", agent_id, key=f"key-{agent_id}"))
        api.close()
        return answer

    with ThreadPoolExecutor(20) as pool:
        answers = sorted(pool.map(claim, agent_ids), key=str)

    assert [(200, None)] + [(409, "claim_taken")] * 19 == answers
    assert ["Pending", "Claimed"] == names(project.submit.job(job_id))


def test_the_same_key_gives_the_same_claim_again(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    first = project.agent.say(job_id, "Claimed", agent_id, key="again").json()
    project.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)

    second = project.agent.say(job_id, "Claimed", agent_id, key="again")

    assert 200 == second.status_code
    assert first["attempt"] == second.json()["attempt"] == 1
    assert ["Pending", "Claimed", "Validating"] == names(second.json())


def test_a_key_is_good_for_one_job(project: Project) -> None:
    first, other = project.submit.make_job()["id"], project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(first, "Claimed", agent_id, key="one")

    answer = project.agent.say(other, "Claimed", agent_id, key="one")

    assert 422 == answer.status_code
    assert "Pending" == project.submit.status(other)


def test_a_key_that_was_overtaken_grants_nothing(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="old")
    project.agent.say(job_id, "Pending", agent_id, attempt=1, sequence=1)
    project.agent.say(job_id, "Claimed", agent_id, key="new")

    answer = project.agent.say(job_id, "Claimed", agent_id, key="old")

    assert (409, "superseded") == code(answer)


def test_what_an_older_attempt_says_is_refused_though_its_agent_holds_the_job_again(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease", "fence")
    project.agent.say(job_id, "Claimed", agent_id, key="k1")
    project.agent.say(job_id, "Pending", agent_id, attempt=1, sequence=1)
    project.agent.say(job_id, "Claimed", agent_id, key="k2")

    late = project.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)

    assert (409, "superseded") == code(late)
    assert "Claimed" == names(project.submit.job(job_id))[-1]


def test_a_malformed_key_is_refused(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()

    answer = project.agent.say(job_id, "Claimed", agent_id, key="no spaces")

    assert 422 == answer.status_code
    assert ["header", "Idempotency-Key"] == answer.json()["detail"][0]["loc"]


def test_an_offered_job_is_kept_for_its_agent(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    first, other = project.agent.register(), project.agent.register()

    offered = project.agent.next_job(first)

    assert job_id == offered["id"]
    assert {"message": "no job"} == project.agent.next_job(other)
    assert [] == project.agent.read("GET", f"/api/v2/agents/{other}/available_jobs")["items"]
    assert (409, "claim_taken") == code(project.agent.say(job_id, "Claimed", other))
    assert 200 == project.agent.say(job_id, "Claimed", first).status_code


def test_a_question_with_a_key_is_granted_what_it_would_be_offered(project: Project) -> None:
    """The answer is that of a claim, with all that whoever works on the job asks for next."""
    job_id = project.submit.make_job({"a": 1})["id"]
    agent_id = project.agent.register("lease", "fence")

    granted = project.agent.next_claim(agent_id, "k", message="claimed by host-1").json()
    again = project.agent.next_claim(agent_id, "k").json()
    claimed = project.agent.say(job_id, "Claimed", agent_id, key="k").json()

    assert (job_id, 1, ["Pending", "Claimed"]) == (granted["id"], granted["attempt"], names(granted))
    assert "claimed by host-1" == granted["status_history"][-1]["message"]
    assert {"a": 1} == json.loads(base64.b64decode(granted["parameters"]))
    assert 0 <= granted["lease"]["waited_s"] < 30
    assert [(job_id, 1)] * 2 == [(job["id"], job["attempt"]) for job in (again, claimed)]


def test_of_many_questions_at_once_each_is_granted_a_job_of_its_own(project: Project) -> None:
    made = {project.submit.make_job()["id"] for _ in range(6)}
    agents = [project.agent.register() for _ in range(8)]
    apis = [Api(project.url, project.tokens.agent) for _ in agents]

    with ThreadPoolExecutor(len(agents)) as pool:
        asked = zip(apis, agents, strict=True)
        granted = [job.json() for job in pool.map(lambda one: one[0].next_claim(one[1], "k"), asked)]
    for api in apis:
        api.close()

    assert sorted(made) == sorted(job["id"] for job in granted if "id" in job)
    assert [{"message": "no job"}] * 2 == [job for job in granted if "id" not in job]


@pytest.mark.parametrize(
    ("key", "asked", "loc"),
    [
        ("", {}, ["header", "Idempotency-Key"]),
        ("k", {"wait_s": 31}, ["body", "wait_s"]),
        ("k", {"job_types": [""]}, ["body", "job_types", 0]),
        ("k", {"colour": "red"}, ["body", "colour"]),
    ],
)
def test_a_question_that_cannot_be_granted_is_refused_by_name(
    project: Project, key: str, asked: dict[str, Any], loc: list[Any]
) -> None:
    answer = project.agent.next_claim(project.agent.register(), key, **asked)

    assert 422 == answer.status_code
    assert loc == answer.json()["detail"][0]["loc"]


def test_a_start_that_was_replaced_is_granted_nothing(project: Project) -> None:
    project.submit.make_job()
    agent_id = project.agent.register()
    about = {"agent_version": "1", "host_os": "x", "instance": "new"}
    assert project.agent.call("PUT", f"/api/v2/agents/{agent_id}", about).ok

    answer = project.agent.next_claim(agent_id, "k", instance="old")

    assert answer.json()["replaced"] is True


def test_an_offer_claims_nothing(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()

    project.agent.next_job(agent_id)

    assert ["Pending"] == names(project.submit.job(job_id))


def test_an_older_attempt_is_superseded(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    first, second = project.agent.register("lease"), project.agent.register("lease")
    project.agent.say(job_id, "Claimed", first, key="a")
    project.agent.say(job_id, "Pending", first, attempt=1, sequence=1)
    claimed = project.agent.say(job_id, "Claimed", second, key="b").json()

    answers = {
        "old attempt": code(project.agent.say(job_id, "Validating", first, attempt=1, sequence=2)),
        "old holder": code(project.agent.say(job_id, "Validating", first)),
        "old log": code(
            project.agent.call(
                "PUT", f"/api/v2/jobs/{job_id}/logs?offset=0", b"x", headers={"Overmind-Attempt": "1"}
            )
        ),
        "present": code(project.agent.say(job_id, "Validating", second, attempt=2, sequence=1)),
    }

    assert 2 == claimed["attempt"]
    assert {
        "old attempt": (409, "superseded"),
        "old holder": (409, "superseded"),
        "old log": (409, "superseded"),
        "present": (200, None),
    } == answers


def test_a_file_of_an_older_attempt_is_superseded(project: Project) -> None:
    job = project.submit.make_job()
    agent_id = project.agent.register("lease")
    project.agent.say(job["id"], "Claimed", agent_id, key="a")
    body = project.agent.upload(b"late", "result.json", (job["file"]["revisions"][-1]["id"],))
    project.agent.say(job["id"], "Pending", agent_id, attempt=1, sequence=1)

    path = f"/api/v2/models/{job['model_id']}/artifacts"
    answer = project.agent.call("POST", path, body, headers={"Overmind-Attempt": "1"})

    assert (409, "superseded") == code(answer)


def test_a_sequence_is_replay_safe_and_has_no_gaps(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    say = project.agent.say
    first = {"message": "checking"}
    assert 200 == say(job_id, "Validating", agent_id, attempt=1, sequence=1, body=first).status_code
    assert 200 == say(job_id, "Running", agent_id, attempt=1, sequence=2).status_code

    replay = say(job_id, "Validating", agent_id, attempt=1, sequence=1, body=first)
    other = say(job_id, "Validating", agent_id, attempt=1, sequence=1, body={"message": "else"})
    gap = say(job_id, "Uploading", agent_id, attempt=1, sequence=4)

    assert 200 == replay.status_code
    assert 422 == other.status_code
    assert (409, "expected_sequence", 3) == (*code(gap), gap.json()["expected"])
    assert ["Pending", "Claimed", "Validating", "Running"] == names(project.submit.job(job_id))


def test_a_final_word_can_be_repeated(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")
    failed = {"message": "no", "detail": {"reason": "invalid_input"}}

    answers = [project.agent.say(job_id, "Failed", agent_id, attempt=1, sequence=1, body=failed) for _ in range(2)]

    assert [200, 200] == [answer.status_code for answer in answers]
    assert ["Pending", "Claimed", "Failed"] == names(answers[1].json())
    assert {"reason": "invalid_input"} == answers[1].json()["status_history"][-1]["detail"]


def test_a_release_can_be_repeated(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")

    answers = [project.agent.say(job_id, "Pending", agent_id, attempt=1, sequence=1) for _ in range(2)]

    assert [200, 200] == [answer.status_code for answer in answers]
    assert ["Pending", "Claimed", "Pending"] == names(answers[1].json())
    assert answers[1].json()["agent_id"] is None


def test_a_client_without_numbers_may_repeat_its_last_word(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()
    body = {"message": "mine"}

    answers = [project.agent.say(job_id, "Claimed", agent_id, body=body) for _ in range(2)]

    assert [200, 200] == [answer.status_code for answer in answers]
    assert ["Pending", "Claimed"] == names(answers[1].json())


def test_a_job_is_offered_to_agents_that_can_run_it(project: Project) -> None:
    project.submit.make_job(function="@overmind:inference")
    ours = ("@overmind:executors", "1.0.0")
    seen = {
        "says nothing": project.agent.register(),
        "has it": project.agent.register(modules=[ours]),
        "has another version": project.agent.register(modules=[("@overmind:executors", "0.9.0")]),
        "has another module": project.agent.register(modules=[("convert", "1.0.0")]),
        "has the job type": project.agent.register("job_type:inference", modules=[ours]),
        "has other job types": project.agent.register("job_type:judge_scoring", modules=[ours]),
    }

    available = {
        what: project.agent.read("GET", f"/api/v2/agents/{agent_id}/available_jobs")["total"]
        for what, agent_id in seen.items()
    }

    assert {
        "says nothing": 1,
        "has it": 1,
        "has another version": 0,
        "has another module": 0,
        "has the job type": 1,
        "has other job types": 0,
    } == available


@pytest.mark.parametrize(
    ("labels", "capabilities", "is_offered"),
    [
        ((), (), True),
        ((), ("label:gpu",), True),
        (("gpu",), (), False),
        (("gpu",), ("gpu",), False),
        (("gpu",), ("label:gpu",), True),
        (("gpu", "large"), ("label:gpu",), False),
        (("gpu", "large"), ("label:gpu", "label:large", "label:eu"), True),
    ],
)
def test_a_job_is_offered_to_agents_that_have_all_its_labels(
    project: Project, labels: tuple[str, ...], capabilities: tuple[str, ...], is_offered: bool
) -> None:
    job = project.submit.make_job(labels=labels)
    agent_id = project.agent.register(*capabilities)

    offered = project.agent.next_job(agent_id)

    assert sorted(labels) == job["labels"]
    assert (job["id"] if is_offered else None) == offered.get("id")


MODEL_OF = {"inference": {"target": {"model": "fast"}}, "judge_scoring": {"judge": {"models": ["fast", "good"]}}}


@pytest.mark.parametrize(
    ("job_type", "capabilities", "is_offered"),
    [
        ("inference", (), True),
        ("inference", ("label:gpu",), True),
        ("inference", ("model:fast",), True),
        ("inference", ("model:good",), False),
        ("judge_scoring", ("model:fast",), False),
        ("judge_scoring", ("model:fast", "model:good", "model:slow"), True),
    ],
)
def test_a_job_is_offered_to_agents_that_have_its_models_or_do_not_say(
    project: Project, job_type: str, capabilities: tuple[str, ...], is_offered: bool
) -> None:
    job_id = project.submit.make_job(MODEL_OF[job_type], function=f"@overmind:{job_type}")["id"]
    agent_id = project.agent.register(*capabilities)

    offered = project.agent.next_job(agent_id)

    assert (job_id if is_offered else None) == offered.get("id")
    assert "Pending" == project.submit.status(job_id)


@pytest.mark.parametrize(
    "parameters", [[], {"target": "fast"}, {"target": {"model": 5}}, {"judge": {"models": [[]]}}]
)
def test_what_names_no_model_is_offered_to_all(project: Project, parameters: Any) -> None:
    job_id = project.submit.make_job(parameters)["id"]

    assert job_id == project.agent.next_job(project.agent.register("model:other"))["id"]


def test_a_job_of_the_lab_dialect_is_bound_to_its_model_too(project: Project) -> None:
    fields = {"job_type": "inference", "result": {"parameters": MODEL_OF["inference"]}}
    job_id = project.submit.read("POST", "/api/jobs/", fields, status=201)["id"]

    offered = [project.agent.next_job(project.agent.register(f"model:{name}")) for name in ("good", "fast")]

    assert [None, job_id] == [job.get("id") for job in offered]


def test_other_parameters_may_name_another_model(project: Project) -> None:
    job_id = project.submit.make_job(MODEL_OF["inference"])["id"]
    agent_id = project.agent.register("model:good")
    before = project.agent.next_job(agent_id)
    body = project.submit.upload(json.dumps({"target": {"model": "good"}}).encode(), "parameters.json")

    project.submit.read("PUT", f"/api/v2/jobs/{job_id}", body)

    assert {"message": "no job"} == before
    assert job_id == project.agent.next_job(agent_id)["id"]


def test_an_agent_that_a_job_is_meant_for_needs_its_model_too(project: Project) -> None:
    job_id = project.submit.make_job(MODEL_OF["inference"])["id"]
    agent_id = project.agent.register("model:good")

    project.submit.read("PUT", f"/api/v2/jobs/{job_id}/assigned_agent", {"agent_id": agent_id})

    assert {"message": "no job"} == project.agent.next_job(agent_id)


def test_a_label_is_a_word(project: Project) -> None:
    model_id = project.submit.make_model()["id"]
    body = project.submit.upload(b"{}", "parameters.json")
    path = f"/api/v2/models/{model_id}/jobs?function_name=@overmind:inference"

    answers = [
        project.submit.call("POST", path + more, body) for more in ("&labels=a b", "&labels=", "&priority=x")
    ]

    assert [422] * 3 == [answer.status_code for answer in answers]
    assert ["query", "labels", 0] == answers[0].json()["detail"][0]["loc"]


def test_jobs_are_offered_by_priority_and_then_by_age(project: Project) -> None:
    """Over several kinds of jobs: which kind a job is of decides nothing."""
    told = (("inference", 0), ("judge_scoring", 5), ("inference", 5), ("inference", -1), ("judge_scoring", 0))
    jobs = [
        project.submit.make_job(function=f"@overmind:{name}", priority=priority)["id"] for name, priority in told
    ]
    agent_id = project.agent.register("lease")
    listed = project.agent.read("GET", f"/api/v2/agents/{agent_id}/available_jobs")["items"]

    offered = []
    for _ in told:
        job = project.agent.next_job(agent_id)
        project.agent.say(job["id"], "Claimed", agent_id, key=job["id"])
        offered.append(job["id"])

    assert [jobs[place] for place in (1, 2, 0, 4, 3)] == offered
    assert offered == [job["id"] for job in listed]


def test_a_released_job_keeps_its_place(project: Project) -> None:
    first, second = (project.submit.make_job()["id"] for _ in range(2))
    agent_id, other = project.agent.register("lease"), project.agent.register("lease")
    project.agent.say(first, "Claimed", agent_id, key="k")

    project.agent.say(first, "Pending", agent_id, attempt=1, sequence=1)

    assert [first, second] == [project.agent.next_job(asking)["id"] for asking in (agent_id, other)]


def test_a_function_is_offered_by_its_own_name(project: Project) -> None:
    job = project.submit.make_job(function="convert")
    project.submit.make_job(function="measure")
    agent_id = project.agent.register(modules=[("convert", "3.1")])

    offered = project.agent.next_job(agent_id)

    assert job["id"] == offered["id"]
    assert ("convert", "convert") == (offered["function"]["name"], offered["function"]["module_name"])


def test_a_job_for_another_agent_is_neither_offered_nor_granted(project: Project) -> None:
    mine, other = project.agent.register(), project.agent.register()
    job_id = project.submit.make_job(assigned_agent_id=mine)["id"]

    refused = project.agent.say(job_id, "Claimed", other)

    assert {"message": "no job"} == project.agent.next_job(other)
    assert (409, "claim_taken") == code(refused)
    assert job_id == project.agent.next_job(mine)["id"]


def test_an_assignment_can_be_changed_while_the_job_waits(project: Project) -> None:
    first, second = project.agent.register(), project.agent.register()
    job_id = project.submit.make_job(assigned_agent_id=first)["id"]
    path = f"/api/v2/jobs/{job_id}/assigned_agent"

    changed = project.submit.read("PUT", path, {"agent_id": second})
    removed = project.submit.read("DELETE", path)
    unknown = project.submit.call("PUT", path, {"agent_id": "nobody"})
    project.agent.say(job_id, "Claimed", first)
    late = project.submit.call("PUT", path, {"agent_id": second})

    assert (second, None) == (changed["assigned_agent_id"], removed["assigned_agent_id"])
    assert (422, 409) == (unknown.status_code, late.status_code)


def test_only_jobs_of_the_types_that_are_asked_for_are_offered(project: Project) -> None:
    """An agent whose slots are taken but for a small one asks for what fits."""
    agent_id = project.agent.register()
    project.submit.make_job(function="@overmind:prompt_tuning")
    light = project.submit.make_job(function="@overmind:inference")["id"]
    path = f"/api/v2/agents/{agent_id}/job"

    found = project.agent.read("GET", path, params={"job_type": ["inference", "judge_scoring"]})
    none = project.agent.read("GET", path, params={"job_type": "judge_scoring"})

    assert light == found["id"]
    assert {"message": "no job"} == none
