"""What may be asked of the daemon through its socket. What a message holds is checked here."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from overmind_agent.control.line import Refusal
from overmind_agent.control.server import Verb
from overmind_agent.control.view import AgentView, as_json
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.host.intake import Intake
from overmind_agent.jobs import StopReason
from overmind_agent.logs.job_log import JobLog
from overmind_agent.ports import Outbox

DRAIN: Final = "the command drain"
_AN_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


def verbs(
    *,
    snapshot: Callable[[], AgentView],
    intake: Intake,
    held_jobs: HeldJobs,
    waiting: Callable[[], Collection[str]],
    outbox: Outbox,
    drain: Callable[[str], object],
    reload: Callable[[], Mapping[str, Any]],
    open_log: Callable[[str], JobLog],
    diagnosis: Callable[[], Mapping[str, Any]],
) -> dict[str, Verb]:
    """
    The daemon's verbs by name.

    Args:
        waiting: the ids of jobs that an earlier start left, and that are to be gone on with; those at work may be
            among them.
        drain: as the first SIGTERM does.
        reload: reads the configuration anew; raises Refusal when it is wrong.
        open_log: the log of the job of that id, which need not be there.
        diagnosis: what a person needs who looks for a fault of the daemon's; secrets masked.
    """

    def paused(_said: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"paused_at": intake.pause().isoformat()}

    def resumed(_said: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"was_paused": intake.resume()}

    def drained(_said: Mapping[str, Any]) -> Mapping[str, Any]:
        drain(DRAIN)
        return {"jobs": len(held_jobs.all())}

    return {
        "status": lambda _said: as_json(snapshot()),
        "pause": paused,
        "resume": resumed,
        "drain": drained,
        "cancel": lambda said: _cancel(held_jobs, waiting, said.get("job_id")),
        "retry": lambda said: _retry(outbox, said.get("positions")),
        "reload": lambda _said: reload(),
        "diagnosis": lambda _said: diagnosis(),
        "log": lambda said: _log_piece(held_jobs, open_log, said),
    }


def _cancel(held_jobs: HeldJobs, waiting: Callable[[], Collection[str]], job_id: object) -> Mapping[str, Any]:
    if not isinstance(job_id, str) or (held_jobs.find(job_id) is None and job_id not in waiting()):
        raise Refusal("no_such_job", f"job {job_id} is not at work here; overmind-agent jobs lists those that are")
    return {"job_id": job_id, "stop_reason": held_jobs.ask_to_stop(job_id, StopReason.HOST_REQUEST)}


def _log_piece(
    held_jobs: HeldJobs, open_log: Callable[[str], JobLog], said: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What can be shown of a job's log from a place on, masked; Base64."""
    job_id, at = said.get("job_id"), said.get("at")
    if not isinstance(job_id, str) or not _AN_ID.fullmatch(job_id) or type(at) is not int or at < 0:
        raise Refusal("bad_request", "a job_id and a place in its log are needed")
    is_over = held_jobs.find(job_id) is None  # asked before the piece is read: nothing is added after that
    try:
        piece = open_log(job_id).piece(at, is_final=is_over)
    except FileNotFoundError:
        piece = b""
    except OSError as error:
        raise Refusal(
            "log_refused", f"the log of job {job_id} cannot be read: {error.strerror or error}"
        ) from error
    return {"piece": base64.b64encode(piece).decode(), "is_over": is_over}


def _retry(outbox: Outbox, positions: object) -> Mapping[str, Any]:
    """Each of *positions*, or all that is parked for None."""
    parked = [line.position for line in outbox.parked()]
    if positions is None:
        wanted = parked
    elif isinstance(positions, list) and all(type(number) is int for number in positions):
        wanted = positions
    else:
        raise Refusal("bad_request", "positions must be a list of numbers, or null for all")
    unknown = [number for number in wanted if number not in parked]
    if unknown:
        raise Refusal(
            "not_parked",
            f"nothing is parked as {', '.join(map(str, unknown))}; overmind-agent outbox list shows what is",
        )
    for number in wanted:
        outbox.retry(number)  # what follows of the same attempt comes along, and is not parked any more
    return {"retried": len(wanted)}
