"""
The settings in force, and all that follows from them: one value, so that a job that begins sees one configuration
whole, and a job that runs keeps the one with which it began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overmind_agent.children.order import ChildSettings
from overmind_agent.children.program_sandbox import sandbox_of
from overmind_agent.configuration.checked import read_functions, usable
from overmind_agent.errors import ExecutorError, JobError
from overmind_agent.host.size_limits import SizeLimits
from overmind_agent.host.time_limits import TimeLimits
from overmind_agent.over_http.planes import network_of_model
from overmind_agent.ports import Offer
from overmind_agent.signing.policy import Signatures
from overmind_config.settings import Model, Settings
from overmind_executors import registry
from overmind_executors.contract import SILENCE_S, AnswersKept, InvalidParameters, ModelEndpoint
from overmind_executors.functions import FunctionExecutor
from overmind_executors.functions.manifest import Function
from overmind_executors.sandbox.levels import Sandbox


@dataclass(frozen=True)
class InForce:
    """
    Made by `of`.

    Attributes:
        functions: what this host can run on a model file, by name.
        job_types: what it takes: job types and functions.
        children: what each child is given.
    """

    settings: Settings
    functions: Mapping[str, Function]
    job_types: tuple[str, ...]
    children: ChildSettings

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        environment_of: Callable[[Sequence[str]], Mapping[str, str]],
        key_of: Callable[[str], str],
    ) -> InForce:
        """
        What follows from *settings*.

        Args:
            environment_of: the variables of those names, as far as they are set.
            key_of: see ChildSettings.

        Raises:
            BadManifest: a function's manifest cannot be used.
        """
        sandbox = sandbox_of(settings)
        functions = {
            function.name: function for function in read_functions(settings) if not sandbox.refuses(function.name)
        }
        environment = environment_of(settings.agent.job_env)
        children = _children(settings, functions, environment=environment, sandbox=sandbox, key_of=key_of)
        return cls(settings, functions, (*usable(settings), *functions), children)

    @property
    def offer(self) -> Offer:
        """What the control plane is told of this host."""
        return Offer(
            job_types=self.job_types,
            functions={name: function.module_version for name, function in self.functions.items()},
            slots=self.settings.agent.slots,
            capabilities=(
                *(f"label:{label}" for label in self.settings.agent.labels),
                *(f"model:{name}" for name in self.settings.models),
                *(f"project:{name}" for name in self.settings.policy.projects or ()),
            ),
        )

    @property
    def sizes(self) -> SizeLimits:
        """Of input and result."""
        return SizeLimits(self.settings.policy.max_input_bytes, self.settings.policy.max_result_bytes)

    @property
    def signatures(self) -> Signatures:
        """What is asked of the signatures of jobs."""
        return Signatures(self.settings.policy.signatures, self.settings.policy.signing_keys)

    @property
    def limits(self) -> TimeLimits:
        """Of the phases of a job."""
        return TimeLimits(self.settings.agent.job_timeout_s, self.settings.agent.no_progress_s)

    def validate(self, job_type: str, parameters: Mapping[str, Any]) -> object:
        """Check *parameters* as whoever does that type of job does; raises InvalidParameters and JobError."""
        if (function := self.functions.get(job_type)) is not None:
            return FunctionExecutor(function).validate(parameters)
        return validate(job_type, parameters)


def _children(
    settings: Settings,
    functions: Mapping[str, Function],
    *,
    environment: Mapping[str, str],
    sandbox: Sandbox,
    key_of: Callable[[str], str],
) -> ChildSettings:
    agent = settings.agent
    return ChildSettings(
        models=_models(settings),
        data_roots=agent.data_roots,
        environment=environment,
        grace_s=agent.grace_s,
        nice=agent.nice,
        owner=str(agent.state_dir),
        commands=settings.functions.commands,
        code_roots=settings.functions.code_roots,
        sandbox=sandbox,
        models_of=settings.policy.models_of,
        spend_limits=settings.policy.spend_limits,
        answers_kept=_answers_kept(settings),
        functions={name: function.model_dump(mode="json") for name, function in functions.items()},
        key_of=key_of,
        tells_spans=bool(settings.telemetry.otlp_endpoint),
    )


def _answers_kept(settings: Settings) -> AnswersKept | None:
    days = settings.policy.judge_cache_days
    return AnswersKept(settings.agent.state_dir / "answers", days) if days else None


def _models(settings: Settings) -> list[ModelEndpoint]:
    return [
        ModelEndpoint(
            name=name,
            base_url=model.base_url,
            model=model.model,
            kind=model.kind,
            max_concurrency=model.max_concurrency,
            input_price=model.input_price,
            output_price=model.output_price,
            dask_scheduler=model.dask_scheduler or "",
            api_key_file=str(model.api_key_file or ""),
            proxy=network_of_model(settings, name).proxies(model.base_url).get("https", ""),
            ca_file=str(model.ca_file or ""),
            prices_as_of=model.prices_as_of.isoformat() if model.prices_as_of else "",
            **_times_of(model),
        )
        for name, model in settings.models.items()
    ]


def _times_of(model: Model) -> dict[str, Any]:
    """Who says how long a call may take knows the model: it has as long to say anything at all."""
    said_s = model.timeout_s
    return {} if said_s is None else {"timeout_s": said_s, "silence_s": max(SILENCE_S, said_s)}


def validate(job_type: str, parameters: Mapping[str, Any]) -> object:
    """Check *parameters* as the executor for *job_type* does; that one cannot be loaded is the job's failure."""
    try:
        return registry.executor_for(job_type).validate(parameters)
    except InvalidParameters:
        raise
    except registry.UnknownJobType as error:
        raise JobError(str(error), reason="unknown_job_type") from error
    except registry.BrokenExecutor as error:
        raise JobError(str(error), reason="executor_not_loaded") from error
    except (Exception, SystemExit) as error:  # a third party's code, which may raise anything
        raise ExecutorError(f"the executor's validate broke: {type(error).__name__}") from error
