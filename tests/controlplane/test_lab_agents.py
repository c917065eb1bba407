"""Overmind Lab's agents (the AI programs) and datasets, and the jobs that work on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from plane_calls import Api, Project

AN_ID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"

LIST_FIELDS = {
    "id", "created_at", "name", "project", "slug", "updated_at", "agent_path", "analyzer_model",
    "dataset_has_expected_output", "dataset_size", "description", "display_name", "entrypoint_fn", "model",
    "status", "structure_weight", "tags", "tool_usage_weight", "total_points",
}  # fmt: skip
EVAL_SPEC = {
    "agent_description", "agent_path", "consistency_rules", "fixed_elements", "input_schema",
    "optimizable_elements", "output_fields", "structure_weight", "tool_config", "tool_usage_weight", "total_points",
}  # fmt: skip
DATASET_FIELDS = {
    "id", "created_at", "agent", "version", "num_datapoints", "name", "source", "generator_model", "policy_hash",
    "metadata",
}  # fmt: skip
# Every field that may be written, with a value that it takes.
WRITABLE: dict[str, Any] = {
    "name": "Triage", "slug": "triage-2", "display_name": "Triage agent", "description": "sorts", "status": "draft",
    "tags": ["a", 1], "is_deleted": False, "agent_path": "agents/triage.py", "entrypoint_fn": "main",
    "model": "m-1", "analyzer_model": "m-2", "input_schema": {"text": {"type": "string"}},
    "output_schema": {"a": 1}, "output_fields": {"label": {"type": "enum"}}, "structure_weight": 15.5,
    "tool_config": {"t": []}, "tool_usage_weight": 5, "total_points": 90,
    "consistency_rules": [], "optimizable_elements": ["prompt"],
    "fixed_elements": None, "evaluation_criteria": {"c": 1}, "proposed_criteria": {"d": 1},
    "tool_analysis": {"e": 1}, "policy_data": {"p": 1}, "policy_markdown": "# Policy",
    "dataset_size": 7, "dataset_has_expected_output": True,
    "dataset_input_keys": ["text"], "eval_dataset": {"cases": []}, "backtest_metadata": {"f": 1},
    "backtest_model_suggestions": [1], "improvement_metadata": {"g": 1}, "agent_description": "reads reviews",
    "active_dataset": None,
}  # fmt: skip


def make_agent(project: Project, slug: str = "triage", **fields: Any) -> Any:
    """A target agent."""
    told = {"name": "Triage", "slug": slug, "project": project.tokens.project_id, **fields}
    return project.submit.read("POST", "/api/agents/", told, status=201)


POINTS = [
    {"input": {"text": "good"}, "expected_output": "positive", "tags": ["easy"]},
    {"input": {"text": "bad"}, "expected_output": "negative", "persona": "angry"},
]


def make_dataset(project: Project, agent_id: str, points: Any = POINTS, **fields: Any) -> Any:
    """A dataset."""
    told = {"agent": agent_id, "datapoints": points, **fields}
    return project.submit.read("POST", "/api/datasets/", told, status=201)


# ------------------------------------------------------------------------------------------------- agents


def test_an_agent_has_the_published_fields(project: Project) -> None:
    made = make_agent(project)
    (listed,) = project.submit.read("GET", "/api/agents/")["results"]

    assert {"id", "created_at", "updated_at", "project", "user", *WRITABLE} == set(made)
    assert LIST_FIELDS | {"user"} == set(listed)
    assert listed == {name: made[name] for name in listed}
    assert made == project.submit.read("GET", f"/api/agents/{made['id']}/")


def test_every_field_is_kept(project: Project) -> None:
    agent_id = make_agent(project)["id"]

    patched = project.submit.read("PATCH", f"/api/agents/{agent_id}/", WRITABLE)

    assert WRITABLE == {name: patched[name] for name in WRITABLE}
    assert patched == project.submit.read("GET", f"/api/agents/{agent_id}/")


def test_a_patch_leaves_what_it_does_not_name(project: Project) -> None:
    agent_id = make_agent(project, description="sorts", tags=[1])["id"]

    patched = project.submit.read("PATCH", f"/api/agents/{agent_id}/", {"tags": None})

    assert ("sorts", None, "triage") == (patched["description"], patched["tags"], patched["slug"])


def test_a_put_needs_what_a_create_needs(project: Project) -> None:
    agent_id = make_agent(project)["id"]

    refused = project.submit.read("PUT", f"/api/agents/{agent_id}/", {"name": "x"}, status=400)

    assert {"slug": ["This field is required."], "project": ["This field is required."]} == refused


WRONG = [
    ({"name": ""}, "name", "This field may not be blank."),
    ({"name": "x" * 256}, "name", "Ensure this field has no more than 255 characters."),
    ({"slug": "a b"}, "slug", None),
    ({"slug": None}, "slug", "This field may not be null."),
    ({"project": AN_ID}, "project", f'Invalid pk "{AN_ID}" - object does not exist.'),
    ({"status": ""}, "status", "This field may not be blank."),
    ({"status": "x" * 21}, "status", "Ensure this field has no more than 20 characters."),
    ({"display_name": "x" * 513}, "display_name", "Ensure this field has no more than 512 characters."),
    ({"agent_path": "x" * 513}, "agent_path", "Ensure this field has no more than 512 characters."),
    ({"entrypoint_fn": "x" * 256}, "entrypoint_fn", "Ensure this field has no more than 255 characters."),
    ({"model": "x" * 129}, "model", "Ensure this field has no more than 128 characters."),
    ({"analyzer_model": 5}, "analyzer_model", "Not a valid string."),
    ({"description": "a\0b"}, "description", "Null characters are not allowed."),
    ({"structure_weight": "x"}, "structure_weight", "A valid number is required."),
    ({"is_deleted": "yes"}, "is_deleted", "Must be a valid boolean."),
    ({"dataset_size": 2**63}, "dataset_size", None),
    ({"active_dataset": AN_ID}, "active_dataset", f'Invalid pk "{AN_ID}" - object does not exist.'),
]


@pytest.mark.parametrize(("told", "field", "message"), WRONG)
def test_a_wrong_field_is_400_and_names_itself(
    project: Project, told: dict[str, Any], field: str, message: str | None
) -> None:
    agent_id = make_agent(project)["id"]
    whole = {"name": "x", "slug": "other", "project": project.tokens.project_id, **told}

    created = project.submit.call("POST", "/api/agents/", whole)
    patched = project.submit.call("PATCH", f"/api/agents/{agent_id}/", told)

    assert [400, 400] == [created.status_code, patched.status_code]
    if field != "dataset_size":  # an integer beyond 64 bits is no JSON to us
        assert [[field], [field]] == [list(created.json()), list(patched.json())]
    assert message is None or [message] == patched.json()[field]


def test_a_slug_is_taken_once_in_a_project(project: Project, stranger: Project) -> None:
    first = make_agent(project)
    second = make_agent(project, "other")
    told = {"name": "x", "slug": "triage", "project": project.tokens.project_id}

    created = project.submit.call("POST", "/api/agents/", told)
    renamed = project.submit.call("PATCH", f"/api/agents/{second['id']}/", {"slug": "triage"})
    make_agent(stranger)
    project.submit.call("DELETE", f"/api/agents/{first['id']}/")
    again = make_agent(project)

    body = {"detail": "This conflicts with an existing record.", "code": "conflict"}
    assert [(409, body), (409, body)] == [(one.status_code, one.json()) for one in (created, renamed)]
    assert "triage" == again["slug"]


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """What *count* calls at the same time give."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def test_of_many_that_ask_for_one_slug_at_once_one_gets_it(project: Project) -> None:
    told = {"name": "x", "slug": "triage", "project": project.tokens.project_id}

    def create() -> int:
        with closing(Api(project.url, project.tokens.submit)) as api:
            return api.call("POST", "/api/agents/", told).status_code

    answers = at_once(8, create)

    assert [201, *[409] * 7] == sorted(answers)


