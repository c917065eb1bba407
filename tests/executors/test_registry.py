"""Which executor does the work of which job type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from overmind_executors import registry


@pytest.mark.parametrize("job_type", registry.BUILT_IN)
def test_a_built_in_executor_is_the_one_for_its_job_type(job_type: str) -> None:
    assert job_type == registry.executor_for(job_type).job_type


def test_an_unknown_job_type_names_the_known_ones() -> None:
    with pytest.raises(registry.UnknownJobType) as caught:
        registry.executor_for("inferense")

    assert "no executor for job type 'inferense'; this host has inference, judge_scoring, model_backtesting" in str(
        caught.value
    )


def test_asking_for_the_names_loads_no_executor() -> None:
    """The daemon asks for them at its start, where every tenth of a second is felt."""
    code = (
        "import sys; from overmind_executors import registry; registry.job_types();"
        "print([name for name in ('requests', 'sqlite3', 'overmind_executors.inference') if name in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == said.stdout


def test_the_executors_can_be_asked_to_check_a_job_without_numpy_and_may_be_forked() -> None:
    """The daemon checks in its own process and forks the rest; what starts threads belongs into neither."""
    code = (
        "import os, sys; from overmind_executors import registry\n"
        "for job_type in registry.BUILT_IN: registry.preload(job_type)\n"
        "print([name for name in ('numpy', 'scipy', 'pandas', 'gepa') if name in sys.modules])\n"
        "print(len(os.listdir('/proc/self/task')))"
    )

    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n1\n" == said.stdout
