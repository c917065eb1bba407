"""A process that is armed fails where it is told to, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from overmind_agent.testing import fail_points

PROGRAM = """
import os, sqlite3, sys, time
database = sqlite3.connect("database", isolation_level=None)
database.execute("CREATE TABLE t (x)")
for number in range(1, 6):
    try:
        os.mkdir(str(number))
        database.execute("BEGIN")
        database.execute("INSERT INTO t VALUES (?)", (number,))
        database.execute("COMMIT")
        print(number, flush=True)
    except (OSError, sqlite3.Error) as error:
        print(type(error).__name__, flush=True)
        if database.in_transaction:
            database.execute("ROLLBACK")
        if number == int(sys.argv[1]):
            time.sleep(0.3)
"""
# A plan, what the program says, and how it ends. The boundaries are a folder, a commit, a folder, a commit…
PLANS = {
    "0=kill": ("1 2 3 4 5", 0),
    "3=kill": ("1", -signal.SIGKILL),
    "3=EIO": ("1 OSError 3 4 5", 0),
    "4=EIO": ("1 OperationalError 3 4 5", 0),
    "3=EIO/0.2": ("1 OSError OSError 4 5", 0),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_process_fails_at_the_boundary_that_was_named(tmp_path: Path, plan: str) -> None:
    armed = fail_points.environment(plan, log=tmp_path / "boundaries")

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "3"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **armed},
        capture_output=True,
        text=True,
        check=False,
    )

    assert PLANS[plan] == (" ".join(ended.stdout.split()), ended.returncode), ended.stderr


@pytest.mark.parametrize("plan", ["kill", "3=nothing", "3=EIO/a while"])
def test_a_plan_that_is_none_is_refused(plan: str) -> None:
    with pytest.raises(ValueError, match=r"plan|int|float"):
        fail_points.environment(plan)


FORKING = """
import os, sys
def life():
    if os.fork() == 0:
        os.mkdir("made")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1])
ends = [life()]
os.rmdir("made")
os.environ.update(eval(sys.argv[1]))
ends.append(life())
print(ends)
"""


def test_a_process_that_is_forked_is_armed_by_its_own_environment_and_no_other_is(tmp_path: Path) -> None:
    """The second child of one that has been given the variables; the one before it and their parent are not."""
    child = fail_points.environment("1=kill", whose="job", log=tmp_path / "boundaries")

    ended = subprocess.run(
        [sys.executable, "-c", FORKING, repr(child)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **fail_points.nursery_environment()},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"[0, {-signal.SIGKILL}]" == ended.stdout.strip()
    assert ["1 os.mkdir made"] == (tmp_path / "boundaries").read_text().splitlines()
