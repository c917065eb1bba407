"""What the service makes of an executor's `validate`, which is a third party's code in the agent's own process."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from overmind_agent.configuration.in_force import validate
from overmind_agent.errors import ExecutorError, JobError
from overmind_executors.contract import InvalidParameters

EXECUTOR = """
import sys
from overmind_executors.contract import InvalidParameters, Problem

class Odd:
    job_type = "odd"
    is_resumable = True

    def validate(self, parameters):
        match parameters["do"]:
            case "leave":
                sys.exit(3)
            case "break":
                raise RuntimeError("a row of the user's")
            case "refuse":
                raise InvalidParameters(Problem("do", "no"))

    def run(self, task, context):
        return None
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with that executor, installed for this test."""
    (tmp_path / "odd_executor.py").write_text(EXECUTOR)
    info = tmp_path / "odd_executor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-executor\nVersion: 1.0\n")
    points = """
        [overmind_agent.executors]
        odd = odd_executor:Odd
        """
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(("do", "name"), [("leave", "SystemExit"), ("break", "RuntimeError")])
def test_a_validate_that_breaks_fails_the_job_and_not_the_daemon(do: str, name: str) -> None:
    """By the kind of its error alone: the text may hold a row."""
    with pytest.raises(ExecutorError) as caught:
        validate("odd", {"do": do})

    assert f"the executor's validate broke: {name}" == str(caught.value)


@pytest.mark.usefixtures("odd")
def test_a_validate_that_refuses_is_listened_to() -> None:
    with pytest.raises(InvalidParameters, match="do: no"):
        validate("odd", {"do": "refuse"})


def test_a_job_type_that_nobody_does_is_the_jobs_failure() -> None:
    with pytest.raises(JobError) as caught:
        validate("tea_making", {})

    assert "unknown_job_type" == caught.value.reason
