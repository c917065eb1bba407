"""
What the Overmind Lab dialect takes: a table of fields for each body and each query.

Source:
    Overmind Lab's published API reference: limits, nullability, filters.
"""

from __future__ import annotations

from typing import Final

from overmind_controlplane.dialects import JOB_TYPES, WRITTEN
from overmind_controlplane.lab.checks import (
    A_BOOLEAN,
    A_NUMBER,
    A_TOLD_INTEGER,
    A_TOLD_NUMBER,
    A_TOLD_TIME,
    AN_ID,
    AN_INTEGER,
    ANYTHING,
    Field,
    Fields,
    choice,
    text,
)

_SEARCH: Final = Field("", text())

# -------------------------------------------------------------------------------------------------- jobs

JOB_FIELDS: Final[Fields] = {
    "agent": Field("target_agent_id", AN_ID, is_nullable=True),
    "project": Field("project", AN_ID, is_nullable=True),
    "triggered_by": Field("triggered_by", AN_INTEGER, is_nullable=True),
    "analyzer_model": Field("analyzer_model", text(128)),
    "backtest_results": Field("backtest_results", ANYTHING, is_nullable=True),
    "baseline_score": Field("baseline_score", A_NUMBER, is_nullable=True),
    "best_score": Field("best_score", A_NUMBER, is_nullable=True),
    "improvement": Field("improvement", A_NUMBER, is_nullable=True),
    "best_agent_code": Field("best_agent_code", text()),
    "report_markdown": Field("report_markdown", text()),
    "candidates_per_iteration": Field("candidates_per_iteration", AN_INTEGER),
    "num_iterations": Field("num_iterations", AN_INTEGER),
    "celery_task_id": Field("celery_task_id", text(255)),
    "data_source": Field("data_source", text(20, shortest=1)),
    "job_type": Field("job_type", choice(*JOB_TYPES)),
    "prompt_slug": Field("prompt_slug", text(255)),
    "result": Field("result", ANYTHING, is_nullable=True),
    "status": Field("status", choice(*WRITTEN)),
}

JOB_FILTERS: Final[Fields] = {
    "agent": Field("target_agent_id", AN_ID),
    "analyzer_model": Field("analyzer_model", text()),
    "created_after": Field("created", A_TOLD_TIME),
    "created_before": Field("created", A_TOLD_TIME),
    "data_source": Field("data_source", text()),
    "job_type": Field("job_type", choice(*JOB_TYPES)),
    "project": Field("project_id", AN_ID),
    "prompt_slug": Field("prompt_slug", text()),
    "score_max": Field("best_score", A_TOLD_NUMBER),
    "score_min": Field("best_score", A_TOLD_NUMBER),
    "search": _SEARCH,
    "status": Field("status", choice(*WRITTEN)),
}

# -------------------------------------------------------------------------------------------- iterations

_ITERATION_STATUS: Final = choice("keep", "discard", "running")

ITERATION_FIELDS: Final[Fields] = {
    "iteration_name": Field("iteration_name", text(64, shortest=1), is_required=True),
    "job": Field("job_id", AN_ID, is_required=True),
    "agent_code": Field("agent_code", text()),
    "avg_score": Field("avg_score", A_NUMBER),
    "description": Field("description", text()),
    "dimension_scores": Field("dimension_scores", ANYTHING, is_nullable=True),
    "order": Field("order", AN_INTEGER),
    "status": Field("status", _ITERATION_STATUS),
}

ITERATION_FILTERS: Final[Fields] = {
    "iteration_name": Field("iteration_name", text()),
    "job": Field("job_id", AN_ID),
    "score_max": Field("avg_score", A_TOLD_NUMBER),
    "score_min": Field("avg_score", A_TOLD_NUMBER),
    "search": _SEARCH,
    "status": Field("status", _ITERATION_STATUS),
}

# ------------------------------------------------------------------------------------- agents (programs)

_ANY_JSON: Final = Field("", ANYTHING, is_nullable=True)