def test_versions_that_are_made_at_once_are_all_different(project: Project) -> None:
    told = {"agent": make_agent(project)["id"], "datapoints": POINTS}

    def create() -> Any:
        with closing(Api(project.url, project.tokens.submit)) as api:
            return api.read("POST", "/api/datasets/", told, status=201)["version"]

    assert list(range(1, 9)) == sorted(at_once(8, create))


def test_a_deleted_agent_is_gone(project: Project) -> None:
    path = f"/api/agents/{make_agent(project)['id']}/"

    deleted = project.submit.call("DELETE", path)

    assert (204, b"") == (deleted.status_code, deleted.content)
    assert 404 == project.submit.call("GET", path).status_code
    assert 0 == project.submit.read("GET", "/api/agents/")["count"]


@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        ({}, ["c", "b", "a"]),
        ({"name": "Triage"}, ["b", "a"]),
        ({"model": "m-1"}, ["a"]),
        ({"slug": "b"}, ["b"]),
        ({"status": "draft"}, ["b"]),
        ({"search": "TRI"}, ["b", "a"]),
        ({"search": "nothing"}, []),
        ({"project": AN_ID}, []),
        ({"ordering": "slug"}, ["a", "b", "c"]),
        ({"ordering": "-name,slug"}, ["a", "b", "c"]),
        ({"page_size": 2}, ["c", "b"]),
        ({"page_size": 2, "page": 2}, ["a"]),
    ],
)
def test_a_list_of_agents_is_filtered_and_ordered(
    project: Project, query: dict[str, Any], slugs: list[str]
) -> None:
    make_agent(project, "a", model="m-1")
    make_agent(project, "b", status="draft")
    make_agent(project, "c", name="Other")

    found = project.submit.read("GET", "/api/agents/", params=query)["results"]

    assert slugs == [agent["slug"] for agent in found]


