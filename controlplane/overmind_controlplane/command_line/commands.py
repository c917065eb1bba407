"""The `job` commands: what each does, once the command line is understood."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Final

from overmind_agent.jobs import FUNCTION_SCOPE
from overmind_agent.lifecycle import Status
from overmind_agent.signing import jws
from overmind_agent.signing.claims import Work
from overmind_agent.signing.keys import UnusableKey, read_key
from overmind_controlplane.command_line import display as job_display
from overmind_controlplane.command_line import facts as job_facts
from overmind_controlplane.command_line.client import JobClient, JobCommandError, as_typed
from overmind_controlplane.command_line.facts import Facts
from overmind_controlplane.dialects import JOB_TYPES
from overmind_controlplane.named_models import named_by
from overmind_executors import strict_json

POLL_S: Final = 0.5
OK, FAILED, USAGE, CONFIG, INTERRUPTED = 0, 1, 64, 78, 130
DAY_S: Final = 86_400.0


def submit(client: JobClient, arguments: argparse.Namespace) -> int:
    """Make a job; with `--wait`, see it to its end."""
    parameters = _read_parameters(arguments.parameters)
    if arguments.input is not None and not arguments.input.is_file():
        raise JobCommandError(f"--input {arguments.input}: there is no such file", USAGE)
    asks = {"labels": arguments.label, "priority": arguments.priority}
    asks = {name: value for name, value in asks.items() if value}
    job_id = client.submit(arguments.type, parameters, arguments.input, _signer(arguments), asks)
    _say_if_nobody_runs(client, arguments.type, parameters)
    if not arguments.wait:
        _say(json.dumps({"id": job_id}) if arguments.json else job_id)
        return OK
    return _follow(client, job_id)


def _signer(arguments: argparse.Namespace) -> Callable[[Work], str] | None:
    """Signs with the key of the command line; None without one."""
    path: Path | None = arguments.sign_with
    if path is None:
        return None
    if find_spec("joserfc") is None:
        raise JobCommandError("--sign-with needs more: pip install 'overmind-agent[signing]'", CONFIG)
    name = arguments.key_name or path.stem
    expires_at = int(time.time() + arguments.sign_days * DAY_S)
    try:
        key = read_key(path, to_sign=True)
        jws.sign({}, key, name, expires_at=expires_at)  # what is no key is found before anything is made
    except UnusableKey as error:
        raise JobCommandError(f"--sign-with: {error}", CONFIG) from error
    return lambda work: jws.sign(work.claims(), key, name, expires_at=expires_at)


def _say_if_nobody_runs(client: JobClient, job_type: str, parameters: Mapping[str, Any]) -> None:
    """A job that no agent takes waits without a word; its type or a model's name may be a slip of the pen."""
    has = client.announced()
    models = named_by(parameters) if job_type in JOB_TYPES else ()
    job_type = as_typed(job_type) if job_type.startswith(FUNCTION_SCOPE) else job_type
    for kind, wanted, known in (("type", {job_type}, has.types), ("model", set(models), has.models)):
        for name in sorted(wanted - known) if known else ():
            others = ", ".join(sorted(known or ()))
            told = (
                f"no agent of this project announces the {kind} {name}, only {others}: the job waits until one does"
            )
            sys.stderr.write(f"overmind-control-plane: {job_display.printable(told)}\n")


def list_jobs(client: JobClient, arguments: argparse.Namespace) -> int:
    """The newest jobs, those of a status or a type if asked."""
    try:
        statuses = job_facts.wanted(arguments.status) if arguments.status else frozenset(Status)
    except ValueError as error:
        raise JobCommandError(f"--status: {error}", USAGE) from None
    read = (job_facts.read(job) for job in client.jobs())
    found = (one for one in read if one.status in statuses and arguments.type in (None, one.job_type))
    jobs = list(islice(found, arguments.limit))
    if arguments.json:
        _say(json.dumps([job.as_json() for job in jobs]))
    elif jobs:
        _say(job_display.table(jobs))
    return OK


