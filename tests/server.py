"""A real control plane in a process of its own, for the tests of whatever talks to one."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from overmind_controlplane.access import Role, make_project, make_token
from overmind_controlplane.database import Database
from overmind_controlplane.plane import open_database

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0
DATABASE_VARIABLE = "OVERMIND_DATABASE_URL"
_LISTENING = "listening on "


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
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
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
        command = [sys.executable, "-m", "overmind_controlplane.cli", "serve", "--data", str(self.data)]
        command += ["--port", str(port), "--lease-s", str(self.lease_s), *self.arguments]
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=self.environment)
        self.url = self._first_line().removeprefix(_LISTENING)

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
        if process.poll() is None:
            process.send_signal(number)
        code = process.wait(STOP_DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()
        self.process = None
        return code

    def _first_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        line, deadline = b"", time.monotonic() + START_DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(deadline - time.monotonic()):
                    self.kill()
                    raise TimeoutError(f"the server did not say that it listens:\n{self.log}")
                read = os.read(self.process.stdout.fileno(), 4096)
                if not read:
                    raise RuntimeError(f"the server ended with {self.kill()}:\n{self.log}")
                line += read
        return line.decode().strip()


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