def test_the_eval_spec_has_every_key_whatever_is_known(project: Project) -> None:
    bare = make_agent(project, "bare", description="sorts")
    full = make_agent(project, "full", **{name: WRITABLE[name] for name in EVAL_SPEC})

    specs = [project.submit.read("GET", f"/api/agents/{one['id']}/eval_spec/") for one in (bare, full)]

    assert [EVAL_SPEC, EVAL_SPEC] == [set(spec) for spec in specs]
    assert ("sorts", "", 20.0, 0.0, 100.0) == (
        specs[0]["agent_description"],
        specs[0]["agent_path"],
        specs[0]["structure_weight"],
        specs[0]["tool_usage_weight"],
        specs[0]["total_points"],
    )
    assert {name: WRITABLE[name] for name in EVAL_SPEC} == specs[1]


# ----------------------------------------------------------------------------------------------- datasets


def test_a_dataset_has_the_published_fields_and_its_datapoints(project: Project) -> None:
    agent = make_agent(project)

    made = make_dataset(project, agent["id"], name="reviews", metadata={"a": 1}, policy_hash="f" * 64)
    (listed,) = project.submit.read("GET", "/api/datasets/")["results"]

    assert DATASET_FIELDS | {"datapoints"} == set(made)
    assert listed == {name: made[name] for name in DATASET_FIELDS}
    assert made == project.submit.read("GET", f"/api/datasets/{made['id']}/")
    assert (1, 2, "seed", {"a": 1}) == (made["version"], made["num_datapoints"], made["source"], made["metadata"])
    blank = {"order": 0, "persona": "", "tags": None}
    expected = [{**blank, "order": position, **point} for position, point in enumerate(POINTS)]
    assert expected == [{name: value for name, value in one.items() if name != "id"} for one in made["datapoints"]]


def test_versions_count_up_for_each_agent_and_are_never_given_twice(project: Project) -> None:
    first, second = make_agent(project, "a")["id"], make_agent(project, "b")["id"]

    made = [make_dataset(project, agent_id) for agent_id in (first, first, second)]
    project.submit.call("DELETE", f"/api/datasets/{made[1]['id']}/")
    after = make_dataset(project, first)

    assert [1, 2, 1, 3] == [dataset["version"] for dataset in (*made, after)]


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_a_dataset_does_not_change(project: Project, verb: str) -> None:
    made = make_dataset(project, make_agent(project)["id"])

    answer = project.submit.call(verb, f"/api/datasets/{made['id']}/", {"name": "other"})

    assert (405, ["detail"]) == (answer.status_code, list(answer.json()))
    assert made == project.submit.read("GET", f"/api/datasets/{made['id']}/")


def test_a_new_version_is_in_use_unless_it_says_otherwise(project: Project) -> None:
    agent_id = make_agent(project)["id"]
    read = lambda: project.submit.read("GET", f"/api/agents/{agent_id}/")  # noqa: E731 - asked three times

    first = make_dataset(project, agent_id)
    after_first = read()
    second = make_dataset(project, agent_id, [{"input": "x"}], make_active=False)
    after_second = read()
    activated = project.submit.read("POST", f"/api/datasets/{second['id']}/activate/")
    after_switch = read()

    shown = ("active_dataset", "dataset_size", "dataset_has_expected_output", "dataset_input_keys")
    assert [first["id"], 2, True, ["text"]] == [after_first[name] for name in shown]
    assert after_first["active_dataset"] == after_second["active_dataset"]
    assert second == activated
    assert [second["id"], 1, False, []] == [after_switch[name] for name in shown]


