"""
What must be so for this host to do its work, as a list of questions.

Each check answers with what it found; when that is not good enough it says what to do. None of them makes
anything, and none takes longer than a few seconds.
"""

from __future__ import annotations

import http
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.children.program_sandbox import has_programs, sandbox_of
from overmind_agent.command_line import surroundings
from overmind_agent.command_line.findings import Failed, Finding
from overmind_agent.configuration.checked import read_functions, usable
from overmind_agent.control import journal_reader
from overmind_agent.control.client import NoAnswer, NotAllowed, NotRunning, ask
from overmind_agent.control.line import Refusal
from overmind_agent.errors import AuthError, OvermindAgentError, RejectedError, StateInUse
from overmind_agent.host import disk
from overmind_agent.host.state_folder import owning
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.planes import network_of_model
from overmind_agent.over_http.refusals import Verb
from overmind_config.settings import Settings
from overmind_executors import registry, strict_json
from overmind_executors.sandbox.levels import Level

LOOK: Final = Verb("check", 5)
MOST_SKEW_S: Final = 60.0
CHILD_S: Final = 20.0
_HOW_TO_MEND: Final = (
    "put an agent's token into $OVERMIND_API_KEY or, where that is unset, control_plane.token_file"
)

NOBODY: Final = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Questions:
    """
    What the server of an adapter is asked.

    Attributes:
        reach: a path that answers quickly, whatever it says.
        proof: method, path and body of a call that only an agent's token gets past; that it then finds nothing is
            an answer, too.
        poll: the path of the question for a job, in a way that takes and keeps none.
    """

    reach: str
    proof: tuple[str, str, Any]
    poll: str


QUESTIONS: Final = {
    "overmind": Questions(
        "/api/v2/capabilities",
        ("PUT", f"/api/v2/agents/{NOBODY}/status", {"name": "Idle"}),
        f"/api/v2/agents/{NOBODY}/job?wait_s=0",
    ),
    "overmind-lab": Questions("/health", ("GET", "/api/auth/me/", None), "/api/jobs/?status=pending&page_size=1"),
}


_NEEDS_AN_ANSWER: Final = frozenset({"extensions", "token", "poll", "clock"})


