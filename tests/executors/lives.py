"""
One life of a job's process, from its order to its end: started from scratch, or forked by a nursery that has
imported everything, as a daemon does it. A sweep over hundreds of lives cannot import everything for each.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from child_process import CLEAN_ENVIRONMENT, Child

from nurseries import opened
from overmind_agent.children import processes
from overmind_agent.children.nursery import Nursery
from overmind_agent.testing import fail_points
from overmind_executors.process.given import in_memory

PATIENCE_S: Final = 300  # a whole sweep takes long enough for the machine to have other work, too
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_WARM: Final = "warm"
# Built-in job types are imported by any nursery, but what these two load when they run is not.
_MODULE: Final = """
import overmind_executors.backtesting.job
import overmind_executors.tuning.gepa_search
import overmind_executors.tuning.job

class warm: pass
"""


class Live(Protocol):
    """How a life is lived."""

    def __call__(self, folder: Path, order: bytes, environment: Mapping[str, str]) -> int:
        """
        A process with that workspace, order and, on top of a clean one, environment; returns its exit code,
        negative for a signal. Safe from any thread.
        """


def started(folder: Path, order: bytes, environment: Mapping[str, str]) -> int:
    """Fills Live from scratch."""
    child = Child(folder, environment=environment)
    try:
        return child.send(order).wait(PATIENCE_S)
    finally:
        child.close()


@contextmanager
def forking(site: Path) -> Iterator[Live]:
    """
    Live over a nursery.

    Args:
        site: a folder of its own, in which a package is put that names what is to be imported.
    """
    _install(site)
    environment = fail_points.nursery_environment()
    environment["PYTHONPATH"] += f":{site}"
    with _as_the_agent(), opened({**environment, "OPENBLAS_NUM_THREADS": "1"}, [_WARM]) as nursery:

        def live(folder: Path, order: bytes, environment: Mapping[str, str]) -> int:
            return _forked(nursery, folder, order, {**CLEAN_ENVIRONMENT, **environment})

        yield live


def _forked(nursery: Nursery, folder: Path, order: bytes, environment: Mapping[str, str]) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    with in_memory(order) as given, (folder / "job.log").open("ab") as log, Path(os.devnull).open("wb") as events:
        descriptors = (given, log.fileno(), events.fileno())
        child = nursery.fork(environment, folder, nice=0, descriptors=descriptors)
    assert child is not None, "the nursery forked no child"
    has_ended = processes.has_ended(child, within_s=PATIENCE_S)
    processes.let_go(child)
    assert has_ended, f"it was not done within {PATIENCE_S} s"
    assert child.returncode is not None
    return child.returncode


def _install(site: Path) -> None:
    info = site / "warm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: warm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[overmind_agent.executors]\n{_WARM} = warm_executor:warm\n")
    (site / "warm_executor.py").write_text(_MODULE)


@contextmanager
def _as_the_agent() -> Iterator[None]:
    """This process adopts orphans, as the nursery wants it; and then it is as it was."""
    processes.guard_this_process()
    try:
        yield
    finally:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
