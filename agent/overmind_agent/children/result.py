"""The last word of a child process, `result.json`: read with care, since the job's own code may have written it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from overmind_agent.errors import ExecutorError, InvalidInput, JobError, Stopped
from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import Result, ResultFile, StopReason, is_plain_name
from overmind_agent.ports import Workspace
from overmind_executors import strict_json

# What is said of as many files as a status may declare.
MOST_FILES: Final = 10_000
RESULT_BYTES: Final = 4 * 1024 * 1024
OUTCOME_BYTES: Final = 64 * 1024
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

# Work that was done in the moment of the wish to stop is not thrown away, unless nobody wants it any more.
MAY_END_ANYWAY: Final = frozenset({StopReason.AGENT_STOPPING, StopReason.TIMEOUT})


def has_ended(workspace: Workspace) -> bool:
    """Whether the work in *workspace* needs no child any more: it is done, or it failed."""
    try:
        read_result(workspace)
    except JobError:
        return workspace.result.is_symlink() or workspace.result.exists()
    except Stopped:
        return False
    return True


def read_result(workspace: Workspace) -> Result:
    """
    What the child left as its last word.

    Raises:
        JobError: the child says that the job failed, or what it left cannot be read.
        Stopped: it says that it was asked to end.
    """
    try:
        with open_plain(workspace.result) as file:
            found = strict_json.loads(file.read(RESULT_BYTES + 1))
        match found["status"]:
            case "done":
                if len(found["files"]) > MOST_FILES:
                    raise ValueError("too many files")
                files = tuple(_result_file(workspace, line) for line in found["files"])
                if len({file.name for file in files}) < len(files):
                    raise ValueError("a name twice")
                return Result(files, _outcome(found["outcome"]))
            case "failed":
                raise _failure(str(found["reason"]), str(found["message"]))
            case _:
                raise Stopped(StopReason.AGENT_STOPPING)
    except (OSError, strict_json.NotJson, KeyError, TypeError, ValueError) as error:
        raise ExecutorError("the job's result cannot be read", reason="invalid_result") from error


def _result_file(workspace: Workspace, line: Mapping[str, Any]) -> ResultFile:
    name, size_bytes, sha256 = str(line["name"]), line["size_bytes"], str(line["sha256"])
    if not is_plain_name(name):
        raise ValueError("not a plain name")
    if type(size_bytes) is not int or not 0 <= size_bytes < 2**53 or not _SHA256.fullmatch(sha256):
        raise ValueError("not a size and a digest")
    path = workspace.output / name
    # A file that is gone or was changed is found by its digest when it is uploaded; a wrong size is found here.
    if path.exists() and path.lstat().st_size != size_bytes:
        raise ValueError("not the size of the file")
    kinds = {"is_required": line.get("is_required") is not False, "is_model": line.get("is_model") is True}
    return ResultFile(name, path, size_bytes, sha256, **kinds)


def _outcome(found: Any) -> dict[str, Any]:
    outcome = dict(found)
    if len(strict_json.dumps(outcome).encode()) > OUTCOME_BYTES:
        raise ValueError("too large an outcome")
    return outcome


def _failure(reason: str, message: str) -> JobError:
    if reason == InvalidInput.reason:
        return InvalidInput(message)
    # The control plane takes no other form, and a failure that it refuses would never be known.
    return ExecutorError(message, reason=reason if _REASON.fullmatch(reason) else None)
