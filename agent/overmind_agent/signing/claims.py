"""What a signature of a job is about: all that decides what runs, and nothing that the server alone sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from overmind_agent.jobs import Job, RemoteFile


@dataclass(frozen=True)
class Work:
    """
    The part of a job that its submitter answers for.

    Not in it: the job's id, its model, priority, labels, limits, attempts and trace. They say where and when it
    runs, and how long it may; they are the control plane's, within what the host allows.

    Attributes:
        project: whose it is; None where the server does not say.
        job_type: what is run, as the host knows it, such as `inference` or the name of a function.
        display_name: what the submitter called the parameters.
        parameters: named by its digest and salt.
        input: the same of the input file, None for a job without.
    """

    project: str | None
    job_type: str
    function_version: str | None
    display_name: str | None
    parameters: RemoteFile
    input: RemoteFile | None

    @classmethod
    def of(cls, job: Job, input_file: RemoteFile | None) -> Work:
        """Of a job as it is offered, and the input file that it would be given."""
        return cls(job.project, job.job_type, job.function_version, job.display_name, job.parameters, input_file)

    def claims(self) -> dict[str, Any]:
        """As it is signed: a flat JSON object, so that each thing that differs has a name."""
        return {
            "project": self.project,
            "job_type": self.job_type,
            "function_version": self.function_version,
            "display_name": self.display_name,
            **_named("parameters", self.parameters),
            **_named("input", self.input),
        }


def _named(what: str, file: RemoteFile | None) -> dict[str, Any]:
    told = (file.name, file.sha, file.salt, file.size_bytes) if file else (None,) * 4
    return {f"{what}_{part}": value for part, value in zip(("name", "sha", "salt", "size"), told, strict=True)}