def show(client: JobClient, arguments: argparse.Namespace) -> int:
    """All of one job."""
    job = client.job(arguments.id)
    facts = job_facts.read(job)
    files = [_described(revision) for revision in client.result_files(job)]
    _say(json.dumps({**facts.as_json(), "files": files}) if arguments.json else job_display.page(facts, files))
    return OK


def watch(client: JobClient, arguments: argparse.Namespace) -> int:
    """A job's status and progress as they change, until it ends."""
    return _follow(client, arguments.id)


def cancel(client: JobClient, arguments: argparse.Namespace) -> int:
    """End a job."""
    facts = job_facts.read(client.cancel(arguments.id))
    _say(json.dumps(facts.as_json()) if arguments.json else f"{facts.id} {facts.status.value}")
    return OK


def files(client: JobClient, arguments: argparse.Namespace) -> int:
    """Download a job's files into a folder; each is checked against its digest before it gets its name."""
    found = client.result_files(client.job(arguments.id))
    if not found:
        sys.stderr.write("overmind-control-plane: the job has no files\n")
        if arguments.json:
            _say("[]")
        return OK
    arguments.folder.mkdir(parents=True, exist_ok=True)
    targets = _targets(found, arguments.folder)
    if not arguments.force and (there := [path for path, _ in targets if path.exists()]):
        raise JobCommandError(f"{there[0]} is there already; add --force to write over it")
    got = []
    for path, revision in targets:
        sha256 = client.download(revision, path)
        got.append({"name": path.name, "size_bytes": path.stat().st_size, "sha256": sha256, "path": str(path)})
    if arguments.json:
        _say(json.dumps(got))
    for line in () if arguments.json else got:
        _say(job_display.printable(f"{line['sha256']}  {line['size_bytes']:>10}  {line['path']}"))
    return OK


def run(command: Any, url: str, token: str, arguments: argparse.Namespace) -> int:
    """One command; its exit code."""
    try:
        with JobClient(url, token) as client:
            return int(command(client, arguments))
    except JobCommandError as error:
        sys.stderr.write(f"overmind-control-plane: {job_display.printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _follow(client: JobClient, job_id: str) -> int:
    """Ask again and again; 0 when the job completed, 1 when it ended otherwise."""
    pause = threading.Event()  # never set: only its wait is wanted
    with job_display.watcher() as shown:
        while True:
            facts: Facts = job_facts.read(client.job(job_id))
            shown.show(facts)
            if facts.is_final:
                return OK if facts.status is Status.COMPLETED else FAILED
            pause.wait(POLL_S)


def _read_parameters(path: Path | None) -> Mapping[str, Any]:
    try:
        raw = b"{}" if path is None else sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        parameters = strict_json.loads(raw)
    except OSError as error:
        raise JobCommandError(f"--parameters {path}: {error.strerror}", USAGE) from error
    except strict_json.NotJson as error:
        raise JobCommandError(f"--parameters {path}: {error}", USAGE) from error
    if not isinstance(parameters, dict):
        raise JobCommandError(f"--parameters {path}: a JSON object is needed", USAGE)
    return parameters


def _targets(found: list[Mapping[str, Any]], folder: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """Where each file goes. Names come from elsewhere: none leaves the folder; of two alike the later one stays."""
    named: dict[str, Mapping[str, Any]] = {}
    for revision in found:
        name = str(revision.get("name") or "").replace("\\", "/").rpartition("/")[2]
        safe = "".join(letter for letter in name if letter.isprintable()).lstrip(".")[:200]
        named[safe or f"file-{revision['id']}"] = revision
    return [(folder / name, revision) for name, revision in named.items()]


def _described(revision: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": revision.get("name"), "size_bytes": revision.get("size"), "revision_id": revision["id"]}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
