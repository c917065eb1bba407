"""
The commands for the person who runs the host, from options to an exit code.

What is asked of a running daemon goes over its socket; what lies in the journal is read there, so that it can be
seen while no daemon runs. No command waits for longer than two seconds for one that stands still (`reload`: 30).

Exit codes on top of those of `cli`: 1 the daemon refused, 3 no daemon is running, as `systemctl status` says it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from overmind_agent.command_line import exit_codes
from overmind_agent.control import journal_reader, showing
from overmind_agent.control.client import NoAnswer, NotAllowed, NotRunning, ask
from overmind_agent.control.journal_reader import NoJournal, NoneYet, Reading, age_s
from overmind_agent.control.line import RELOAD_S, Refusal
from overmind_agent.control.plain_text import one_line
from overmind_config.state_place import state_dir
from overmind_config.toml_file import NoConfiguration, text_of

REFUSED, NOT_RUNNING, INTERRUPTED = 1, 3, 130
_CODES: Final[Mapping[str, int]] = {"config_refused": exit_codes.CONFIG, "not_allowed": exit_codes.NO_PERMISSION}
JOB_COLUMNS: Final = ("job", "type", "try", "status", "for", "lease", "progress")
OUTBOX_COLUMNS: Final = ("id", "job", "try", "status", "for", "state", "why")

Options = argparse.Namespace


def run(options: Options) -> int:
    """Do the command that *options* name; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that has no such letter gets its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _COMMANDS[options.function](options)
    except Refusal as error:
        return _fail(options, error.code, str(error), _CODES.get(error.code, REFUSED), error.problems)
    except NotRunning as error:
        return _fail(options, "not_running", str(error), NOT_RUNNING)
    except NotAllowed as error:
        return _fail(options, "not_allowed", str(error), exit_codes.NO_PERMISSION)
    except NoAnswer as error:
        return _fail(options, "no_answer", str(error), exit_codes.UNAVAILABLE)
    except NoneYet as error:
        return _fail(options, "not_running", str(error), NOT_RUNNING)
    except NoJournal as error:
        return _fail(options, "no_journal", str(error), exit_codes.CANT_CREATE)
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OK
    except KeyboardInterrupt:
        return INTERRUPTED


def _fail(options: Options, code: str, message: str, exit_code: int, problems: Sequence[str] = ()) -> int:
    if getattr(options, "json", False):
        _tell({"code": code, "message": message, "problems": list(problems)})
    for line in problems or [message]:
        say(line)
    return exit_code


def say(text: str) -> None:
    """A word to the person, beside the result."""
    print(f"overmind-agent: {one_line(text)}", file=sys.stderr)


def _tell(document: Mapping[str, Any]) -> None:
    print(json.dumps(document))


def place_of(options: Options) -> Path:
    """
    The state folder that *options* mean.

    Raises:
        Refusal: they name a configuration file that cannot be read, and with it nobody knows where.
    """
    if options.config is not None:
        try:
            text_of(options.config)
        except NoConfiguration as error:
            raise Refusal("config_refused", f"{options.config} {error}") from error
    return state_dir(getattr(options, "agent.state_dir", None), options.config)


# ------------------------------------------------------------------------------------------ how it is


def _status(options: Options) -> int:
    state = place_of(options)
    try:
        view = ask(state, "status")
    except NotRunning as error:
        return _status_of_journal(options, state, error)
    if options.json:
        _tell({"running": True, **view})
        return exit_codes.OK
    showing.pairs(showing.lines_of(view))
    if view["jobs"]:
        print()
        _job_table(view["jobs"])
    return exit_codes.OK


def _status_of_journal(options: Options, state: Path, error: NotRunning) -> int:
    reading = journal_reader.read(state)
    say(f"{error}; this is what its journal says")
    if options.json:
        _tell(_as_status(state, reading))
        return NOT_RUNNING
    waiting = [line for line in reading.outbox if line.why is None]
    rows = [
        ("agent", reading.agent_id or "never registered"),
        ("takes jobs", f"when it starts{_unless(reading.paused_at)}"),
        ("jobs", f"{len(reading.jobs)} to go on with"),
        ("outbox", f"{len(waiting)} waiting; {len(reading.outbox) - len(waiting)} parked"),
    ]
    showing.pairs(rows)
    return NOT_RUNNING


def _unless(paused_at: str | None) -> str:
    return f"; not then either: paused since {paused_at[:19]}Z" if paused_at else ""


def _as_status(state: Path, reading: Reading) -> dict[str, Any]:
    waiting = [line.posted_at for line in reading.outbox if line.why is None]
    return {
        "running": False,
        "state_dir": str(state),
        "agent_id": reading.agent_id,
        "paused_at": reading.paused_at,
        "jobs": [asdict(job) for job in reading.jobs],
        "outbox": {
            "waiting": len(waiting),
            "oldest_s": age_s(min(waiting)) if waiting else None,
            "parked": len(reading.outbox) - len(waiting),
        },
    }


def _jobs(options: Options) -> int:
    state = place_of(options)
    try:
        held = _all_jobs(state, ask(state, "status"))
        exit_code = exit_codes.OK
    except NotRunning as error:
        held = [asdict(job) for job in journal_reader.read(state).jobs]
        say(f"{error}; these are the jobs that its next start goes on with")
        exit_code = NOT_RUNNING
    if options.json:
        _tell({"running": exit_code == exit_codes.OK, "jobs": held})
    elif held:
        _job_table(held)
    else:
        say("no job is at work here")
    return exit_code


