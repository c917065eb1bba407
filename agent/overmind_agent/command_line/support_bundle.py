"""
`overmind-agent support-bundle`: what somebody needs who looks for a fault from afar, in one file of mode 0600.

Secrets are masked in all of it. What jobs work on is not in it: no parameters, no rows, no results, no job's log.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from overmind_agent import __version__
from overmind_agent.command_line import exit_codes
from overmind_agent.command_line.check import examine
from overmind_agent.configuration import checked as configuration
from overmind_agent.control import journal_reader
from overmind_agent.control.client import NoAnswer, NotAllowed, NotRunning, ask
from overmind_agent.control.commands import say
from overmind_agent.control.line import Refusal
from overmind_agent.telemetry import health_file
from overmind_config.load import load
from overmind_config.problems import SettingsError
from overmind_config.redaction import Redactor
from overmind_config.state_place import state_dir

MOST_FOLDERS: Final = 500
READ_ME: Final = """\
What overmind-agent support-bundle found, for whoever helps. Secrets are masked; look it through before you send it.

about.json      versions, the system, when this was made
check.json      what overmind-agent check finds
config.json     every key with its value and origin, and what is wrong
status.json     how the running agent is; not_running where there is none
diagnosis.json  where each of its threads is, and the last lines of its log
health.json     what it last said of its health
journal.json    jobs to go on with, statuses on their way; without their words
files.json      how much lies in the state folder

Not in it: parameters, rows, results and logs of jobs. An older log is in the journal of the service:
journalctl -u overmind-agent
"""


def support_bundle(flags: Mapping[str, Any], *, config: Path | None, output: Path | None, as_json: bool) -> int:
    """Write the file; returns the exit code."""
    at = datetime.now(UTC)
    path = output or Path(f"overmind-agent-support-{at:%Y%m%dT%H%M%SZ}.tar.gz")
    secrets = _secrets(flags, config)
    if secrets is None:
        say("the configuration cannot be read, so only what looks like a key is masked; config check says why")
    redactor = Redactor(secrets or ())
    texts = {f"{name}.json": _text(redactor.value(_tried(look))) for name, look in _looks(flags, config, at)}
    try:
        size_bytes = _write(path, {"README.txt": READ_ME, **texts}, at)
    except OSError as error:
        say(f"{path} cannot be made: {error.strerror or error}; name a new file with --output")
        return exit_codes.CANT_CREATE
    if as_json:
        _print(json.dumps({"file": str(path), "size_bytes": size_bytes, "holds": sorted(texts)}))
    else:
        _print(f"{path}: {size_bytes:,} bytes. Secrets are masked; look it through before you send it.")
    return exit_codes.OK


def _secrets(flags: Mapping[str, Any], config: Path | None) -> tuple[str, ...] | None:
    try:
        return load(flags, config=config).settings.secrets()
    except SettingsError:
        return None


def _looks(
    flags: Mapping[str, Any], config: Path | None, at: datetime
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is to be found out, by the name of its file."""
    state = state_dir(flags.get("agent.state_dir"), config)
    yield "about", lambda: _about(at)
    yield "check", lambda: [asdict(found) for found in examine(configuration.read(flags, config))]
    yield "config", lambda: _config(flags, config)
    yield "status", lambda: ask(state, "status")
    yield "diagnosis", lambda: ask(state, "diagnosis")
    yield "health", lambda: health_file.read(state)
    yield "journal", lambda: _journal(state)
    yield "files", lambda: _files(state)


def _tried(look: Callable[[], object]) -> object:
    """What *look* finds, or why it finds nothing: a fault is what this is made for."""
    try:
        return look()
    except SettingsError as error:
        return {"code": "config_refused", "problems": [str(problem) for problem in error.problems]}
    except NotRunning as error:
        return {"code": "not_running", "message": str(error)}
    except (NotAllowed, NoAnswer, Refusal, journal_reader.NoJournal, OSError) as error:
        return {"code": type(error).__name__, "message": str(error)}
    except Exception as error:  # whatever is broken, the rest is wanted
        return {"code": "bug", "message": f"{type(error).__name__}: {error}"}


def _about(at: datetime) -> Mapping[str, Any]:
    packages = {found.name: found.version for found in metadata.distributions()}
    return {
        "made_at": at.isoformat(),
        "version": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "distribution": configuration.host_os(),
        "user": os.geteuid(),
        "processors": len(os.sched_getaffinity(0)),
        "boot_s": round(time.clock_gettime(time.CLOCK_BOOTTIME)),
        "packages": dict(sorted(packages.items())),
    }


def _config(flags: Mapping[str, Any], config: Path | None) -> Mapping[str, Any]:
    loaded = load(flags, config=config, needs_control_plane=False)
    keys = [{"key": key, "value": value, "origin": origin} for key, value, origin in loaded.rows()]
    return {"file": str(loaded.file) if loaded.file else None, "keys": keys}


def _journal(state: Path) -> Mapping[str, Any]:
    found = journal_reader.read(state)
    outbox = [{name: value for name, value in asdict(line).items() if name != "message"} for line in found.outbox]
    return {
        "agent_id": found.agent_id,
        "paused_at": found.paused_at,
        "jobs": [asdict(job) for job in found.jobs],
        "outbox": outbox,
    }


def _files(state: Path) -> list[Mapping[str, Any]]:
    """What lies at the top of *state*, and how much in each job's folder; no names that a job has chosen."""
    jobs = sorted((state / "jobs").iterdir()) if (state / "jobs").is_dir() else []
    return [_size(path) for path in [*sorted(state.iterdir()), *jobs[:MOST_FOLDERS]]]


def _size(path: Path) -> Mapping[str, Any]:
    found = path.lstat()
    told = {"path": str(path), "mode": oct(found.st_mode), "owner": found.st_uid, "changed_s": int(found.st_mtime)}
    if path.is_symlink() or not path.is_dir():
        return {**told, "size_bytes": found.st_size}
    sizes = list(_sizes_in(path))
    return {**told, "files": len(sizes), "size_bytes": sum(sizes)}


def _sizes_in(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it went away, or is somebody else's
                yield Path(place, name).lstat().st_size


def _text(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"


def _write(path: Path, texts: Mapping[str, str], at: datetime) -> int:
    """A new archive with *texts*; its size. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in texts.items():
            data = text.encode("utf-8", "backslashreplace")
            about = tarfile.TarInfo(f"{path.name.partition('.')[0]}/{name}")
            about.size, about.mode, about.mtime = len(data), 0o600, at.timestamp()
            archive.addfile(about, io.BytesIO(data))
    return path.stat().st_size


def _print(line: str) -> None:
    print(line)  # noqa: T201 - the result
