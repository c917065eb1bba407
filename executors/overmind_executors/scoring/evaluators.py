"""The kinds of evaluators that a job can name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overmind_executors.scoring import json_checks, text_checks, trajectories

Evaluators = Annotated[
    text_checks.ExactMatch
    | text_checks.Contains
    | text_checks.Label
    | text_checks.Regex
    | text_checks.TextSimilarity
    | text_checks.KeywordCoverage
    | text_checks.EditSimilarity
    | text_checks.CardConstraints
    | json_checks.JsonSchemaValid
    | json_checks.FieldPresent
    | json_checks.SchemaFieldConformance
    | json_checks.CanonicalFields
    | json_checks.ReferenceFieldCompare
    | json_checks.EvalSpecScore
    | json_checks.Latency
    | json_checks.Cost
    | json_checks.TurnCount
    | trajectories.ToolSelection
    | trajectories.ToolArgsMatch
    | trajectories.Trajectory
    | trajectories.NoRedundantCalls
    | trajectories.TrajectoryTerminals
    | trajectories.SubgoalProgress
    | trajectories.GoalStateMatch,
    Field(discriminator="kind"),
]
"""One of them, chosen by its `kind`."""