def test_a_deleted_dataset_is_gone_and_no_longer_in_use(project: Project) -> None:
    agent_id = make_agent(project)["id"]
    path = f"/api/datasets/{make_dataset(project, agent_id)['id']}/"

    deleted = project.submit.call("DELETE", path)

    assert (204, b"") == (deleted.status_code, deleted.content)
    answers = [project.submit.call("GET", path + part).status_code for part in ("", "datapoints/")]
    assert [404, 404, 404] == [*answers, project.submit.call("POST", path + "activate/").status_code]
    assert None is project.submit.read("GET", f"/api/agents/{agent_id}/")["active_dataset"]


def test_datapoints_come_in_pages_in_their_order(project: Project) -> None:
    points = [{"input": number, "order": order} for number, order in enumerate((2, 0, 1))]
    path = f"/api/datasets/{make_dataset(project, make_agent(project)['id'], points)['id']}/datapoints/"

    first = project.submit.read("GET", path, params={"page_size": 2})
    second = project.submit.read("GET", first["next"].removeprefix(project.url))

    assert ([1, 2], [0]) == tuple([point["input"] for point in page["results"]] for page in (first, second))
    assert (3, None) == (second["count"], second["next"])


WRONG_DATASETS = [
    ({"agent": AN_ID}, "agent"),
    ({"agent": None}, "agent"),
    ({"datapoints": None}, "datapoints"),
    ({"datapoints": {}}, "datapoints"),
    ({"datapoints": []}, "datapoints"),
    ({"datapoints": [{"expected_output": 1}]}, "datapoints"),
    ({"datapoints": ["text"]}, "datapoints"),
    ({"datapoints": [{"input": 1, "order": -1}]}, "datapoints"),
    ({"datapoints": [{"input": 1, "persona": "x" * 129}]}, "datapoints"),
    ({"make_active": "yes"}, "make_active"),
    ({"name": "x" * 256}, "name"),
    ({"generator_model": "x" * 129}, "generator_model"),
    ({"policy_hash": "x" * 65}, "policy_hash"),
    ({"source": ""}, "source"),
]


@pytest.mark.parametrize(("told", "field"), WRONG_DATASETS)
def test_a_wrong_dataset_is_400_and_makes_nothing(project: Project, told: dict[str, Any], field: str) -> None:
    body = {"agent": make_agent(project)["id"], "datapoints": POINTS, **told}

    refused = project.submit.read("POST", "/api/datasets/", body, status=400)

    assert [field] == list(refused)
    assert 0 == project.submit.read("GET", "/api/datasets/")["count"]


def test_wrong_datapoints_are_named_by_their_place(project: Project) -> None:
    points = [{"input": 1}, {"output": 2}, {"input": 3, "order": "x"}]
    body = {"agent": make_agent(project)["id"], "datapoints": points}

    refused = project.submit.read("POST", "/api/datasets/", body, status=400)

    assert [
        "1: input: This field is required.",
        "2: order: A valid integer is required.",
    ] == refused["datapoints"]


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ({}, [1, 3, 2, 1]),
        ({"source": "synthetic"}, [2]),
        ({"generator_model": "g"}, [3]),
        ({"version": 2}, [2]),
        ({"version_min": 2}, [3, 2]),
        ({"version_max": 2}, [1, 2, 1]),
        ({"search": "NIGHT"}, [2]),
        ({"ordering": "version"}, [1, 1, 2, 3]),
        ({"ordering": "-num_datapoints,version"}, [1, 1, 3, 2]),
    ],
)
def test_a_list_of_datasets_is_filtered_and_ordered(
    project: Project, query: dict[str, Any], versions: list[int]
) -> None:
    first, second = make_agent(project, "a")["id"], make_agent(project, "b")["id"]
    make_dataset(project, first)
    make_dataset(project, first, [{"input": 1}], source="synthetic", name="nightly")
    make_dataset(project, first, generator_model="g")
    make_dataset(project, second)

    found = project.submit.read("GET", "/api/datasets/", params=query)["results"]
    of_first = project.submit.read("GET", "/api/datasets/", params={"agent": first})["count"]

    assert versions == [dataset["version"] for dataset in found]
    assert 3 == of_first


