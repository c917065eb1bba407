"""
`overmind-recount FOLDER`: are the figures of a result true to its rows?

The folder is a job's result as it was downloaded. Every figure of its summary and report is made again from the
rows in it, by the code that made it first, without a network and without what the job's host knew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.contract import InvalidParameters
from overmind_executors.report.content import paragraph, plain
from overmind_executors.result_files import MANIFEST

Recount = Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]
_ABSENT: Final = "absent"


def _inference() -> Recount:
    from overmind_executors.inference.recounting import recounted

    return recounted


def _uploaded_outputs() -> Recount:
    from overmind_executors.uploaded_outputs.recounting import recounted

    return recounted


def _judge_scoring() -> Recount:
    from overmind_executors.judge_scoring.recounting import recounted

    return recounted


def _model_backtesting() -> Recount:
    from overmind_executors.backtesting.recounting import recounted

    return recounted


def _prompt_tuning() -> Recount:
    from overmind_executors.tuning.recounting import recounted

    return recounted


def _function() -> Recount:
    from overmind_executors.functions.recounting import recounted

    return recounted


# What makes the figures of a job type again: what the folder says, and the same from its rows.
RECOUNTS: Final[Mapping[str, Callable[[], Recount]]] = {
    "inference": _inference,
    "judge_scoring": _judge_scoring,
    "model_backtesting": _model_backtesting,
    "prompt_tuning": _prompt_tuning,
    "uploaded_outputs_setup": _uploaded_outputs,
}


# What the readers of files may meet that nobody of ours has written.
_NO_RESULT: Final = (
    ArithmeticError,
    AttributeError,
    InvalidParameters,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class NothingToRecount(Exception):
    """The folder is no result, or one of a type whose figures are not made from its rows."""


def recount(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What the result in *folder* says, and the same figures from its rows: equal if and only if it is true to them.

    Raises:
        NothingToRecount: there is nothing to compare.
    """
    try:
        _must_be_files(folder)
        if not (folder / MANIFEST).exists():
            left = "; what a job left that failed or was canceled is none" if any(folder.glob("partial-*")) else ""
            raise NothingToRecount(f"{folder} is not a whole result: it has no {MANIFEST}{left}")
        manifest = strict_json.loads((folder / MANIFEST).read_bytes())
        job_type = manifest["job_type"]
        if manifest.get("is_function"):
            return _function()(folder)
        if job_type not in RECOUNTS:
            known = ", ".join(RECOUNTS)
            raise NothingToRecount(f"results of type {job_type!r} cannot be recounted; {known} and functions can")
        return RECOUNTS[job_type]()(folder)
    except _NO_RESULT as error:
        raise NothingToRecount(f"{folder} is not a whole result: {error or type(error).__name__}") from error


def _must_be_files(folder: Path) -> None:
    """
    Raises:
        NothingToRecount: there is something of which a reader might never see the end, such as a pipe.
    """
    for path in folder.iterdir():
        if not (path.is_file() or path.is_dir()):
            raise NothingToRecount(f"{folder} is not a whole result: {path.name!r} is no file")


def _differences(where: str, said: Any, again: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs within a figure of several parts, each by its place; the whole where the parts are others."""
    if isinstance(said, Mapping) and isinstance(again, Mapping) and said.keys() == again.keys():
        parts = [(f"{where}.{key}", said[key], again[key]) for key in said]
    elif isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
        parts = [(f"{where}.{place}", *both) for place, both in enumerate(zip(said, again, strict=True))]
    else:
        parts = []
    if not parts:
        yield where, said, again
    for name, one, other in parts:
        if one != other:
            yield from _differences(name, one, other)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when every figure is true to the rows, 1 when one is not, 64 when there is nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="overmind-recount", description="Make every figure of a result again from its rows, and compare."
    )
    parser.add_argument("folder", type=Path, help=f"a job's result files, with their {MANIFEST}")
    try:
        said, again = recount(parser.parse_args(arguments).folder)
    except NothingToRecount as error:
        print(f"overmind-recount: {paragraph(str(error))}", file=sys.stderr)
        return 64
    names = tuple(dict.fromkeys((*said, *again)))
    wrong = [name for name in names if said.get(name, _ABSENT) != again.get(name, _ABSENT)]
    for name in wrong:
        for where, one, other in _differences(name, said.get(name, _ABSENT), again.get(name, _ABSENT)):
            # Rows are anybody's text, and this is a terminal.
            told, found = plain(str(one)), plain(str(other))
            print(f"{plain(where)}: the summary says {told}, the lines say {found}")
    print(f"{len(names) - len(wrong)} of {len(names)} figures are those of the lines")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