class Doctor:
    """Examines this host for *settings*; `calls` go to the control plane."""

    def __init__(self, settings: Settings, calls: HttpCalls) -> None:
        self._settings = settings
        self._calls = calls
        self._is_answered = False
        self._date: datetime | None = None

    def findings(self) -> Iterator[Finding]:
        """One finding for each check, in the order in which a person would look."""
        for code, check in self._checks():
            if code in _NEEDS_AN_ANSWER and not self._is_answered:
                said = "not asked, since the control plane does not answer"
                yield Finding(code, "warning", said, "see the check of the connection")
                continue
            try:
                yield Finding(code, "ok", check())
            except Failed as bad:
                yield Finding(code, bad.grade, str(bad), bad.hint)
            except OvermindAgentError as error:
                yield Finding(code, "failed", str(error), "check control_plane.url, the network and the proxy")

    def _checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
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
        plane = self._settings.control_plane
        yield "address", lambda: surroundings.address(plane)
        yield "proxy", lambda: surroundings.proxy(plane)
        yield "tls", lambda: surroundings.tls(plane)
        yield "connection", self._connection
        yield "extensions", self._extensions
        yield "token", self._token
        yield "poll", self._poll
        yield "clock", self._clock
        if not self._settings.models:
            yield "models", self._no_models
        for name in self._settings.models:
            yield f"model.{name}", partial(self._model, name)
        yield "service_manager", self._service_manager

    # ------------------------------------------------------------------------------------------ this host

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
        aside: list[Path] = []
        try:
            with owning(self._settings.agent.state_dir):
                journal = SqliteJournal(path, on_set_aside=aside.append)
                held, waiting = len(journal.held()), len(journal.undelivered())
                journal.close()
        except StateInUse:
            return self._journal_in_use()
        except OvermindAgentError as error:
            raise Failed(str(error), "look at the disk and at who owns the folder") from error
        if aside:
            raise Failed(f"it was damaged and is now {aside[0]}", "look there for results that were not sent")
        return f"{held} jobs to go on with, {waiting} with statuses to send"

    def _journal_in_use(self) -> str:
        """An agent works on it, so it is only read."""
        state = self._settings.agent.state_dir
        try:
            known = journal_reader.read(state)
        except journal_reader.NoJournal as error:
            raise Failed(str(error), "look at the disk and at who owns the folder") from error
        parked = sum(line.why is not None for line in known.outbox)
        found = f"an agent works on it: {len(known.jobs)} jobs, {len(known.outbox) - parked} statuses to send"
        if parked:
            hint = "overmind-agent outbox list says why, outbox retry sends them"
            raise Failed(f"{found}, {parked} parked", hint, grade="warning")
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

    def _service_manager(self) -> str:
        return "systemd" if Path("/run/systemd/system").is_dir() else "none here"

    # ------------------------------------------------------------------------------------------ the control plane

    def _connection(self) -> str:
        began = datetime.now(UTC)
        with suppress(RejectedError):  # whatever it answers, it answers
            self._date = self._calls.call(LOOK, "GET", self._questions.reach).date
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1000
        self._is_answered = True
        return f"{self._settings.control_plane.url} answers in {took_ms:.0f} ms"

    def _extensions(self) -> str:
        if self._settings.control_plane.adapter == "overmind-lab":
            return "none are needed by this adapter, which has no leases: see docs/protocol.md"
        try:
            answer = self._calls.call(LOOK, "GET", "/api/v2/capabilities")
        except AuthError as error:
            raise Failed("not told without a valid token", "see the check of the token", grade="warning") from error
        except RejectedError as error:
            raise Failed(
                "none: jobs are polled for, without leases", "fine for a plain control plane", grade="warning"
            ) from error
        return ", ".join(wire.parse(wire.Capabilities, answer.body).extensions)

    @property
    def _questions(self) -> Questions:
        return QUESTIONS[self._settings.control_plane.adapter]

    def _token(self) -> str:
        method, path, body = self._questions.proof
        try:
            self._calls.call(LOOK, method, path, body=body)
        except AuthError as error:
            raise Failed(f"not accepted ({error})", _HOW_TO_MEND) from error
        except RejectedError:
            return "accepted"
        return "accepted"

    def _poll(self) -> str:
        """As an agent that nobody knows: so nothing is offered to it, and no other agent waits for its sake."""
        began = datetime.now(UTC)
        try:
            self._calls.call(LOOK, "GET", self._questions.poll)
        except AuthError as error:
            raise Failed(f"not allowed ({error})", _HOW_TO_MEND) from error
        except RejectedError as error:
            if error.http_status != http.HTTPStatus.NOT_FOUND:
                raise
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1000
        return f"a question for a job is answered in {took_ms:.0f} ms; none was taken"

    def _clock(self) -> str:
        if self._date is None:
            raise Failed("the server did not say what time it is", "see the check of the token", grade="warning")
        skew_s = abs((datetime.now(UTC) - self._date).total_seconds())
        if skew_s > MOST_SKEW_S:
            raise Failed(f"{skew_s:.0f} s from the server's", "set the clock; leases do not depend on it, TLS does")
        return f"within {skew_s:.0f} s of the server's"

    # ------------------------------------------------------------------------------------------ the models

    def _no_models(self) -> str:
        raise Failed("none", "jobs that ask a chat model will fail; name one in [models.<name>]", grade="warning")

    def _model(self, name: str) -> str:
        model = self._settings.models[name]
        key = model.api_key.get_secret_value() if model.api_key else ""
        calls = HttpCalls(model.base_url, lambda: key, network=network_of_model(self._settings, name))
        try:
            offered = _model_ids(calls.call(LOOK, "GET", "/models").body)
        except AuthError as error:
            raise Failed(f"the key is not accepted ({error})", f"look at models.{name}.api_key_file") from error
        except RejectedError:
            return f"{model.base_url} answers, but does not list its models"
        except OvermindAgentError as error:
            raise Failed(f"{model.base_url}: {error}", "is its server running?") from error
        finally:
            calls.close()
        if offered and model.model not in offered:
            raise Failed(
                f"{model.base_url} has no model {model.model!r}; it has {', '.join(sorted(offered)[:5])}",
                f"correct models.{name}.model",
                grade="warning",
            )
        return f"{model.base_url} answers"


def _in_words(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}"
    return value if isinstance(value, str) else ", ".join(value)


def _model_ids(body: bytes) -> frozenset[str]:
    """The ids of an OpenAI-compatible list of models; empty for a list in another form."""
    try:
        return frozenset(str(line["id"]) for line in strict_json.loads(body)["data"])
    except (strict_json.NotJson, KeyError, TypeError):
        return frozenset()