@pytest.mark.parametrize("version", ["x", "1.5", 2**31, -(2**31) - 1, 10**30])
def test_a_version_that_is_no_version_is_400(submitter: Api, version: Any) -> None:
    refused = submitter.read("GET", "/api/datasets/", params={"version": version}, status=400)

    assert ["version"] == list(refused)


def test_another_projects_agent_takes_no_dataset(project: Project, stranger: Project) -> None:
    body = {"agent": make_agent(stranger)["id"], "datapoints": POINTS}

    refused = project.submit.read("POST", "/api/datasets/", body, status=400)

    assert {"agent": [f'Invalid pk "{body["agent"]}" - object does not exist.']} == refused


# --------------------------------------------------------------------------------- datasets as jobs' input


def make_job(api: Api, parameters: Any, status: int = 201) -> Any:
    """An inference job with these parameters."""
    body = {"job_type": "inference", "status": "pending", "result": {"parameters": parameters}}
    return api.read("POST", "/api/jobs/", body, status=status)


def rows_of(project: Project, job_id: str) -> list[Any]:
    """The rows that an agent finds in the job's input file."""
    job = project.agent.job(job_id)
    assert "model" == job["input"]
    revision = project.agent.read("GET", f"/api/v2/models/{job['model_id']}")["file"]["revisions"][-1]
    assert "dataset.jsonl" == revision["name"]
    return [json.loads(line) for line in project.agent.get_blob(revision["content_token"]["sha"]).splitlines()]


def test_a_job_that_names_a_dataset_has_its_datapoints_as_input(project: Project) -> None:
    dataset = make_dataset(project, make_agent(project)["id"])

    job = make_job(project.submit, {"dataset_id": dataset["id"], "target": {"model": "m"}})

    expected = [
        {
            "id": point["id"],
            "input": point["input"],
            "expected_output": point["expected_output"],
            "metadata": {name: point[name] for name in ("order", "persona", "tags")},
        }
        for point in dataset["datapoints"]
    ]
    assert expected == rows_of(project, job["id"])
    assert dataset["id"] == job["result"]["parameters"]["dataset_id"]


@pytest.mark.parametrize("dataset_id", [AN_ID, "mine", 5, {}])
def test_a_job_over_a_dataset_that_is_not_there_is_400(project: Project, dataset_id: Any) -> None:
    refused = make_job(project.submit, {"dataset_id": dataset_id}, status=400)

    assert ["result"] == list(refused)
    assert refused["result"][0].startswith("parameters.dataset_id: there is no dataset ")


def test_a_job_over_another_projects_dataset_is_400_like_an_unknown_one(
    project: Project, stranger: Project
) -> None:
    dataset_id = make_dataset(stranger, make_agent(stranger)["id"])["id"]

    refused = make_job(project.submit, {"dataset_id": dataset_id}, status=400)

    assert {"result": [f"parameters.dataset_id: there is no dataset {dataset_id}."]} == refused


def test_a_job_keeps_the_input_of_a_dataset_that_was_deleted(project: Project) -> None:
    dataset = make_dataset(project, make_agent(project)["id"])
    job = make_job(project.submit, {"dataset_id": dataset["id"]})

    project.submit.call("DELETE", f"/api/datasets/{dataset['id']}/")
    project.submit.read("PATCH", f"/api/jobs/{job['id']}/", {"prompt_slug": "later"})

    assert 2 == len(rows_of(project, job["id"]))


def test_a_waiting_job_that_names_another_dataset_gets_its_rows(project: Project) -> None:
    agent_id = make_agent(project)["id"]
    first, second = make_dataset(project, agent_id), make_dataset(project, agent_id, [{"input": "new"}])
    job_id = make_job(project.submit, {"dataset_id": first["id"]})["id"]
    path = f"/api/jobs/{job_id}/"

    project.submit.read("PATCH", path, {"result": {"parameters": {"dataset_id": second["id"]}}})
    switched = rows_of(project, job_id)
    refused = project.submit.read("PATCH", path, {"result": {"parameters": {"dataset_id": AN_ID}}}, status=400)
    project.submit.read("PATCH", path, {"result": {"parameters": {"items": [1]}}})

    assert ["new"] == [row["input"] for row in switched]
    assert ["result"] == list(refused)
    assert "none" == project.agent.job(job_id)["input"]
