"""
What an executor is: the whole of what its author needs to know.

An executor does the work of one job type. The agent calls `validate` in its own process, so it must be pure:
no network, no files. It then starts a child process, which calls `validate` again and `run` with what
`validate` returned. The child may die at any moment and be started again with the same `Context.state`
folder: keep there what must not be paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from overmind_executors.calls.tally import CallTally
from overmind_executors.sandbox.levels import Sandbox
from overmind_executors.trace_context import TraceContext

ENTRY_POINT_GROUP: Final = "overmind_agent.executors"

# With the end of its calls and of the job this is less than a minute.
SILENCE_S: Final = 50.0
ModelKind = Literal["chat", "embeddings"]
TaskT = TypeVar("TaskT")


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with a job's parameters or input.

    Attributes:
        field: a dotted path such as `target.model`, or `input`.
        code: for programs, lower snake case, shown in brackets behind the message; empty where the field says all.
    """

    field: str
    message: str
    code: str = ""

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return f"{text} [{self.code}]" if self.code else text


class InvalidParameters(Exception):
    """The job cannot be run as it was written. Names every problem at once, never a value of the user's."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class ExecutionFailed(Exception):
    """
    The work failed as a whole. A bad row is data in the result, not this.

    Attributes:
        reason: lower snake case, such as `provider_unavailable`.
    """

    def __init__(self, message: str, *, reason: str = "executor_error") -> None:
        super().__init__(message)
        self.reason = reason


class WorkStopped(Exception):
    """Raised by an executor that noticed `Context.stop` and left its work resumable."""


@dataclass(frozen=True)
class ModelEndpoint:
    """
    A model that the host offers under a name of its own; a job names it and never sees a URL or a key.

    Attributes:
        base_url: of an OpenAI-compatible API, up to and without `/chat/completions` or `/embeddings`.
        model: the provider's id for it.
        api_key: empty for none. Never written to a file or a log.
        silence_s: how long it may answer nothing at all, from a job's first call on, before it is given up. Once it
            has answered something it has as long as a call may take.
        input_price, output_price: US dollars per million tokens, None for unpriced.
        dask_scheduler: the address of a cluster whose workers make the calls, empty for this process.
        api_key_file: where those workers read the key; it is not sent to them.
        prices_as_of: the date of these prices, ISO 8601, empty for unknown.
        proxy: URL of the proxy for its calls, which may hold a password; empty for a direct connection.
        ca_file: PEM file of the only authorities to trust; empty for those of the system.
        kind: what it is asked for: answers, or vectors of texts.
    """

    name: str
    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    max_concurrency: int = 4
    timeout_s: float = 120.0
    silence_s: float = SILENCE_S
    input_price: float | None = None
    output_price: float | None = None
    prices_as_of: str = ""
    dask_scheduler: str = ""
    api_key_file: str = ""
    proxy: str = field(default="", repr=False)
    ca_file: str = ""
    kind: ModelKind = "chat"


@dataclass(frozen=True)
class AnswersKept:
    """What this host keeps of its judges' answers for later jobs: where, and for how many days."""

    folder: Path
    days: float


class Stop(Protocol):
    """The wish that the work end: safe to ask from any thread."""

    def is_set(self) -> bool:
        """Whether to start nothing new and return soon."""

    def wait(self, timeout_s: float) -> bool:
        """Sleep for at most *timeout_s* seconds, less when the wish comes; returns `is_set()`."""


@dataclass(frozen=True)
class Context:
    """
    What the host gives an executor.

    Attributes:
        job_id, attempt: for the log; results must not depend on them.
        input_file: the job's input file, None when it has none. Read only.
        input_name: as its owner called it; untrusted.
        output: an empty folder; every regular file directly in it that `Result` names is uploaded.
        state: kept when the job is interrupted and run again: checkpoints, paid calls.
        models: the models that this host offers, by name.
        barred_models: names of those that the host has, and not for jobs of this type.
        data_roots: folders that a job may read from by path.
        commands: programs that rows may be given to, by name: words of a command line, no shell.
        code_roots: folders whose Python a job may run.
        sandbox: what the host has decided about programs that a job runs; `sandbox.enclosing` keeps to it.
        spend_limits: what any job may spend here, under the names of a job's `budget`; `PaidModel` keeps to it.
        answers_kept: where judges' answers are kept from job to job; None when this host keeps none.
        report: `report(step, total_steps, step_name)`; cheap, call it for every row. Whole numbers from 0; anything
            else is not told.
        report_pace: `report_pace(usd, eta_s)`: US dollars spent so far and seconds until the work is done, None for
            not known; they go with the next `report`, and with those after it until they are said anew.
        tell_iteration: a step of a search as soon as it is known, for whoever watches: an object with
            `iteration_name` and `order`, such as a job's iterations have. It may be lost on its way, and told again
            after an interruption, so the outcome lists them all under `iterations`.
        stop: ask it before each piece of work.
        trace: what the job's calls are part of; None for a job without one.
        tally: told of each call of a chat model by `PaidModel`.
        log: one JSON object a line; what is written to standard output is in the same log.
    """

    job_id: str
    attempt: int
    input_file: Path | None
    input_name: str | None
    output: Path
    state: Path
    models: Mapping[str, ModelEndpoint]
    data_roots: tuple[Path, ...]
    report: Callable[[int, int, str], None]
    stop: Stop
    log: FilteringBoundLogger
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code_roots: tuple[Path, ...] = ()
    spend_limits: Mapping[str, float] = field(default_factory=dict)
    barred_models: frozenset[str] = frozenset()
    answers_kept: AnswersKept | None = None
    trace: TraceContext | None = None
    tally: CallTally = field(default_factory=CallTally)
    sandbox: Sandbox = field(default_factory=Sandbox)
    tell_iteration: Callable[[Mapping[str, Any]], None] = lambda _fields: None
    report_pace: Callable[[float | None, float | None], None] = lambda _usd, _eta_s: None


@dataclass(frozen=True)
class Result:
    """
    What an executor made.

    Attributes:
        files: names of files in `Context.output`, in the order in which they are uploaded.
        outcome: a JSON object of at most 64 KiB: the facts that a reader wants without opening a file.
        best_effort: those of *files* without which the job is complete as well, such as a trace: when one cannot be
            uploaded in half a minute, it is left. All others are required.
        as_models: those of *files* that are to be model files of the control plane as well, for jobs to come.
    """

    files: tuple[str, ...]
    outcome: Mapping[str, Any] = field(default_factory=dict)
    best_effort: tuple[str, ...] = ()
    as_models: tuple[str, ...] = ()


class Executor(Protocol[TaskT]):
    """
    Does the work of one job type.

    Attributes:
        job_type: `inference` and the like.
        is_resumable: whether `run` may be called again after it was interrupted; if not, an interrupted job
            fails with reason `agent_restarted`.
    """

    job_type: str
    is_resumable: bool

    def validate(self, parameters: Mapping[str, Any]) -> TaskT:
        """
        The job's parameters, checked and typed. Pure.

        Raises:
            InvalidParameters: names every wrong field at once.
        """

    def run(self, task: TaskT, context: Context) -> Result:
        """
        Do the work; may be called again with the same `context.state` after an interruption.

        Raises:
            InvalidParameters: the input file is not what the parameters say.
            ExecutionFailed: the work failed as a whole.
            WorkStopped: `context.stop` was set.
        """
