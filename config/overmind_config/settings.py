"""
Every setting, its default and its limits.

These are plain values: importing this module or making a `Settings` reads neither the environment nor a file.
`load` does that.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from overmind_config.kinds import (
    LOOPBACK_HOSTS,
    Command,
    HostPath,
    Hosts,
    Labels,
    ModelLines,
    ModelName,
    Names,
    Paths,
    Price,
    Section,
    Weights,
    Words,
    web_address,
)

LEASE_S: Final = 60.0  # what the embedded control plane grants, docs/protocol.md
FLUSH_S: Final = 30.0  # the last log lines and statuses, after the last child is gone
STOP_MARGIN_S: Final = 15.0
# The built-in job types that run no code of the job's author.
NO_CODE: Final = ("inference", "judge_scoring", "uploaded_outputs_setup", "model_backtesting", "prompt_tuning")


class ControlPlane(Section):
    """
    The server that holds the jobs.

    Attributes:
        token: what `load` read from the environment or from `token_file`.
    """

    allow_http: bool = False
    url: str = ""
    token_file: HostPath | None = None
    token: SecretStr | None = None
    adapter: Literal["overmind", "overmind-lab"] = "overmind"
    ca_file: HostPath | None = None
    client_cert_file: HostPath | None = None
    client_key_file: HostPath | None = None
    proxy: str | None = None
    no_proxy: Hosts = ()
    poll_wait_s: Annotated[float, Field(ge=0, le=30)] = 20.0
    heartbeat_s: Annotated[float, Field(ge=0.1)] = 15.0

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        if not url:
            return url
        parts = web_address(url)
        if parts.query or parts.fragment:
            raise ValueError("must not have a query or a fragment; write only the address of the server")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS and not info.data.get("allow_http"):
            raise ValueError(f"must start with https:// (got '{url}'); set control_plane.allow_http to permit it")
        return url.rstrip("/")

    @field_validator("client_key_file")
    @classmethod
    def _key_of_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("client_cert_file") is None:
            raise ValueError("is a key without its certificate; set control_plane.client_cert_file, too")
        return path

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, proxy: str | None) -> str | None:
        if proxy is not None and urlsplit(proxy).scheme not in {"http", "https"}:
            raise ValueError("must start with http:// or https://; write it as http://proxy.example:3128")
        return proxy

    @field_validator("heartbeat_s")
    @classmethod
    def _beat_thrice_a_lease(cls, heartbeat_s: float) -> float:
        if heartbeat_s > LEASE_S / 3:
            raise ValueError(
                f"{heartbeat_s:g} s is more than a third of the lease of {LEASE_S:g} s; set at most {LEASE_S / 3:g}"
            )
        return heartbeat_s


class Agent(Section):
    """This daemon and what it lets jobs do on this host."""

    name: Annotated[str, Field(min_length=1, max_length=255)] = Field(default_factory=socket.gethostname)
    state_dir: HostPath = Path("/var/lib/overmind-agent")
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    weights: Weights = ()
    labels: Labels = ()
    job_types: Names = NO_CODE
    data_roots: Paths = ()
    drain_s: Annotated[float, Field(ge=0)] = 240.0
    grace_s: Annotated[float, Field(ge=0)] = 10.0
    stop_timeout_s: Annotated[float, Field(gt=0)] = 330.0
    job_timeout_s: Annotated[float, Field(gt=0)] = 86_400.0
    no_progress_s: Annotated[float, Field(gt=0)] | None = None
    min_free_bytes: Annotated[int, Field(ge=0)] | None = None
    results_keep_days: Annotated[float, Field(gt=0)] = 7.0
    results_max_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    job_env: Names = ()
    nice: Annotated[int, Field(ge=0, le=19)] = 5

    @property
    def weight_of(self) -> Mapping[str, int]:
        """How many slots a job of a type takes, for the types that `weights` names."""
        return {name: int(weight) for name, _, weight in (line.rpartition("=") for line in self.weights)}

    @field_validator("grace_s")
    @classmethod
    def _end_before_the_lease(cls, grace_s: float) -> float:
        if grace_s + 5 > LEASE_S / 3:
            raise ValueError(
                f"{grace_s:g} s + 5 s is more than a third of the lease of {LEASE_S:g} s, so a job that lost its "
                f"lease would outlive it; set at most {LEASE_S / 3 - 5:g}"
            )
        return grace_s

    @field_validator("no_progress_s")
    @classmethod
    def _before_the_job_is_over(cls, no_progress_s: float | None, info: ValidationInfo) -> float | None:
        limit_s = info.data.get("job_timeout_s", math.inf)
        if no_progress_s is not None and no_progress_s >= limit_s:
            raise ValueError(
                f"{no_progress_s:g} s without progress are not less than job_timeout_s, {limit_s:g} s, which ends "
                "the job first; lower it, or leave it out"
            )
        return no_progress_s

    @field_validator("stop_timeout_s")
    @classmethod
    def _stop_in_time(cls, stop_timeout_s: float, info: ValidationInfo) -> float:
        needed_s = info.data.get("drain_s", 0) + info.data.get("grace_s", 0) + FLUSH_S + STOP_MARGIN_S
        if needed_s > stop_timeout_s:
            raise ValueError(
                f"drain_s + grace_s + {FLUSH_S:g} s for the last reports + {STOP_MARGIN_S:g} s is {needed_s:g} s, "
                f"more than {stop_timeout_s:g} s; lower drain_s, or raise this together with the service "
                "manager's own limit (TimeoutStopSec, stop_grace_period)"
            )
        return stop_timeout_s


class Policy(Section):
    """
    What no job may exceed here, whatever the control plane says; None is no limit.

    Attributes:
        models: `job_type=model` lines; a job of a type that they name may use only the models named with it.
        executors: the modules that executors of installed packages may come from; None for any. Our own may always.
        signatures: what becomes of a job without a signature of one of `signing_keys`: `off`, nothing is looked at;
            `warn`, it is said; `block`, the job fails.
        signing_keys: files of public keys, or of shared secrets, by the names under which jobs are signed.
        projects: ids of those whose jobs may run here; None for any.
        max_usd, max_calls, max_tokens: of one job, over all its attempts.
        judge_cache_days: how long judges' answers are kept for later jobs, 0 for not.
    """

    models: ModelLines = ()
    executors: Names | None = None
    signatures: Literal["off", "warn", "block"] = "off"
    signing_keys: Mapping[ModelName, HostPath] = {}
    projects: Words | None = None
    max_usd: Annotated[float, Field(gt=0)] | None = None
    max_calls: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    judge_cache_days: Annotated[float, Field(ge=0, le=3650)] = 0.0
    max_input_bytes: Annotated[int, Field(ge=0)] | None = None
    max_result_bytes: Annotated[int, Field(ge=0)] | None = None

    def is_welcome(self, project: str | None) -> bool:
        """Whether jobs of *project* may run here; None is one that the control plane does not name."""
        return self.projects is None or project in self.projects

    @property
    def models_of(self) -> Mapping[str, frozenset[str]]:
        """The models that a job of a type may use, for the types that `models` names."""
        lines = [line.rpartition("=")[::2] for line in self.models]
        return {job_type: frozenset(model for name, model in lines if name == job_type) for job_type, _ in lines}

    @property
    def spend_limits(self) -> Mapping[str, float]:
        """The limits that are set, under the names of a job's `budget`."""
        return self.model_dump(include={"max_usd", "max_calls", "max_tokens"}, exclude_none=True)


