"""
Targets that are programs of the host: a registered command, or a Python agent in one of its code folders.

A program is asked in the same way as a model, through the same journal: what has answered a row is not asked again
after a crash of the job. It is asked once: a program that fails is an outcome of its row.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.budget import Limits, Purse
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_calls import CallKey, Lives, PaidCalls
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED, JOURNAL, Halt, NotAsked
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Problem, WorkStopped
from overmind_executors.inference.parameters import AgentTarget, CommandTarget
from overmind_executors.parameters import nearest
from overmind_executors.programs.commands import CommandLimits, Ended, NotStarted, run
from overmind_executors.removal import remove
from overmind_executors.sandbox.bubblewrap import View
from overmind_executors.sandbox.enclosing import Enclosure, enclosure, files_among
from overmind_executors.sandbox.levels import Level
from overmind_executors.sandbox.program_models import NOTHING_ASKED, Asked, Line, ProgramModels

MOST_ANSWER_BYTES: Final = 1 << 20
_MOST_FILE_BYTES: Final = 256 << 20
_MOST_BUNDLE_BYTES: Final = 64 << 20
_MOST_BUNDLE_FILES: Final = 10_000
_MOST_AT_ONCE: Final = 256
# Where an agent finds its code in a sandbox.
_CODE: Final = Path("/code")
# The limits that end a run, each with what the row's outcome then is.
_BY_LIMIT: Final = {
    "timeout": (Kind.TIMEOUT, "no answer within its time"),
    "output": (Kind.INVALID_RESPONSE, f"an answer of more than {MOST_ANSWER_BYTES} bytes"),
    "memory": (Kind.MEMORY_LIMIT, "it took more memory than programs may here"),
    "processes": (Kind.PROCESS_LIMIT, "it started more processes than programs may here"),
    "disk": (Kind.DISK_LIMIT, "it wrote more than programs may here"),
}
# What a Python agent may say of its own end.
_SAID: Final = (
    *(Kind.CRASH, Kind.IMPORT_ERROR, Kind.INVALID_RESPONSE),
    *(Kind.MEMORY_LIMIT, Kind.PROCESS_LIMIT, Kind.DISK_LIMIT),
)


class Program:
    """
    One program within one job; has what the row loop uses of `PaidModel`.

    Attributes:
        level: how far it is shut in.

    Args:
        models: those that it may ask while it runs, with a purse of their own; None for none.
    """

    prices = None

    def __init__(
        self,
        name: str,
        command: list[str],
        context: Context,
        *,
        limits: Limits,
        enclosed: Enclosure,
        models: ProgramModels | None = None,
    ) -> None:
        self.endpoint = ModelEndpoint(name, "", name, max_concurrency=_MOST_AT_ONCE)
        self.halt = Halt()
        self.level: Level | None = enclosed.level
        self._command = command
        self._enclosed = enclosed
        self._models = models
        self._context = context
        self._calls = PaidCalls(context.state / JOURNAL)
        self._purse = Purse(limits, self._calls.spent())

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._calls.close()
        if self._models is not None:
            self._models.close()

    def ask(
        self, body: Mapping[str, Any], *, row_id: str, repetition: int, timeout_s: float, **_of_a_model: bool
    ) -> Answer | NotAsked:
        """What the program makes of *body*, from the journal if it is there. Nothing is shared."""
        raw = strict_json.canonical(body)
        key = CallKey(hashlib.sha256(raw).hexdigest(), row_id, repetition)
        earlier = self._calls.earlier(key)
        if earlier.answer is not None and earlier.is_final:
            return earlier.answer
        if self.halt.reason or self._context.stop.is_set():
            return NotAsked(self.halt.reason or "stopped")
        if not self._purse.take_call():
            self.halt.set(BUDGET_EXHAUSTED)
            return NotAsked(BUDGET_EXHAUSTED)
        number = earlier.number + 1
        self._calls.sent(key, number)
        try:
            answer = self._run(raw, row_id, repetition, timeout_s)
        except WorkStopped:
            return NotAsked("stopped")
        if isinstance(answer, NotAsked):
            if answer.reason != "stopped":
                self.halt.set(answer.reason)
            return answer
        self._calls.done(key, number, answer, is_final=True)
        return answer

    def spent_calls(self) -> int:
        """Over all attempts of the job: calls of the models that it may ask, else runs of the program itself."""
        return self._calls.spent().calls if self._models is None else self._models.spent().calls

    def lives(self) -> Lives:
        """How long was asked, over all attempts of the job."""
        return self._calls.lives()

    def cut_after(self, seconds: float) -> None:
        """Its calls of models are given *seconds* seconds; each run looks at the wish to stop itself."""
        if self._models is not None:
            self._models.cut_after(seconds)

    def _run(self, raw: bytes, row_id: str, repetition: int, timeout_s: float) -> Answer | NotAsked:
        """One run. One whose calls of models were not all made says nothing about its row."""
        began_s, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
        folder = Path(tempfile.mkdtemp(prefix="row-", dir=self._context.state))
        try:
            with self._line(row_id, repetition, timeout_s) as (line, what_was_asked):
                kind, output, message = self._outcome(raw, folder, timeout_s, line)
                latency_s = time.monotonic() - began_s
                asked = what_was_asked()
        finally:
            remove(folder)
        if asked.halted:
            return NotAsked(asked.halted)
        has_output = kind is Kind.OK
        return Answer(
            kind,
            status=200 if has_output else None,
            body={"output": output} if has_output else None,
            output=output,
            message=message,
            prompt_tokens=asked.prompt_tokens,
            completion_tokens=asked.completion_tokens,
            cost_usd=asked.cost_usd,
            latency_ms=round(latency_s * 1000, 3),
            started_at=started_at,
        )

    def _line(
        self, row_id: str, repetition: int, timeout_s: float
    ) -> AbstractContextManager[tuple[Line, Callable[[], Asked]]]:
        if self._models is None:
            return nullcontext((Line({}), lambda: NOTHING_ASKED))
        is_boxed = self._enclosed.box is not None
        return self._models.line(row_id=row_id, repetition=repetition, timeout_s=timeout_s, is_boxed=is_boxed)

    def _outcome(self, raw: bytes, folder: Path, timeout_s: float, line: Line) -> tuple[Kind, Any, str]:
        limits = CommandLimits(
            timeout_s,
            MOST_ANSWER_BYTES,
            _MOST_FILE_BYTES,
            memory_bytes=self._enclosed.memory_bytes,
            processes=self._enclosed.processes,
            folder_bytes=self._enclosed.disk_bytes,
        )
        try:
            ended = run(
                [*line.prefix, *self._command],
                cwd=folder,
                limits=limits,
                stop=self._context.stop,
                stdin=raw,
                box=self._enclosed.box,
                handed=line.handed,
                environment=line.environment,
            )
        except NotStarted as error:
            return Kind.CRASH, None, f"the program cannot be started: {error}"
        return _outcome(ended)


def _outcome(ended: Ended) -> tuple[Kind, Any, str]:
    if ended.ended_by:
        kind, message = _BY_LIMIT[ended.ended_by]
        return kind, None, message
    if ended.code == -signal.SIGXFSZ:
        return Kind.DISK_LIMIT, None, f"it wrote a file of more than {_MOST_FILE_BYTES} bytes"
    if ended.code != 0:
        how = f"exit code {ended.code}" if ended.code > 0 else f"signal {-ended.code}"
        return Kind.CRASH, None, f"the program ended with {how}; see the log"
    if not ended.stdout:
        return Kind.CRASH, None, "the program ended and gave no answer"
    return _answer(ended.stdout)


def _answer(raw: bytes) -> tuple[Kind, Any, str]:
    """`{"output": …}` or `{"kind", "message"}`."""
    try:
        said = strict_json.loads(raw, levels=strict_json.MAX_DEPTH - 4)
    except strict_json.NotJson as error:
        return Kind.INVALID_RESPONSE, None, f"the answer is not JSON: {error}"
    if not isinstance(said, dict) or said.keys().isdisjoint(("output", "kind")):
        return Kind.INVALID_RESPONSE, None, "the answer is not an object with an output"
    if "output" in said:
        return Kind.OK, said["output"], ""
    kinds = {kind.value: kind for kind in _SAID}
    return kinds.get(str(said["kind"]), Kind.CRASH), None, str(said.get("message", ""))[:500]


def open_program(
    target: AgentTarget | CommandTarget,
    context: Context,
    limits: Limits,
    *,
    endpoints: Sequence[ModelEndpoint] = (),
    policy: RetryPolicy | None = None,
) -> Program:
    """
    The program that *target* names.

    Args:
        limits: on its runs; where there are *endpoints* that it may ask, on its calls of these.

    Raises:
        InvalidParameters: the host has no such command, or no such agent in its code folders.
        ExecutionFailed: the host has no sandbox and wants one.
    """
    name, command, enclosed = _found(target, context)
    if not endpoints:
        return Program(name, command, context, limits=limits, enclosed=enclosed)
    models = ProgramModels(endpoints, context, limits=limits, policy=policy)
    # Its runs may take as long as its calls may, and are as many as there are rows.
    runs = Limits(max_seconds=limits.max_seconds)
    return Program(name, command, context, limits=runs, enclosed=enclosed, models=models)


def _found(target: AgentTarget | CommandTarget, context: Context) -> tuple[str, list[str], Enclosure]:
    """Its name, its command line and what it is shut into."""
    if isinstance(target, CommandTarget):
        if target.command not in context.commands:
            near = nearest(target.command, context.commands)
            raise InvalidParameters(Problem("target.command", f"no such command on this host{near}"))
        command = list(context.commands[target.command])
        return target.command, command, enclosure(target.command, View(files_among(command)), context)
    folder = _code(target.path, context)
    enclosed = enclosure(target.entrypoint, View({_CODE: folder}), context)
    seen_as = _CODE if enclosed.box else folder
    command = [
        sys.executable,
        "-P",
        "-m",
        "overmind_executors.programs.agent_call",
        str(seen_as),
        target.entrypoint,
    ]
    return target.entrypoint, command, enclosed


def _code(path: str, context: Context) -> Path:
    """The folder of the agent's code; a bundle is unpacked into the job's own folder first."""
    for root in context.code_roots:
        try:
            found = (root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            continue
        if found.is_relative_to(root.resolve()):
            return found if found.is_dir() else _unpacked(found, context.state / "code")
    what = (
        "no such folder or bundle in this host's code_roots" if context.code_roots else "this host runs no agents"
    )
    raise InvalidParameters(Problem("target.path", what))


def _unpacked(bundle: Path, folder: Path) -> Path:
    remove(folder)
    try:
        with zipfile.ZipFile(bundle) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_BUNDLE_FILES or sum(entry.file_size for entry in entries) > _MOST_BUNDLE_BYTES:
                raise InvalidParameters(Problem("target.path", "the bundle is too large"))
            archive.extractall(folder)  # keeps within the folder whatever the names are, and makes no links
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidParameters(Problem("target.path", f"not a zip file ({type(error).__name__})")) from error
    return folder
