"""What the agent writes to a child process: one job, and all that it may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from overmind_executors import strict_json
from overmind_executors.contract import AnswersKept, ModelEndpoint
from overmind_executors.functions.manifest import Function
from overmind_executors.sandbox.levels import Sandbox

# The order is one object round a job's parameters, which may have all the levels that the agent lets through.
_LEVELS: Final = strict_json.MAX_DEPTH + 1


class Order(BaseModel):
    """
    One job. Paths are relative to the job's workspace, which is the child's working folder.

    Attributes:
        models: with their keys, which are nowhere else: not in the environment, not on disk.
        barred_models: names of the host's models that this job may not use.
        function: of the host, when the job's type is one: the job's process has no settings to read it from.
        spend_limits: what the host lets a job spend, under the names of a job's `budget`.
        answers_kept: where, absolute, and for how many days.
        traceparent: the span of this attempt, which the calls of chat models are part of.
        tells_spans: whether the agent wants to hear of each call.
        data_roots: absolute folders that the job may read by path.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    job_id: str
    attempt: int
    job_type: str
    parameters: dict[str, Any]
    input_file: Path | None = None
    input_name: str | None = None
    output: Path = Path("output")
    state: Path = Path("state")
    models: tuple[ModelEndpoint, ...] = ()
    barred_models: frozenset[str] = frozenset()
    data_roots: tuple[Path, ...] = ()
    spend_limits: dict[str, int | float] = {}
    answers_kept: AnswersKept | None = None
    function: Function | None = None
    commands: dict[str, tuple[str, ...]] = {}
    code_roots: tuple[Path, ...] = ()
    traceparent: str = ""
    tells_spans: bool = False
    sandbox: Sandbox = Sandbox()

    def within(self, workspace: Path) -> Order:
        """The same with absolute paths in *workspace*: an executor may change the working folder."""
        paths = {"output": workspace / self.output, "state": workspace / self.state}
        given = workspace / self.input_file if self.input_file else None
        return self.model_copy(update={**paths, "input_file": given})

    def redact(self, text: str) -> str:
        """*text* without any of the models' keys, and without the password of their proxy."""
        for model in self.models:
            for secret in (model.api_key, urlsplit(model.proxy).password):
                if secret:
                    text = text.replace(secret, "[redacted]")
        return text


class BadOrder(Exception):
    """What came on standard input is not an order. Names the fields, never a value."""


def read(raw: bytes) -> Order:
    """
    The order that *raw* is.

    Raises:
        BadOrder: it is none.
    """
    try:
        return Order.model_validate(strict_json.loads(raw, levels=_LEVELS))
    except strict_json.NotJson as error:
        raise BadOrder(f"order is not JSON: {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors())
        raise BadOrder(f"order does not fit: {'; '.join(wrong)}") from None