class Model(Section):
    """
    A model that jobs may use under a name of the host's.

    Attributes:
        kind: what it is asked for: answers, or vectors of texts; a job that needs the one cannot name the other.
        api_key: what `load` read from `api_key_file`.
        timeout_s: of a call, and for how long the model may answer nothing at all; None for 120 and 50 seconds.
        input_price, output_price: US dollars per million tokens.
        dask_scheduler: of a cluster whose workers make the calls; they read the key at the path of `api_key_file`.
        prices_as_of: the day on which these were the prices.
    """

    base_url: str
    model: Annotated[str, Field(min_length=1)]
    kind: Literal["chat", "embeddings"] = "chat"
    api_key_file: HostPath | None = None
    api_key: SecretStr | None = None
    ca_file: HostPath | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 4
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    input_price: Price | None = None
    output_price: Price | None = None
    prices_as_of: date | None = None
    dask_scheduler: str | None = None

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, base_url: str) -> str:
        web_address(base_url)
        return base_url.rstrip("/")

    @field_validator("dask_scheduler")
    @classmethod
    def _check_scheduler(cls, address: str | None) -> str | None:
        parts = urlsplit(address or "")
        if address is None or (parts.scheme == "tls" and parts.hostname):
            return address
        if parts.scheme == "tcp" and parts.hostname in LOOPBACK_HOSTS:
            return address
        raise ValueError("must start with tls:// and name a host, since rows travel there; tcp:// is for this host")

    @field_validator("api_key_file")
    @classmethod
    def _keep_the_key_off_plain_http(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        parts = urlsplit(info.data.get("base_url", ""))
        if path is not None and parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
            raise ValueError("a key must not travel over http://; use https:// in base_url or leave the key out")
        return path


class Functions(Section):
    """
    Commands of this host that jobs may run on their model file.

    Attributes:
        modules: folders with a `module_manifest.json`, or folders of such.
        commands: programs that jobs may give rows to, by name: JSON in, JSON out; words, no shell.
        code_roots: folders whose Python agents jobs may give rows to.
        credentials: files that functions get for their inputs of type `auth_info`, by the input's key.
        most_output_bytes: of all outputs together, and of any file that a function writes.
    """

    modules: Paths = ()
    commands: Mapping[ModelName, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    code_roots: Paths = ()
    credentials: Mapping[ModelName, HostPath] = {}
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    most_output_bytes: Annotated[int, Field(ge=1)] = 1 << 30


class Hooks(Section):
    """
    Commands of the host's owner, run round the work of each job; words, no shell.

    Attributes:
        before, after: the first word is a program's full path.
    """

    before: Command = ()
    after: Command = ()

    @field_validator("before", "after")
    @classmethod
    def _check_program(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if words and not words[0].startswith("/"):
            raise ValueError("must begin with the full path of a program; write it as a list of words")
        return words


class Sandbox(Section):
    """
    How far programs of jobs are shut in: Python agents, commands, functions.

    Attributes:
        use: `auto`, bubblewrap where it works, else limits alone; `required`, bubblewrap or no programs; `off`.
        reads: what programs in bubblewrap may read beside the system and their own code.
        exempt: names of commands and functions that run with limits alone, whatever *use* says.
        memory_bytes, processes, disk_bytes: of one program with all that it starts.
    """

    use: Literal["auto", "required", "off"] = "auto"
    reads: Paths = ()
    exempt: Names = ()
    memory_bytes: Annotated[int, Field(ge=64 << 20)] = 4 << 30
    processes: Annotated[int, Field(ge=8)] = 256
    disk_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20


class Logging(Section):
    """What is logged and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"


class Telemetry(Section):
    """
    What can be seen of this daemon from outside.

    Attributes:
        listen: `HOST:PORT` for health and metrics, empty for none.
    """

    allow_remote: bool = False
    listen: str = ""
    textfile: HostPath | None = None
    otlp_endpoint: str = ""

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str, info: ValidationInfo) -> str:
        if not listen:
            return listen
        parts = urlsplit(f"//{listen}")
        if not parts.hostname or parts.port is None or parts.netloc != listen or "@" in listen:
            raise ValueError(f"must be HOST:PORT (got '{listen}'); write it as 127.0.0.1:9464 or [::1]:9464")
        if parts.hostname not in LOOPBACK_HOSTS and not info.data.get("allow_remote"):
            raise ValueError(
                f"'{listen}' can be reached from other hosts, and asks nobody for a password; "
                "set telemetry.allow_remote to permit it"
            )
        return listen

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        parts = urlsplit(f"//{self.listen}")
        return parts.hostname or "", parts.port or 0

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        if endpoint:
            web_address(endpoint)
        return endpoint.rstrip("/")


class Settings(Section):
    """All of it."""

    control_plane: ControlPlane = ControlPlane()
    agent: Agent = Field(default_factory=Agent)
    policy: Policy = Policy()
    models: Mapping[ModelName, Model] = {}
    functions: Functions = Functions()
    hooks: Hooks = Hooks()
    sandbox: Sandbox = Sandbox()
    logging: Logging = Logging()
    telemetry: Telemetry = Telemetry()

    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for the redaction of logs."""
        keys = [self.control_plane.token, *(model.api_key for model in self.models.values())]
        found = [key.get_secret_value() for key in keys if key is not None]
        proxy = urlsplit(self.control_plane.proxy or "")
        return (*found, *([proxy.password] if proxy.password else []))
