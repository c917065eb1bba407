"""
The chat models that a program may ask while it runs: paid, counted, limited and journalled like all calls of a job.

The program knows the address of a server of its own and a key that is worth nothing anywhere else; the models have
the names that the host gave them. One that is cut off and begun again finds the answers that it had in the journal.
"""

from __future__ import annotations

import hashlib
import math
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.budget import Limits, Spent
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED, Account, NotAsked
from overmind_executors.contract import Context, ExecutionFailed, ModelEndpoint
from overmind_executors.sandbox import inside
from overmind_executors.sandbox.model_door import ModelDoor, Said, failed

# Where a program in a sandbox finds its server; the network is its own, so nobody else has the number.
_PORT: Final = 4180
_FOLDER: Final = "asked_by_programs"
# Between a row's id and the number of an equal request in the same run.
_AGAIN: Final = "\x1f"
_STATUSES: Final[Mapping[Kind, int]] = {
    Kind.TIMEOUT: 504,
    Kind.RATE_LIMITED: 429,
    Kind.OVERLOADED: 503,
    Kind.QUOTA_EXHAUSTED: 429,
    Kind.BAD_REQUEST: 400,
    Kind.REFUSED: 400,
    Kind.CONTENT_FILTER: 400,
}


@dataclass(frozen=True)
class Asked:
    """
    What one run of a program has asked of models.

    Attributes:
        cost_usd: None when one of the models has no price.
        halted: why one of its calls was not made, None when all were.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    halted: str | None = None


# By a program that may ask nobody: nothing is known of what it costs.
NOTHING_ASKED: Final = Asked(None, None, None)


@dataclass(frozen=True)
class Line:
    """
    What a program needs for its calls.

    Attributes:
        environment: variables for it.
        prefix: words in front of its command.
        handed: descriptors that it gets.
    """

    environment: Mapping[str, str]
    prefix: Sequence[str] = ()
    handed: Sequence[int] = ()


class ProgramModels:
    """The models of one job's program, over all its runs: one purse, one journal."""

    def __init__(
        self,
        endpoints: Sequence[ModelEndpoint],
        context: Context,
        *,
        limits: Limits,
        policy: RetryPolicy | None = None,
    ) -> None:
        folder = context.state / _FOLDER
        folder.mkdir(exist_ok=True)
        self._account = Account(replace(context, state=folder), limits, policy)
        self._models = {endpoint.name: self._account.open(endpoint) for endpoint in endpoints}

    def close(self) -> None:
        """Give back what the calls were made with."""
        with self._account:
            pass

    def spent(self) -> Spent:
        """What all calls so far have used, over all attempts of the job."""
        return self._account.calls.spent()

    def cut_after(self, seconds: float) -> None:
        """Give running calls *seconds* seconds, then end them."""
        self._account.cut_after(seconds)

    @property
    def names(self) -> tuple[str, ...]:
        """As the program is to call them."""
        return tuple(self._models)

    def ask(
        self, body: dict[str, Any], *, row_id: str, repetition: int, timeout_s: float
    ) -> Answer | NotAsked | None:
        """What *body* comes to, which names one of the models; None when it does not."""
        model = self._models.get(str(body.get("model")))
        if model is None:
            return None
        given = {name: value for name, value in body.items() if name not in ("model", "stream", "stream_options")}
        return model.ask(given, row_id=row_id, repetition=repetition, timeout_s=timeout_s)

    @contextmanager
    def line(
        self, *, row_id: str, repetition: int, timeout_s: float, is_boxed: bool
    ) -> Iterator[tuple[Line, Callable[[], Asked]]]:
        """
        Serve one run; its calls under way have ended after that.

        Yields:
            What the program needs, and what it has asked, to be called when it has ended.
        """
        run = _Run(self, row_id, repetition, timeout_s)
        door = ModelDoor(run.complete, self.names)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if is_boxed:
                line = _boxed_line(door.key, theirs.fileno(), self.names)
                serve: Callable[[], None] = partial(_serve_when_handed, ours, door)
            else:
                listener = socket.create_server(("127.0.0.1", 0))
                line = Line(_environment(door.key, listener.getsockname()[1], self.names))
                serve = partial(door.serve, listener)
            server = threading.Thread(target=serve, name="row-models", daemon=True)
            server.start()
            is_over = False

            def asked() -> Asked:
                nonlocal is_over
                if not is_over:
                    is_over = True
                    ours.shutdown(socket.SHUT_RDWR)
                    door.close()
                    server.join()
                return run.asked()

            try:
                yield line, asked
            finally:
                asked()


