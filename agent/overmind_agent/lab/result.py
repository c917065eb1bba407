"""
What a worker writes into an Overmind Lab record.

A write replaces `result` as a whole, so everything here starts from what is there and adds to it: parameters,
counts and the keys of others stay as they are.

| written when | into `result` | into the record |
|---|---|---|
| claimed | `agent_run`, without `progress` | `status`, `celery_task_id` |
| validating, running, uploading | `progress`, `agent_run`; with uploading `files` | |
| completed | the outcome's keys, `agent_run` | `status`, the score fields; before it, the iterations |
| failed | `errors`, `agent_run` | `status` |
| canceled, given back | `agent_run` | `status` |

Source:
    Overmind Lab's published API reference for the fields; keys of `result` as its earlier backend wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.jobs import Progress, StatusUpdate
from overmind_agent.lab.wire import LabJob
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_executors import strict_json

MAX_ERRORS: Final = 10
MAX_MESSAGE_CHARS: Final = 2000
MAX_ENVELOPE_BYTES: Final = 64 * 1024

KEPT: Final = frozenset({"parameters", "validation_stats", "agent_run", "progress", "files", wire.ITERATIONS})
"""Keys of `result` that no outcome may replace."""

Body = dict[str, Any]


def claimed(found: LabJob, run: Mapping[str, Any]) -> Body:
    """What takes the job; *run* says who does, under which id and in which attempt."""
    result = {name: value for name, value in found.envelope.items() if name != "progress"}
    result["agent_run"] = {**run, "phase": Status.CLAIMED.value, "sequence": 0, "started_at": _now()}
    return {"status": "running", "celery_task_id": run["run_id"], "result": result}


def said(found: LabJob, update: StatusUpdate, refer: Callable[[str], str]) -> Body:
    """
    What says *update*.

    A record that is `running` already is not told so again: a cancel that came since it was read stays.

    Args:
        refer: where the result file of that name is kept.
    """
    result = found.envelope
    ends = not LIFECYCLE[update.status].is_held
    body: Body = {"result": result}
    if ends:
        body["status"] = LIFECYCLE[update.status].rest_name
    body |= _ADD.get(update.status, _nothing)(result, update)
    if (files := update.detail.get("files")) is not None:
        result["files"] = _files(files, refer)
    finished = {"finished_at": _now()} if ends else {}
    result["agent_run"] = {
        **found.run,
        "phase": update.status.value,
        "sequence": update.sequence,
        **finished,
    }
    return body


def iterations(found: LabJob, update: StatusUpdate) -> list[Body]:
    """The iterations that *update* brings and that are not listed yet."""
    told = (update.detail.get("outcome") or {}).get(wire.ITERATIONS)
    return unlisted(found, told if isinstance(told, list) else [])


def unlisted(found: LabJob, told: Sequence[Any]) -> list[Body]:
    """Those of *told* that are iterations and not listed yet, as they are sent."""
    ours = [one for one in told if isinstance(one, Mapping)]
    listed = found.listed
    return [
        {**{name: value for name, value in one.items() if value is not None}, "job": found.id}
        for one in ours
        if (one.get("order"), one.get("iteration_name")) not in listed
    ]


def at(found: LabJob, progress: Progress) -> Body:
    """What says how far the job is."""
    return {"result": {**found.envelope, "progress": progress.as_json()}}


def refused(found: LabJob, reason: str, message: str) -> Body:
    """What fails a job that nobody took."""
    result = found.envelope
    _add_error(result, reason, message)
    return {"status": "failed", "result": result}


# ------------------------------------------------------------------------------------------ by status


def _enter(result: Body, update: StatusUpdate) -> Body:
    result["progress"] = {"step": 0, "total_steps": 1, "step_name": update.status.value.lower()}
    return {}


def _complete(result: Body, update: StatusUpdate) -> Body:
    outcome = update.detail.get("outcome") or {}
    result |= {name: value for name, value in outcome.items() if name not in KEPT}
    if isinstance(result.get("errors"), list):
        result["errors"] = [_shortened(line) for line in result["errors"][:MAX_ERRORS]]
    _fit(result, [name for name in outcome if name not in KEPT])
    return wire.record_fields(outcome)


def _fail(result: Body, update: StatusUpdate) -> Body:
    reason = str(update.detail.get("reason") or "job_error")
    _add_error(result, reason, (update.message or reason).removeprefix(f"{reason}: "))
    return {}


def _give_back(result: Body, _update: StatusUpdate) -> Body:
    result.pop("progress", None)
    return {}


def _nothing(_result: Body, _update: StatusUpdate) -> Body:
    return {}


_ADD: Final[Mapping[Status, Callable[[Body, StatusUpdate], Body]]] = {
    Status.VALIDATING: _enter,
    Status.RUNNING: _enter,
    Status.UPLOADING: _enter,
    Status.COMPLETED: _complete,
    Status.FAILED: _fail,
    Status.PENDING: _give_back,
}
"""What each status adds to `result`; returns the fields that go beside it."""


# ------------------------------------------------------------------------------------------ keys


def _add_error(result: Body, reason: str, message: str) -> None:
    """Put an error before those that are there, of which the last ones go when there are too many."""
    before = result.get("errors")
    error = {"code": reason, "message": message, "retryable": False}
    result["errors"] = [_shortened(error), *(before if isinstance(before, list) else [])][:MAX_ERRORS]


def _shortened(error: Any) -> Any:
    if not isinstance(error, Mapping) or not isinstance(error.get("message"), str):
        return error
    return {**error, "message": error["message"][:MAX_MESSAGE_CHARS]}


def _files(files: Sequence[Mapping[str, Any]], refer: Callable[[str], str]) -> list[Body]:
    return [
        {"name": f["name"], "sha256": f["sha256"], "bytes": f["size_bytes"], "ref": refer(str(f["name"]))}
        for f in files
    ]


def _fit(result: Body, ours: Sequence[str]) -> None:
    """Leave out the longest of *ours* until the rest is short enough; the result files have them all."""
    sizes = {name: len(strict_json.canonical(value)) for name, value in result.items() if name != "parameters"}
    left_out: list[str] = []
    for name in sorted(ours, key=lambda name: sizes[name], reverse=True):
        if sum(sizes.values()) <= MAX_ENVELOPE_BYTES:
            break
        del sizes[name], result[name]
        left_out.append(name)
    if left_out:
        result["left_out"] = left_out


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
