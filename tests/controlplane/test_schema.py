"""Our OpenAPI document, played against the server by schemathesis: whatever it makes of it, nothing is a 500."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from plane_calls import Project
from test_matrix import things

EXAMPLES = 8
# A call that is held open is asked to answer at once.
AT_ONCE = ("wait_s",)
# Refusals, successes and redirects that the server has words for; anything else is a fault.
EXPECTED = frozenset({200, 201, 202, 204, 301, 400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 416, 422, 431})


@pytest.mark.filterwarnings("ignore::DeprecationWarning:schemathesis", "ignore::DeprecationWarning:jsonschema")
def test_no_call_that_the_document_allows_or_forbids_is_a_500(project: Project) -> None:
    """Half of the calls name things that are there, so that they get past the 404."""
    import schemathesis  # takes a second, which only the worker that runs this has to spend

    document = project.submit.read("GET", "/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    made = things(project)
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {project.tokens.admin}"
    operations = [found.ok() for found in schema.get_all_operations()]
    faults: dict[str, Any] = {}

    # What deletes comes last, or there would be nothing left for the others to name.
    for operation in sorted(operations, key=lambda one: (one.method.upper() == "DELETE", one.path)):
        play(operation, project, session, made, faults)
    session.close()

    assert {} == faults
    assert len(operations) >= 75
    assert 200 == project.submit.call("GET", "/health").status_code


def play(operation: Any, project: Project, session: requests.Session, made: dict[str, str], faults: Any) -> None:
    """A few calls of one operation; what went wrong is noted in *faults*."""
    named = made | {"agent_id": made["target_agent_id"]} if operation.path.startswith("/api/agents/") else made
    count = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        nonlocal count
        count += 1
        if count % 2:
            case.path_parameters = {
                name: named.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        for name in AT_ONCE:
            if name in (case.query or {}):
                case.query[name] = 0
            if isinstance(case.body, dict) and name in case.body:
                case.body[name] = 0
        answer = case.call(base_url=project.url, session=session)
        if answer.status_code not in EXPECTED:
            faults[f"{operation.method.upper()} {operation.path}"] = (
                answer.status_code,
                answer.text[:500],
                repr(case.body)[:300],
                case.query,
                case.path_parameters,
            )

    call()