class _Run:
    """The calls of one run, from any thread."""

    def __init__(self, models: ProgramModels, row_id: str, repetition: int, timeout_s: float) -> None:
        self._models = models
        self._row_id, self._repetition, self._timeout_s = row_id, repetition, timeout_s
        self._lock = threading.Lock()
        self._equal: Counter[str] = Counter()
        self._answers: list[Answer] = []
        self._halted: str | None = None
        self._broken: ExecutionFailed | None = None

    def complete(self, body: dict[str, Any]) -> Said:
        """See ModelDoor."""
        digest = hashlib.sha256(strict_json.canonical(body)).hexdigest()
        with self._lock:
            number = self._equal[digest]
            self._equal[digest] += 1
        # The same question twice is two questions: a program may well want two samples.
        row_id = f"{self._row_id}{_AGAIN}{number}" if number else self._row_id
        try:
            answer = self._models.ask(body, row_id=row_id, repetition=self._repetition, timeout_s=self._timeout_s)
        except ExecutionFailed as error:  # nothing can be noted any more, so the job fails, and not only this call
            self._broken = error
            return failed(503, error.reason, "the host cannot note the call")
        if answer is None:
            return failed(404, "model_not_found", f"the job may ask: {', '.join(self._models.names)}")
        with self._lock:
            if isinstance(answer, NotAsked):
                self._halted = self._halted or answer.reason
                status = 429 if answer.reason == BUDGET_EXHAUSTED else 503
                return failed(status, answer.reason, f"the call was not made: {answer.reason}")
            self._answers.append(answer)
        if answer.body is None:
            return failed(_STATUSES.get(answer.kind, 502), answer.kind.value, answer.message)
        return Said(200, answer.body, _events(answer.body, body) if body.get("stream") else None)

    def asked(self) -> Asked:
        """All of it. Raises ExecutionFailed when a call could not be noted."""
        if self._broken is not None:
            raise self._broken
        with self._lock:
            answers = self._answers
            costs = [answer.cost_usd for answer in answers if answer.prompt_tokens is not None or answer.body]
            return Asked(
                sum(answer.prompt_tokens or 0 for answer in answers),
                sum(answer.completion_tokens or 0 for answer in answers),
                None if None in costs else round(math.fsum(cost for cost in costs if cost is not None), 10),
                self._halted,
            )


def _environment(key: str, port: int, names: Sequence[str]) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": key,
        "OVERMIND_MODELS": ",".join(names),
    }


def _boxed_line(key: str, channel: int, names: Sequence[str]) -> Line:
    prefix = [sys.executable, "-I", "-S", str(Path(inside.__file__)), str(channel), str(_PORT)]
    return Line(_environment(key, _PORT, names), prefix, [channel])


def _serve_when_handed(channel: socket.socket, door: ModelDoor) -> None:
    """The program's own socket, once it has come; nothing when the program ended before."""
    try:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except OSError:
        return
    for descriptor in descriptors:
        door.serve(socket.socket(fileno=descriptor))


def _events(body: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """A whole answer in the form of a stream, for a client that wants one."""
    head = {"id": body.get("id", ""), "created": body.get("created", 0), "model": body.get("model", "")}
    head["object"] = "chat.completion.chunk"
    choices = [choice for choice in body.get("choices", ()) if isinstance(choice, dict)]
    events = [{**head, "choices": [_chunk(choice)]} for choice in choices]
    ends = [
        {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason")}
        for choice in choices
    ]
    events += [{**head, "choices": [end]} for end in ends]
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append({**head, "choices": [], "usage": body.get("usage")})
    return tuple(events)


def _chunk(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls) if isinstance(call, dict)]
    return {"index": choice.get("index", 0), "delta": delta, "finish_reason": None}
