"""
Python imports this before any program when its folder is on PYTHONPATH: the one place that reads the variables of
`overmind_agent.testing.fail_points`.
"""

import importlib.util
import os
import sys
from pathlib import Path

PREFIX = "OVERMIND_FAIL_POINTS"
WHOSE = f"{PREFIX}_WHOSE"


def _arm() -> None:
    spec = importlib.util.spec_from_file_location("fail_points", Path(__file__).parent.parent / "fail_points.py")
    assert spec is not None  # noqa: S101 - it is a file
    assert spec.loader is not None  # noqa: S101 - of source
    fail_points = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = fail_points
    spec.loader.exec_module(fail_points)
    log = os.environ.get(f"{PREFIX}_LOG")
    fail_points.arm(fail_points.Plan.read(os.environ[PREFIX]), Path(log) if log else None)


def _arm_if_told() -> None:
    """By its own environment, which a process that forks another one has replaced before."""
    if PREFIX in os.environ:
        _arm()


if PREFIX in os.environ:
    is_job = any("overmind_executors" in word for word in sys.orig_argv)
    if os.environ.get(WHOSE) == ("job" if is_job else "agent"):
        _arm()
elif os.environ.get(WHOSE) == "forked":
    os.register_at_fork(after_in_child=_arm_if_told)
