"""
An eval spec: which fields an output has, what each is worth, and the rules between them. Points, 100 in all.

Source:
    `eval_spec.json` of OverClaw. What it leaves to guesses (rules for every pair of fields) is not guessed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from overmind_executors.parameters import Parameters

IMPORTANCE: Final[Mapping[str, int]] = {"critical": 3, "important": 2, "minor": 1}
DEFAULT_TOLERANCE: Final = 10.0

Points = Annotated[float, Field(ge=0, le=1000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Band(Parameters):
    """A number within *within* of the expected one earns *score_pct* of the weight."""

    within: Annotated[float, Field(ge=0)]
    score_pct: Annotated[float, Field(ge=0, le=1)]


def bands_of(tolerance: float) -> list[Band]:
    """The bands that OverClaw makes of a tolerance, such as 10: 5 → 1.0, 10 → 0.8, 15 → 0.5, 25 → 0.25."""
    widths = (max(1, tolerance // 2), tolerance, int(1.5 * tolerance), int(2.5 * tolerance))
    shares = (1.0, 0.8, 0.5, 0.25)
    return [
        Band(within=float(width), score_pct=share) for width, share in zip(widths, shares, strict=True) if width > 0
    ]


class FieldSpec(Parameters):
    """
    One field of the output.

    Attributes:
        values: of an enum, best first.
        partial_score: points for a valid value other than the expected one; None for max(1, a fifth of the weight).
        range: of a number, low and high; what `correlation` measures against.
        tolerance: of a number without bands: within it all points, within twice of it half of them.
    """

    type: Literal["enum", "number", "text", "boolean"]
    description: str = ""
    weight: Points = 0.0
    importance: Literal["critical", "important", "minor"] = "important"
    values: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    partial_credit: bool = True
    partial_score: Points | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    tolerance: Annotated[float, Field(ge=0)] = DEFAULT_TOLERANCE
    tolerance_bands: list[Band] | None = None
    eval_mode: Literal["non_empty", "similarity", "keyword_coverage", "skip"] = "non_empty"

    @model_validator(mode="after")
    def _fits_its_type(self) -> FieldSpec:
        if (self.type == "enum") != (self.values is not None):
            raise ValueError("values belong to an enum, and an enum needs them")
        if self.range is not None and (self.type != "number" or not self.range[0] < self.range[1]):
            raise ValueError("range belongs to a number: the lower end, then the higher one")
        if self.partial_score is not None and self.partial_score > self.weight:
            raise ValueError("partial_score is more than the weight")
        return self

    @property
    def partial_points(self) -> float:
        """For a valid value of an enum that is not the expected one."""
        if not self.partial_credit:
            return 0.0
        given = max(1.0, float(round(self.weight * 0.2))) if self.partial_score is None else self.partial_score
        return min(given, self.weight)


class ConsistencyRule(Parameters):
    """
    What has to hold between two fields, or costs *penalty* points.

    `correlation`: a number (`field_a`) near one end of its range with an enum (`field_b`) at the other end of its
    values. `ordering`: `field_a operator field_b`, both numbers.
    """

    field_a: Name
    field_b: Name
    type: Literal["correlation", "ordering"]
    operator: Literal["<=", "<", ">=", ">"] = "<="
    penalty: Annotated[float, Field(gt=0, le=100)] = 3.0


class Dependency(Parameters):
    """A tool's parameter takes what another tool gave out."""

    from_tool: Name
    from_field: Name
    to_tool: Name
    to_param: Name


class ToolConfig(Parameters):
    """Which tools have to be called, and which values their parameters may have."""

    expected_tools: list[Name] = Field(default_factory=list)
    dependencies: list[Dependency] = Field(default_factory=list)
    param_constraints: dict[str, dict[str, list[Any]]] = Field(default_factory=dict)


class EvalSpec(Parameters):
    """
    A whole spec. Unknown keys are refused, so that a misspelled weight is not silently none.

    Attributes:
        llm_judge_weight: points for what a judge says of the whole; without a judge the fields share them.
    """

    output_fields: Annotated[dict[Name, FieldSpec], Field(min_length=1, max_length=200)]
    agent_description: str = ""
    agent_path: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    structure_weight: Points = 20.0
    total_points: Annotated[float, Field(gt=0, le=1000)] = 100.0
    tool_config: ToolConfig | None = None
    tool_usage_weight: Points = 0.0
    llm_judge_weight: Points = 0.0
    consistency_rules: list[ConsistencyRule] = Field(default_factory=list)

    @model_validator(mode="after")
    def _holds_together(self) -> EvalSpec:
        if not any(field.weight for field in self.output_fields.values()):
            raise ValueError("every field weighs 0; give at least one a weight")
        for rule in self.consistency_rules:
            self._check(rule)
        return self

    def _check(self, rule: ConsistencyRule) -> None:
        kinds = []
        for name in (rule.field_a, rule.field_b):
            if name not in self.output_fields:
                raise ValueError(f"a consistency rule names {name[:64]!r}, which is no output field")
            kinds.append(self.output_fields[name])
        if rule.type == "ordering" and [k.type for k in kinds] != ["number", "number"]:
            raise ValueError("an ordering rule is between two numbers")
        if rule.type == "correlation":
            if [k.type for k in kinds] != ["number", "enum"] or kinds[0].range is None:
                raise ValueError("a correlation rule is between a number with a range and an enum")
            if len(kinds[1].values or ()) < 2:
                raise ValueError("a correlation rule needs an enum of two values at least")

    @property
    def weight(self) -> float:
        """All points that the parts of the spec can earn together."""
        fields = sum(field.weight for field in self.output_fields.values())
        return self.structure_weight + fields + self.tool_usage_weight + self.llm_judge_weight

    def without_judge(self) -> EvalSpec:
        """The judge's points shared out over the fields in proportion, each rounded to one decimal."""
        if not self.llm_judge_weight:
            return self
        whole = sum(field.weight for field in self.output_fields.values())
        fields = {
            name: spec.model_copy(
                update={"weight": round(spec.weight + self.llm_judge_weight * spec.weight / whole, 1)}
            )
            for name, spec in self.output_fields.items()
        }
        return self.model_copy(update={"output_fields": fields, "llm_judge_weight": 0.0})
