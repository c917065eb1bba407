"""What a job's process is given: its environment, which anybody may see, and its order, which has keys in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from overmind_agent import tracing
from overmind_agent.children import processes
from overmind_agent.jobs import Claim
from overmind_agent.ports import Workspace
from overmind_executors.contract import AnswersKept, ModelEndpoint
from overmind_executors.sandbox.levels import Sandbox
from overmind_executors.trace_context import VARIABLE

SAFE_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class ChildSettings:
    """
    What every child of this host gets.

    Attributes:
        models: the chat models that jobs may name; their keys go to the child's standard input alone.
        environment: variables on top of the fixed ones; never the agent's own environment.
        grace_s: between the wish to stop and the kill.
        nice: added to the child's priority, so that heartbeats come first.
        functions: what `overmind_executors.process.order` reads of each function of this host, by its name.
        commands, code_roots: the programs that rows may be given to.
        sandbox: how far programs are shut in.
        models_of: for the job types that it names, the only models that their jobs may use.
        spend_limits: what any job may spend here, under the names of a job's `budget`.
        answers_kept: where judges' answers are kept from job to job; None for not.
        key_of: the key of the model of that name, as it is when a job begins.
        tells_spans: whether a job tells of each call of a chat model.
        owner: how the marks of all its processes begin, so that a later agent finds what outlived this one.
    """

    models: Sequence[ModelEndpoint]
    data_roots: Sequence[Path]
    environment: Mapping[str, str]
    grace_s: float
    nice: int
    owner: str
    functions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    code_roots: Sequence[Path] = ()
    sandbox: Sandbox = field(default_factory=Sandbox)
    models_of: Mapping[str, Collection[str]] = field(default_factory=dict)
    spend_limits: Mapping[str, float] = field(default_factory=dict)
    answers_kept: AnswersKept | None = None
    key_of: Callable[[str], str] = lambda _name: ""
    tells_spans: bool = False

    def _is_barred(self, model: ModelEndpoint, job_type: str) -> bool:
        allowed = self.models_of.get(job_type)
        return allowed is not None and model.name not in allowed

    def _with_key(self, model: ModelEndpoint) -> dict[str, Any]:
        return asdict(replace(model, api_key=self.key_of(model.name) or model.api_key))

    def _kept(self) -> dict[str, Any] | None:
        kept = self.answers_kept
        return None if kept is None else {"folder": str(kept.folder), "days": kept.days}

    def common_environment(self) -> dict[str, str]:
        """What is the same for all of them."""
        return {"LANG": "C.UTF-8", "PATH": SAFE_PATH, **self.environment}

    def environment_of(self, claim: Claim, workspace: Workspace, mark: str) -> dict[str, str]:
        """All that a job's process has in its environment."""
        return {
            **self.common_environment(),
            "HOME": str(workspace.folder),
            "TMPDIR": str(workspace.temporary),
            "OVERMIND_JOB_ID": claim.job.id,
            "OVERMIND_JOB_ATTEMPT": str(claim.attempt),
            processes.MARK: mark,
            VARIABLE: str(tracing.of_claim(claim)),
        }

    def order_for(self, claim: Claim, parameters: Mapping[str, Any], workspace: Workspace) -> bytes:
        """What `overmind_executors.process.order` reads."""
        here = workspace.folder
        job_type = claim.job.job_type
        function = self.functions.get(job_type)
        # A job gets the keys of no other models than those that it may use; a command of the host's needs none.
        barred = {model.name for model in self.models if function or self._is_barred(model, job_type)}
        order = {
            "job_id": claim.job.id,
            "attempt": claim.attempt,
            "job_type": job_type,
            "traceparent": str(tracing.of_claim(claim)),
            "tells_spans": self.tells_spans,
            "parameters": dict(parameters),
            "input_file": str(workspace.input_file.relative_to(here)) if workspace.input_name else None,
            "input_name": workspace.input_name,
            "output": str(workspace.output.relative_to(here)),
            "state": str(workspace.state.relative_to(here)),
            "function": function,
            "commands": {name: list(words) for name, words in self.commands.items()},
            "code_roots": [str(root) for root in self.code_roots],
            "sandbox": self.sandbox.as_json(),
            "models": [self._with_key(model) for model in self.models if model.name not in barred],
            "barred_models": sorted(barred),
            "spend_limits": dict(self.spend_limits),
            "answers_kept": self._kept(),
            "data_roots": [str(root) for root in self.data_roots],
        }
        return json.dumps(order).encode()
