"""A real control plane in a process of its own, for the tests of whatever talks to one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn

from overmind_agent.children.processes import MARK
from overmind_controlplane import cli
from overmind_controlplane.access import make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.plane import open_database
from overmind_controlplane.record.database import Database

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
COMMAND_S = 60.0
DATABASE_VARIABLE = "OVERMIND_DATABASE_URL"
_LISTENING = "listening on "
_PRELOADED = [
    "alembic.command",
    "overmind_controlplane.serving.server",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
]


@cache
def _forked() -> ForkServerContext:
    """
    Servers are forked from a process that has imported all that they need, which would else take each a second.

    It bears the mark of a job that nobody has: a test of what jobs leave behind takes it for none of those.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    os.environ[MARK] = "fork server"
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[MARK]
    return context


@dataclass(frozen=True)
class Tokens:
    """A project and one token for each role."""

    project_id: str
    submit: str
    agent: str
    admin: str


@dataclass
class ControlPlaneProcess:
    """A running server. `kill` and `stop` are safe to repeat; `restart` comes back on the same port and data."""

    data: Path
    lease_s: float
    tokens: Tokens
    arguments: tuple[str, ...] = ()
    database_url: str | None = None
    name: str = "server"
    url: str = ""
    process: BaseProcess | None = field(default=None, repr=False)
    _database: Database | None = field(default=None, repr=False)

    @property
    def submit_token(self) -> str:
        """May create models and jobs, and cancel."""
        return self.tokens.submit

    @property
    def agent_token(self) -> str:
        """May register agents, claim and report."""
        return self.tokens.agent

    @property
    def admin_token(self) -> str:
        """May do both."""
        return self.tokens.admin

    @property
    def environment(self) -> dict[str, str]:
        """What the server's command line, and any other command on its database, is started with."""
        return dict(os.environ) | ({DATABASE_VARIABLE: self.database_url} if self.database_url else {})

    @property
    def log(self) -> str:
        """What the server wrote to its standard error."""
        return self._log_file.read_text()

    @property
    def _log_file(self) -> Path:
        return self.data.parent / f"{self.name}.log"

    def start(self, port: int = 0) -> None:
        """Start and wait until it listens."""
        arguments = ["serve", "--data", str(self.data), "--port", str(port), "--lease-s", str(self.lease_s)]
        said, output = _forked().Pipe(duplex=False)
        told = ([*arguments, *self.arguments], self.environment, output, self._log_file)
        with output:
            self.process = _forked().Process(target=_be, args=told)
            self.process.start()
        with said:
            self.url = self._first_line(said).removeprefix(_LISTENING)

    def stop(self) -> int:
        """Ask it to stop, wait until it has; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it as a crash would."""
        return self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again where it was."""
        self.stop()
        self.start(int(self.url.rpartition(":")[2]))

    def new_project(self) -> Tokens:
        """Another project, made while the server runs."""
        if self._database is None:
            self._database = open_database(self.data, self.database_url)
        return _make_tokens(self._database)

    def close(self) -> None:
        """End the server, however it is."""
        self.kill()
        if self._database is not None:
            self._database.close()

    def _end(self, number: int) -> int:
        process = self.process
        if process is None:
            return 0
        assert process.pid is not None
        if process.is_alive():
            os.kill(process.pid, number)
        process.join(STOP_DEADLINE_S)
        code = process.exitcode
        assert code is not None, f"the server does not stop:\n{self.log}"
        process.close()
        self.process = None
        return code

    def _first_line(self, said: Connection) -> str:
        line, deadline = b"", time.monotonic() + START_DEADLINE_S
        while not line.endswith(b"\n"):
            if not said.poll(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise TimeoutError(f"the server did not say that it listens:\n{self.log}")
            read = os.read(said.fileno(), 4096)
            if not read:
                raise RuntimeError(f"the server ended with {self.kill()}:\n{self.log}")
            line += read
        return line.decode().strip()


def run_command(*arguments: str, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """`overmind-control-plane` with *arguments*, to its end; forked as the servers are."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        process = _forked().Process(target=_be, args=(arguments, environment or dict(os.environ), out, errors))
        process.start()
        process.join(COMMAND_S)
        code = process.exitcode
        process.kill()
        assert code is not None, f"{arguments} does not end"
        return CompletedProcess(arguments, code, out.read_text(), errors.read_text())


def _be(arguments: Sequence[str], environment: Mapping[str, str], output: Connection | Path, log: Path) -> NoReturn:
    """Be what the command is, in a process that is not ours any more."""
    os.environ.clear()
    os.environ.update(environment)
    with output if isinstance(output, Connection) else output.open("wb") as out, log.open("ab") as errors:
        os.dup2(out.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    raise SystemExit(cli.main(arguments))


def make_tokens(data: Path, database_url: str | None = None) -> Tokens:
    """A project of its own and its three tokens, in the data folder of a server that runs or will run."""
    database = open_database(data, database_url)
    try:
        return _make_tokens(database)
    finally:
        database.close()


def _make_tokens(database: Database) -> Tokens:
    name = f"project-{uuid.uuid4()}"
    with database.write() as session:
        project_id = make_project(session, name).id
        return Tokens(project_id, **{role.value: make_token(session, name, role)[0] for role in Role})


@contextlib.contextmanager
def start_control_plane(
    folder: Path,
    *,
    lease_s: float = 60.0,
    arguments: tuple[str, ...] = (),
    database_url: str | None = None,
) -> Iterator[ControlPlaneProcess]:
    """
    A server over a new data folder in *folder*, with a project; it ends with the block.

    Args:
        database_url: of an empty PostgreSQL database; None for SQLite in the data folder.
    """
    data = folder / "plane"
    plane = ControlPlaneProcess(data, lease_s, make_tokens(data, database_url), arguments, database_url)
    plane.start()
    try:
        yield plane
    finally:
        plane.close()