# One generated client reads slugs of at most 50 characters, of these letters alone; what it cannot read back is
# still taken, as the reference has it.
AGENT_COLUMNS: Final[Fields] = {
    "name": Field("name", text(255, shortest=1), is_required=True),
    "slug": Field("slug", text(255, shortest=1, pattern=r"[-a-zA-Z0-9_]+"), is_required=True),
    "project": Field("project", AN_ID, is_required=True),
    "status": Field("status", text(20, shortest=1)),
    "model": Field("model", text(128)),
    "active_dataset": Field("active_dataset_id", AN_ID, is_nullable=True),
    "is_deleted": Field("is_deleted", A_BOOLEAN),
}
"""Fields of an agent that have a column, since they are filtered, looked up or guarded."""

AGENT_ATTRIBUTES: Final[Fields] = {
    "display_name": Field("", text(512), default=""),
    "description": Field("", text(), default=""),
    "tags": _ANY_JSON,
    "agent_path": Field("", text(512), default=""),
    "entrypoint_fn": Field("", text(255), default=""),
    "analyzer_model": Field("", text(128), default=""),
    "input_schema": _ANY_JSON,
    "output_schema": _ANY_JSON,
    "output_fields": _ANY_JSON,
    "structure_weight": Field("", A_NUMBER, default=20.0),
    "tool_config": _ANY_JSON,
    "tool_usage_weight": Field("", A_NUMBER, default=0.0),
    "total_points": Field("", A_NUMBER, default=100.0),
    "consistency_rules": _ANY_JSON,
    "optimizable_elements": _ANY_JSON,
    "fixed_elements": _ANY_JSON,
    "evaluation_criteria": _ANY_JSON,
    "proposed_criteria": _ANY_JSON,
    "tool_analysis": _ANY_JSON,
    "policy_data": _ANY_JSON,
    "policy_markdown": Field("", text(), default=""),
    "dataset_size": Field("", AN_INTEGER, default=0),
    "dataset_has_expected_output": Field("", A_BOOLEAN, default=False),
    "dataset_input_keys": _ANY_JSON,
    "eval_dataset": _ANY_JSON,
    "backtest_metadata": _ANY_JSON,
    "backtest_model_suggestions": _ANY_JSON,
    "improvement_metadata": _ANY_JSON,
    "agent_description": _ANY_JSON,
}
"""Fields of an agent that are only kept and shown, in one JSON object."""

AGENT_FIELDS: Final[Fields] = {**AGENT_COLUMNS, **AGENT_ATTRIBUTES}

AGENT_FILTERS: Final[Fields] = {
    "model": Field("model", text()),
    "name": Field("name", text()),
    "project": Field("project_id", AN_ID),
    "search": _SEARCH,
    "slug": Field("slug", text()),
    "status": Field("status", text()),
}

# ---------------------------------------------------------------------------------------------- datasets

DATASET_FIELDS: Final[Fields] = {
    "agent": Field("agent_id", AN_ID, is_required=True),
    "datapoints": Field("datapoints", ANYTHING, is_required=True),
    "generator_model": Field("generator_model", text(128)),
    "make_active": Field("make_active", A_BOOLEAN),
    "metadata": Field("details", ANYTHING, is_nullable=True),
    "name": Field("name", text(255)),
    "policy_hash": Field("policy_hash", text(64)),
    "source": Field("source", text(32, shortest=1)),
}

DATAPOINT_FIELDS: Final[Fields] = {
    "input": Field("input", ANYTHING, is_nullable=True, is_required=True),
    "expected_output": Field("expected_output", ANYTHING, is_nullable=True),
    "order": Field("order", AN_INTEGER),
    "persona": Field("persona", text(128)),
    "tags": Field("tags", ANYTHING, is_nullable=True),
}

DATASET_FILTERS: Final[Fields] = {
    "agent": Field("agent_id", AN_ID),
    "generator_model": Field("generator_model", text()),
    "search": _SEARCH,
    "source": Field("source", text()),
    "version": Field("version", A_TOLD_INTEGER),
    "version_max": Field("version", A_TOLD_INTEGER),
    "version_min": Field("version", A_TOLD_INTEGER),
}
