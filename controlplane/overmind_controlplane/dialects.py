"""
One record, three dialects: what each of them calls what a job is. The only table of its kind.

| the record | agent-pull | Overmind Lab | prompt optimisation |
|---|---|---|---|
| id | `id` | `id` | `job_id` |
| type | `function.name` = `@overmind:<type>` | `job_type` | always `prompt_tuning` |
| parameters | the JSON revision of `file` | `result.parameters` | the request's fields |
| input | `model_id` | `dataset_id` or `items_file` in the parameters | `dataset_id` |
| status | `status_history[-1].name`, ten names | `status`, five words | `status`, the same five words |
| progress | the message of Running; heartbeats | `result.progress` | `progress` |
| outcome | artifacts; `detail.outcome` | score fields, `result`, iterations | `optimized_version_id`, … |
| failure | message and `detail.reason` of Failed | `result.errors` | `error_message` |
| begun, ended | `created` of the first, last status | `created_at`, `agent_run` | `created_at`, `completed_at` |

Source:
    Status words: `overmind_agent.lifecycle`, which this module reads and never repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from overmind_agent.jobs import FUNCTION_SCOPE
from overmind_agent.lifecycle import LIFECYCLE, Status


class Dialect(StrEnum):
    """A way to speak of jobs."""

    PULL = "agent-pull"
    LAB = "Overmind Lab"
    OPTIMISATION = "prompt optimisation"


JOB_TYPES: Final = ("inference", "uploaded_outputs_setup", "judge_scoring", "prompt_tuning", "model_backtesting")
"""The types that Overmind Lab knows; agent-pull has any function besides."""

OPTIMISATION_TYPE: Final = "prompt_tuning"
"""The one type of the prompt-optimisation dialect."""

STATUS_WORDS: Final[Mapping[Status, Mapping[Dialect, str]]] = {
    status: {
        Dialect.PULL: status.value,
        Dialect.LAB: stage.rest_name,
        Dialect.OPTIMISATION: stage.rest_name,
    }
    for status, stage in LIFECYCLE.items()
    if stage.rest_name
}
"""How each status is written. `Canceled` has one l in the ten names, `cancelled` two in the five words."""

WRITTEN: Final[Mapping[str, Status]] = {
    "pending": Status.PENDING,
    "running": Status.RUNNING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELED,
}
"""The status that one of the five words stands for when a client writes it."""

OTHER_SPELLINGS: Final[Mapping[str, str]] = {"canceled": "cancelled"}
"""What people and open strings may say for one of the five words."""

OPTIMISATION_ROOT: Final = "/api/v2/projects/"
"""What the paths of the prompt-optimisation dialect begin with, and no other."""

OPTIMISATION_SWITCHES: Final = (
    "use_best_practices",
    "use_labels",
    "use_customer_feedback",
    "run_test_after_optimization",
)
"""Fields of a prompt-optimisation request that are parameters of the same name: true unless they are false."""

OPTIMISATION_IDS: Final = ("prompt_template_version_id", "dataset_id")
"""Fields of a prompt-optimisation request that name things, and are parameters of the same name."""


def word(status: Status, dialect: Dialect) -> str:
    """What *dialect* calls *status*."""
    return STATUS_WORDS[status][dialect]


def statuses(said: str, dialect: Dialect) -> frozenset[Status]:
    """Every status that *dialect* calls *said*; empty for a word that it does not have."""
    return frozenset(status for status, words in STATUS_WORDS.items() if words[dialect] == said)


def function_of(job_type: str) -> str:
    """`@overmind:inference` for `inference`."""
    return FUNCTION_SCOPE + job_type
