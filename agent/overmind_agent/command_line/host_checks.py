"""What must be so on this host alone: its system, the agent's folder, what jobs need."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from overmind_agent.children.program_sandbox import has_programs, sandbox_of
from overmind_agent.command_line import surroundings
from overmind_agent.command_line.findings import Check, Failed
from overmind_agent.configuration.checked import read_functions, usable
from overmind_agent.control import journal_reader
from overmind_agent.control.client import NoAnswer, NotAllowed, NotRunning, ask
from overmind_agent.control.line import Refusal
from overmind_agent.errors import OvermindAgentError, StateInUse
from overmind_agent.host import disk, room
from overmind_agent.host.state_folder import owning
from overmind_agent.journal.journal import SqliteJournal
from overmind_config.settings import Settings
from overmind_executors import registry
from overmind_executors.sandbox.levels import Level

CHILD_S: Final = 20.0


class HostChecks:
    """
    Of the host that *settings* are for.

    Args:
        user: who asks; None for whoever runs this process.
    """

    def __init__(self, settings: Settings, *, user: int | None = None) -> None:
        self._settings = settings
        self._user = os.geteuid() if user is None else user

    def checks(self) -> Iterator[tuple[str, Check]]:
        """Each by its code."""
        yield "python", self._python
        yield "process_control", self._process_control
        yield "state_dir", self._state_dir
        yield "journal", self._journal
        yield "control", self._control
        yield "disk", self._disk
        yield "cgroup", lambda: surroundings.cgroup(self._settings.agent.slots)
        yield "job_types", self._job_types
        yield "functions", self._functions
        yield "sandbox", self._sandbox
        yield "child", self._child
        yield "data_roots", self._data_roots
        yield "policy", self._policy

    def _python(self) -> str:
        return f"Python {platform.python_version()}, {platform.system()} {platform.release()}"

    def _process_control(self) -> str:
        if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
            raise Failed("/proc does not list children", "mount /proc; without it a job's strays are not found")
        if shutil.which("nice") is None and self._settings.agent.nice:
            raise Failed("there is no nice command", "install coreutils or set agent.nice = 0")
        return "orphans of jobs can be found and ended"

    def _state_dir(self) -> str:
        state = self._settings.agent.state_dir
        if not state.exists():
            parent = next(folder for folder in state.parents if folder.exists())
            if not os.access(parent, os.W_OK | os.X_OK):
                raise Failed(f"{state} does not exist, and {parent} cannot be written", "make it, mode 0700")
            return f"{state} will be made by the first start"
        if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
            raise Failed(f"{state} cannot be written", "make it a folder of the agent's user")
        if state.stat().st_mode & 0o077:
            raise Failed(f"{state} is open to other users", f"run chmod 700 {state}", grade="warning")
        return str(state)

    def _journal(self) -> str:
        path = self._settings.agent.state_dir / "journal.sqlite"
        if not path.exists():
            return "none yet; the first start makes one"
        if (owner := path.stat().st_uid) != self._user:  # root looks at a service's
            return self._journal_as_read(f"of user {owner}")
        aside: list[Path] = []
        try:
            with owning(self._settings.agent.state_dir):
                journal = SqliteJournal(path, on_set_aside=aside.append)
                held, waiting = len(journal.held()), len(journal.undelivered())
                journal.close()
        except StateInUse:
            return self._journal_as_read("an agent works on it")
        except OvermindAgentError as error:
            raise Failed(str(error), "look at the disk and at who owns the folder") from error
        if aside:
            raise Failed(f"it was damaged and is now {aside[0]}", "look there for results that were not sent")
        return f"jobs to go on with: {held}; statuses to send: {waiting}"

    def _journal_as_read(self, whose: str) -> str:
        """It is another's, so it is only read."""
        state = self._settings.agent.state_dir
        try:
            known = journal_reader.read(state)
        except journal_reader.NoJournal as error:
            raise Failed(str(error), "look at the disk and at who owns the folder") from error
        parked = sum(line.why is not None for line in known.outbox)
        found = f"{whose}; jobs: {len(known.jobs)}; statuses to send: {len(known.outbox) - parked}"
        if parked:
            hint = "overmind-agent outbox list says why, outbox retry sends them"
            raise Failed(f"{found}; parked: {parked}", hint, grade="warning")
        return found

    def _control(self) -> str:
        state = self._settings.agent.state_dir
        try:
            ask(state, "status")
        except NotRunning:
            return "no agent is running"
        except Refusal as error:
            raise Failed(str(error), "look at the agent's log", grade="warning") from error
        except (NoAnswer, NotAllowed) as error:
            raise Failed(str(error), "look at the agent's log; SIGUSR1 makes it say where it stands") from error
        return "the agent that is running answers"

    def _disk(self) -> str:
        state = self._settings.agent.state_dir
        folder = state if state.exists() else next(folder for folder in state.parents if folder.exists())
        if (short := disk.lack(folder, self._settings.agent.min_free_bytes)) is not None:
            raise Failed(short, "make room, or set agent.min_free_bytes; until then no job is taken")
        if (why := room.too_little(folder, self._settings)) is not None:
            raise Failed(why, room.HINT, grade="warning")
        return f"{shutil.disk_usage(folder).free:,} bytes free"

    def _job_types(self) -> str:
        names = usable(self._settings)
        for name in names:
            try:
                registry.executor_for(name)
            except (registry.UnknownJobType, registry.BrokenExecutor) as error:
                raise Failed(str(error), "install its package or take it out of agent.job_types") from error
        left_out = [name for name in self._settings.agent.job_types if name not in names]
        if left_out:
            hint = "; ".join(sorted({registry.missing_for(name) for name in left_out}))
            raise Failed(f"{', '.join(names)}; not {', '.join(left_out)}", f"for those: {hint}", grade="warning")
        return ", ".join(names)

    def _functions(self) -> str:
        names = [function.name for function in read_functions(self._settings)]
        return ", ".join(names) or "none"

    def _sandbox(self) -> str:
        if not has_programs(self._settings):
            return "not needed: no commands, code_roots or modules"
        found = sandbox_of(self._settings)
        if found.level is Level.NONE:
            return "off: programs run as the agent's user"
        if found.level is Level.BUBBLEWRAP:
            return "programs run in bubblewrap"
        hint = "make bubblewrap work (docs/sandbox.md), or set sandbox.use"
        if found.is_required:
            raise Failed(f"programs are refused: {found.why}", hint)
        raise Failed(f"programs run with limits alone: {found.why}", hint, grade="warning")

    def _child(self) -> str:
        command = [sys.executable, "-P", "-m", "overmind_executors.process.child"]
        reader, writer = os.pipe()
        try:
            command += ["--events-fd", str(writer), "--parent", str(os.getpid())]
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[writer],
                timeout=CHILD_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(f"a job's process cannot be started: {error}", "reinstall overmind-agent") from error
        finally:
            os.close(reader)
            os.close(writer)
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            raise Failed(
                f"a job's process ends with {ended.returncode}: {said[-1] if said else ''}",
                "reinstall overmind-agent",
            )
        return "a job's process starts"

    def _data_roots(self) -> str:
        roots = self._settings.agent.data_roots
        for root in roots:
            if not os.access(root, os.R_OK | os.X_OK) or not root.is_dir():
                raise Failed(
                    f"{root} is not a folder that can be read", "mount it or take it out of agent.data_roots"
                )
        return ", ".join(map(str, roots)) or "none"

    def _policy(self) -> str:
        policy = self._settings.policy.model_dump(exclude_none=True, exclude_defaults=True)
        known = self._settings.models
        if lost := sorted(
            {name for names in self._settings.policy.models_of.values() for name in names} - set(known)
        ):
            raise Failed(f"policy.models names {', '.join(lost)}", "name models of this host, or correct [models]")
        return "; ".join(f"{name} {_in_words(value)}" for name, value in policy.items()) or "no limits of its own"


def _in_words(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}"
    return value if isinstance(value, str) else ", ".join(value)
