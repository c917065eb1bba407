"""
`overmind-agent logs`: what a job wrote, secrets masked, nothing in it that moves a cursor.

A running daemon is asked for each piece, for it knows every secret of this host, also those that came later. Where
none is running the file itself is read, with the secrets that the configuration names.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from overmind_agent.clock import SystemClock
from overmind_agent.command_line import exit_codes
from overmind_agent.control.client import NotRunning, ask
from overmind_agent.control.commands import say, the_one
from overmind_agent.control.line import Refusal
from overmind_agent.control.plain_text import of_a_log
from overmind_agent.logs.job_log import JobLog
from overmind_config.load import load
from overmind_config.problems import SettingsError
from overmind_config.redaction import Redactor

LOOK_EVERY_S: Final = 0.3
_NOTHING_YET: Final = "job {job_id} has written nothing yet"

# A piece of the log from a place on, and whether nothing will be added to it.
Piece = Callable[[int], tuple[bytes, bool]]


def logs(options: argparse.Namespace, state: Path) -> int:
    """Show the log of one job; returns the exit code."""
    job_id = the_one(options.job, _folders(state))
    pieces = _pieces(_piece_of(options, state, job_id), follow=options.follow)
    if options.lines is not None and not options.follow:
        text = b"".join(pieces).decode(errors="backslashreplace")
        if not text:
            say(_NOTHING_YET.format(job_id=job_id))
        # By line feeds alone, as `tail` does: a job that writes form feeds hides nothing.
        kept = deque(io.StringIO(text, newline="\n"), maxlen=min(options.lines, sys.maxsize))
        sys.stdout.write(of_a_log("".join(kept)))
        return exit_codes.OK
    is_empty = True
    for text in _texts(pieces):
        is_empty = is_empty and not text
        sys.stdout.write(of_a_log(text))
        sys.stdout.flush()
    if is_empty:
        say(_NOTHING_YET.format(job_id=job_id))
    return exit_codes.OK


def _folders(state: Path) -> list[str]:
    try:
        return [folder.name for folder in (state / "jobs").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise Refusal("not_allowed", f"{state} is another user's; ask as the agent's user or as root") from error
    except OSError as error:
        raise Refusal("log_refused", f"{state} cannot be read: {error.strerror or error}") from error


def _piece_of(options: argparse.Namespace, state: Path, job_id: str) -> Piece:
    def asked(at: int) -> tuple[bytes, bool]:
        answer = ask(state, "log", job_id=job_id, at=at)
        return base64.b64decode(answer["piece"]), bool(answer["is_over"])

    try:
        ask(state, "status")
    except NotRunning:
        return _read_here(options, state / "jobs" / job_id / "log.txt")
    return asked


def _read_here(options: argparse.Namespace, path: Path) -> Piece:
    try:
        secrets = load({}, config=options.config, needs_control_plane=True).settings.secrets()
    except SettingsError:
        say("the configuration cannot be read, so only what looks like a key is masked; config check says why")
        secrets = ()
    log = JobLog(path, Redactor(secrets))

    def read(at: int) -> tuple[bytes, bool]:
        try:
            return log.piece(at, is_final=True), True
        except FileNotFoundError:
            return b"", True
        except OSError as error:
            raise Refusal("log_refused", f"{path} cannot be read: {error.strerror or error}") from error

    return read


def _pieces(piece: Piece, *, follow: bool) -> Iterator[bytes]:
    """All of the log from its beginning; when it is to be followed, until nothing will be added to it."""
    clock = SystemClock(threading.Event())
    at = 0
    while True:
        found, is_over = piece(at)
        at += len(found)
        if found:
            yield found
        elif is_over or not follow:
            return
        else:
            clock.sleep(LOOK_EVERY_S)


def _texts(pieces: Iterator[bytes]) -> Iterator[str]:
    """The pieces as text; a letter that two of them share is put together."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
