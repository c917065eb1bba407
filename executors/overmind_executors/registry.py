"""Which executor does the work of which job type: the built-in ones and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from typing import Any, Final

from overmind_executors.contract import ENTRY_POINT_GROUP, Executor


class UnknownJobType(LookupError):
    """No executor of that name is installed. The message names those that are."""


class BrokenExecutor(RuntimeError):
    """An installed executor cannot be loaded, or two packages claim one job type."""


def _inference() -> Executor[Any]:
    from overmind_executors.inference import InferenceExecutor

    return InferenceExecutor()


def _judge_scoring() -> Executor[Any]:
    from overmind_executors.judge_scoring import JudgeScoringExecutor

    return JudgeScoringExecutor()


def _uploaded_outputs() -> Executor[Any]:
    from overmind_executors.uploaded_outputs import UploadedOutputsExecutor

    return UploadedOutputsExecutor()


def _prompt_tuning() -> Executor[Any]:
    from overmind_executors.tuning import PromptTuningExecutor

    return PromptTuningExecutor()


def _model_backtesting() -> Executor[Any]:
    from overmind_executors.backtesting import BacktestingExecutor

    return BacktestingExecutor()


_OUR_DISTRIBUTION: Final = "overmind-agent"

# Functions, so that asking for the names imports none of them.
BUILT_IN: Final[Mapping[str, Callable[[], Executor[Any]]]] = {
    "inference": _inference,
    "judge_scoring": _judge_scoring,
    "uploaded_outputs_setup": _uploaded_outputs,
    "prompt_tuning": _prompt_tuning,
    "model_backtesting": _model_backtesting,
}

# What a built-in type cannot do without: its extra, and a module of each package in it.
NEEDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "prompt_tuning": ("tuning", ("gepa", "scipy")),
    "model_backtesting": ("stats", ("scipy",)),
}


def missing_for(job_type: str) -> str:
    """What has to be installed for *job_type*, as `pip` wants to hear it; empty when nothing has. Loads nothing."""
    extra, modules = NEEDS.get(job_type, ("", ()))
    return "" if all(find_spec(name) for name in modules) else f"pip install 'overmind-agent[{extra}]'"


def job_types() -> tuple[str, ...]:
    """Every job type that this installation can do, sorted. Loads nothing."""
    return tuple(sorted(BUILT_IN.keys() | {point.name for point in _installed()}))


def executor_for(job_type: str) -> Executor[Any]:
    """
    The executor for *job_type*; a built-in one wins over an installed one of the same name.

    Raises:
        UnknownJobType: there is none.
        BrokenExecutor: it cannot be loaded.
    """
    if job_type in BUILT_IN:
        if missing := missing_for(job_type):
            raise BrokenExecutor(f"job type {job_type!r} needs more than is installed here: {missing}")
        return BUILT_IN[job_type]()
    points = [point for point in _installed() if point.name == job_type]
    if not points:
        raise UnknownJobType(f"no executor for job type {job_type!r}; this host has {', '.join(job_types())}")
    if len({point.value for point in points}) > 1:
        raise BrokenExecutor(f"job type {job_type!r} is claimed by {', '.join(sorted(p.value for p in points))}")
    return _load(points[0])


def module_of(job_type: str) -> str:
    """The module that an installed executor for *job_type* comes from; empty for a built-in one, or for none."""
    found = {point.module for point in _installed() if point.name == job_type}
    return "" if job_type in BUILT_IN else ", ".join(sorted(found))


def preload(job_type: str) -> None:
    """Import the executor for *job_type*; that it is broken is told to whoever asks for it."""
    with suppress(BrokenExecutor, UnknownJobType):
        executor_for(job_type)
        version_of(job_type)


def version_of(job_type: str) -> str:
    """The version of the distribution that the executor for *job_type* comes from, as results name it."""
    return _our_version() if job_type in BUILT_IN else _version_on(tuple(sys.path), job_type)


@cache
def _our_version() -> str:
    return version(_OUR_DISTRIBUTION)


@cache  # reads all that the package says of itself
def _version_on(_path: tuple[str, ...], job_type: str) -> str:
    found = [point.dist.version for point in _installed() if point.name == job_type and point.dist]
    return found[0] if found else ""


def _installed() -> tuple[EntryPoint, ...]:
    return _installed_on(tuple(sys.path))


@cache  # a scan of every installed package; a new one is seen after a restart
def _installed_on(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _load(point: EntryPoint) -> Executor[Any]:
    # A third party's module may raise anything at all while it is imported.
    try:
        made = point.load()
        executor: Executor[Any] = made() if isinstance(made, type) else made
    except Exception as error:
        raise BrokenExecutor(
            f"executor {point.value} of job type {point.name!r} cannot be loaded: {error!r}"
        ) from error
    missing = [name for name in ("job_type", "is_resumable", "validate", "run") if not hasattr(executor, name)]
    if missing:
        raise BrokenExecutor(f"executor {point.value} of job type {point.name!r} lacks {', '.join(missing)}")
    return executor