def _all_jobs(state: Path, view: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a running daemon: at work, and left by an earlier start, which wait for their slot."""
    held: list[Mapping[str, Any]] = list(view["jobs"])
    known = {job["job_id"] for job in held}
    try:
        left = [asdict(job) for job in journal_reader.read(state).jobs if job.job_id not in known]
    except NoJournal:
        left = []
    return [*held, *({**job, "state": "waiting", "status": None} for job in left)]


def _job_table(held: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        (
            job["job_id"][: showing.SHORT_ID],
            job["job_type"],
            job["attempt"],
            _status_word(job),
            showing.span(job["held_s"] if "held_s" in job else age_s(job["changed_at"])),
            showing.span(job.get("lease_left_s")),
            showing.how_far(job),
        )
        for job in held
    ]
    showing.table(JOB_COLUMNS, rows, folded=("type", "progress"))


def _status_word(job: Mapping[str, Any]) -> str:
    if job.get("stop_reason"):
        return "stopping"
    return "reporting" if job.get("is_ending") else str(job["status"] or job["state"]).lower()


# ------------------------------------------------------------------------------------------ what it is to do


def _order(verb: str, words: Callable[[Mapping[str, Any]], str]) -> Callable[[Options], int]:
    """A command that asks for *verb* and says what was answered in *words*."""

    def do(options: Options) -> int:
        answer = ask(place_of(options), verb, within_s=RELOAD_S if verb == "reload" else 2.0)
        _answered(options, answer, words(answer))
        return exit_codes.OK

    return do


def _answered(options: Options, answer: Mapping[str, Any], words: str) -> None:
    if options.json:
        _tell(answer)
    else:
        print(one_line(words))


def _drained(answer: Mapping[str, Any]) -> str:
    return f"draining: no new job; it ends when the present ones have ({answer['jobs']} now)"


def _reloaded(answer: Mapping[str, Any]) -> str:
    if not answer["applied"] and not answer["needs_restart"]:
        return "nothing has changed"
    applied = f"in force: {', '.join(answer['applied'])}" if answer["applied"] else "nothing is in force yet"
    left = answer["needs_restart"]
    return f"{applied}; after a restart: {', '.join(left)}" if left else applied


def _cancel(options: Options) -> int:
    state = place_of(options)
    job_id = the_one(options.job, [job["job_id"] for job in _all_jobs(state, ask(state, "status"))])
    answer = ask(state, "cancel", job_id=job_id)
    _answered(options, answer, f"job {job_id} {_END_OF.get(answer['stop_reason'], _ENDS_ALREADY)}".format(**answer))
    return exit_codes.OK


_END_OF: Final = {
    "host_request": "is being ended",
    None: "waits to be gone on with, and is ended then",
}
_ENDS_ALREADY: Final = "is being ended (it was being stopped before: {stop_reason})"


def the_one(wanted: str, known: Sequence[str]) -> str:
    """
    The id that *wanted* is or begins.

    Raises:
        Refusal: there is none, or more than one.
    """
    found = [job_id for job_id in known if job_id == wanted] or [
        j for j in known if wanted and j.startswith(wanted)
    ]
    if len(found) > 1:
        raise Refusal("ambiguous_job", f"{wanted} is the beginning of {len(found)} jobs; write more of it")
    if not found:
        raise Refusal("no_such_job", f"there is no job {wanted} here; overmind-agent jobs lists those at work")
    return found[0]


# ------------------------------------------------------------------------------------------ the outbox


def _outbox_list(options: Options) -> int:
    lines = journal_reader.read(place_of(options)).outbox
    if options.json:
        _tell({"outbox": [asdict(line) for line in lines]})
        return exit_codes.OK
    if not lines:
        say("nothing waits to be sent, and nothing is parked")
        return exit_codes.OK
    rows = [
        (
            line.position,
            line.job_id[: showing.SHORT_ID],
            line.attempt,
            line.status.lower(),
            showing.span(age_s(line.posted_at)),
            "waiting" if line.why is None else "parked",
            line.why,
        )
        for line in lines
    ]
    showing.table(OUTBOX_COLUMNS, rows, folded=("why",))
    return exit_codes.OK


def _outbox_retry(options: Options) -> int:
    if bool(options.positions) == options.all:
        options.parser.error("name what to send, as outbox list shows it, or --all")
    answer = ask(place_of(options), "retry", positions=None if options.all else options.positions)
    _answered(options, answer, f"{answer['retried']} to be sent once more")
    return exit_codes.OK


# ------------------------------------------------------------------------------------------ without the daemon


def _logs(options: Options) -> int:
    from overmind_agent.control.log_command import logs

    return logs(options, place_of(options))


def _capabilities(options: Options) -> int:
    from overmind_agent.control.config_commands import capabilities

    return capabilities(options)


def _config_show(options: Options) -> int:
    from overmind_agent.control.config_commands import show

    return show(options)


def _config_check(options: Options) -> int:
    from overmind_agent.control.config_commands import check

    return check(options)


_COMMANDS: Final[Mapping[str, Callable[[Options], int]]] = {
    "status": _status,
    "jobs": _jobs,
    "pause": _order("pause", lambda answer: f"paused since {answer['paused_at'][:19]}Z: no new job is taken"),
    "resume": _order("resume", lambda answer: "takes jobs again" if answer["was_paused"] else "it was not paused"),
    "drain": _order("drain", _drained),
    "reload": _order("reload", _reloaded),
    "cancel": _cancel,
    "logs": _logs,
    "outbox_list": _outbox_list,
    "outbox_retry": _outbox_retry,
    "capabilities": _capabilities,
    "config_show": _config_show,
    "config_check": _config_check,
}
