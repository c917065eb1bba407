"""
One call of a Python agent, a process of its own:
`python -P -m overmind_executors.programs.agent_call FOLDER MODULE:NAME`.

The row comes as JSON on standard input, the answer goes as JSON to standard output, which is put aside for it:
what the agent prints goes the way of standard error, into the job's log. `-P` keeps the agent's files from standing
in for the standard library's while ours starts; its folder is put on the path only to import it.
"""

from __future__ import annotations

import errno
import importlib
import os
import resource
import sys
from collections.abc import Sequence
from types import CoroutineType
from typing import Any, Final

from overmind_executors import strict_json

_STDOUT, _STDERR = 1, 2
_MAX_MESSAGE: Final = 500
# What the standard library says when the kernel gives it no thread; for a process it raises BlockingIOError.
_NO_THREAD: Final = "can't start new thread"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main(arguments: Sequence[str]) -> int:
    """Call it once; returns 0 also when it raised: that is in the answer."""
    folder, entry = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given = strict_json.loads(sys.stdin.buffer.read(), levels=strict_json.MAX_DEPTH + 1)
    answer = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    said = strict_json.dumps(_answer(folder, entry, given["input"])).encode()
    with os.fdopen(answer, "wb") as file:
        file.write(said)
    return 0


def _answer(folder: str, entry: str, given: Any) -> dict[str, Any]:
    module_name, _, function_name = entry.partition(":")
    sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except BaseException as error:
        return _failure("import_error", error)
    try:
        made = function(given)
        output = _awaited(made) if isinstance(made, CoroutineType) else made
    except BaseException as error:
        return _failure("crash", error)
    try:
        strict_json.loads(strict_json.dumps({"output": output}))
    except (TypeError, ValueError, RecursionError) as error:
        return _failure("invalid_response", error)
    return {"output": output}


def _awaited(made: CoroutineType[Any, Any, Any]) -> Any:
    import asyncio  # as long to import as all the rest together, and most agents are plain functions

    return asyncio.run(made)


def _failure(kind: str, error: BaseException) -> dict[str, Any]:
    """The traceback goes into the log, its last line into the answer."""
    sys.excepthook(type(error), error, error.__traceback__)
    text = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
    return {"kind": _limit_met(error) or kind, "message": text[:_MAX_MESSAGE]}


def _limit_met(error: BaseException) -> str | None:
    """The limit that the kernel has told the agent of."""
    if isinstance(error, MemoryError):
        return "memory_limit"
    if isinstance(error, BlockingIOError) or str(error) == _NO_THREAD:
        return "process_limit"
    return "disk_limit" if isinstance(error, OSError) and error.errno in _NO_ROOM else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
