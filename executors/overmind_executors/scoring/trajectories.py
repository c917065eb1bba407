"""Evaluators of what an agent did: the tools it called, in which order, with what, and where that led."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from overmind_executors import strict_json
from overmind_executors.scoring.evaluator import Evaluator, object_of
from overmind_executors.scoring.items import Item, ToolCall, names_of
from overmind_executors.scoring.scores import Score, abstained, not_applicable, passed, scored
from overmind_executors.scoring.text_checks import rapidfuzz_distance
from overmind_executors.scoring.texts import as_text, folded

ArgumentMode = Literal["exact", "ignore", "subset", "superset"]


class _OfCalls(Evaluator):
    """Needs a trace of tool calls: an output is not needed, and no calls are no basis for a score."""

    needs_output: ClassVar[bool] = False

    def score(self, item: Item) -> Score:
        if not item.tool_calls:
            return abstained("no_tool_trace" if item.tool_calls is None else "no_calls")
        return self.score_calls(item.tool_calls, item)

    @abstractmethod
    def score_calls(self, calls: tuple[ToolCall, ...], item: Item) -> Score:
        """The score of calls that there are."""


class ToolSelection(_OfCalls):
    """F1 of the tools called against the reference; with *vocabulary* alone, the share of calls that are in it."""

    is_graded: ClassVar[bool] = True
    kind: Literal["tool_selection"] = "tool_selection"
    vocabulary: list[str] | None = None

    def score_calls(self, calls: tuple[ToolCall, ...], item: Item) -> Score:
        said = Counter(names_of(calls))
        if item.expected_tool_calls:
            wanted = Counter(names_of(item.expected_tool_calls))
            return scored(2 * (said & wanted).total() / (said.total() + wanted.total()))
        if self.vocabulary is None:
            return abstained("no_reference")
        return scored(sum(said[name] for name in set(self.vocabulary)) / said.total())


class ToolArgsMatch(_OfCalls):
    """
    The share of the reference's calls that were made with fitting arguments.

    Attributes:
        mode: `exact`; `subset`: no argument beyond the reference's; `superset`: all of the reference's; `ignore`.
        tools: another mode for a tool, or the list of its arguments that count.
    """

    is_graded: ClassVar[bool] = True
    kind: Literal["tool_args_match"] = "tool_args_match"
    mode: ArgumentMode = "exact"
    tools: dict[str, ArgumentMode | list[str]] = Field(default_factory=dict)

    def score_calls(self, calls: tuple[ToolCall, ...], item: Item) -> Score:
        if not item.expected_tool_calls:
            return abstained("no_reference")
        left = list(calls)
        hits = 0
        for wanted in item.expected_tool_calls:
            found = next((call for call in left if _is_like(call, wanted, self.mode, self.tools)), None)
            if found is not None:
                left.remove(found)
                hits += 1
        return scored(hits / len(item.expected_tool_calls))


class Trajectory(_OfCalls):
    """
    The calls against the reference's, each with fitting arguments.

    `strict`: the same in the same order. `unordered`: the same. `subset`: none beyond the reference's. `superset`:
    all of the reference's. `subsequence`: the longest common subsequence over the reference's length, in degrees.
    """

    kind: Literal["trajectory"] = "trajectory"
    mode: Literal["strict", "unordered", "subset", "superset", "subsequence"] = "unordered"
    arguments: ArgumentMode = "ignore"
    tools: dict[str, ArgumentMode | list[str]] = Field(default_factory=dict)

    @property
    def passes_at(self) -> float | None:
        """As every evaluator; a subsequence has degrees."""
        return self.pass_threshold if self.mode == "subsequence" and not self.gate else super().passes_at

    def prepare(self) -> None:
        if self.mode == "subsequence":
            rapidfuzz_distance()

    def score_calls(self, calls: tuple[ToolCall, ...], item: Item) -> Score:
        wanted = item.expected_tool_calls
        if not wanted:
            return abstained("no_reference")
        if self.mode == "subsequence":
            return scored(self._common(calls, wanted) / len(wanted))
        if self.mode == "strict":
            in_order = len(calls) == len(wanted)
            return passed(in_order and all(map(self._fits, calls, wanted)))
        paired = self._pairs(calls, wanted)
        return passed(
            (self.mode == "superset" or paired == len(calls)) and (self.mode == "subset" or paired == len(wanted))
        )

    def _fits(self, call: ToolCall, wanted: ToolCall) -> bool:
        return _is_like(call, wanted, self.arguments, self.tools)

    def _pairs(self, calls: tuple[ToolCall, ...], wanted: tuple[ToolCall, ...]) -> int:
        left, pairs = list(calls), 0
        for reference in wanted:
            found = next((call for call in left if self._fits(call, reference)), None)
            if found is not None:
                left.remove(found)
                pairs += 1
        return pairs

    def _common(self, calls: tuple[ToolCall, ...], wanted: tuple[ToolCall, ...]) -> int:
        """Each reference call stands for itself, and each call for the first one that it fits."""
        numbers = [next(n for n, w in enumerate(wanted) if w is call or self._fits(call, w)) for call in wanted]
        said = [next((n for n, w in enumerate(wanted) if self._fits(call, w)), -1) for call in calls]
        common: int = rapidfuzz_distance().LCSseq.similarity(said, numbers)
        return common


class NoRedundantCalls(_OfCalls):
    """The share of calls that do not repeat an earlier one with the same arguments."""

    is_graded: ClassVar[bool] = True
    kind: Literal["no_redundant_calls"] = "no_redundant_calls"

    def score_calls(self, calls: tuple[ToolCall, ...], _item: Item) -> Score:
        different = {(call.name, strict_json.canonical(call.arguments)) for call in calls}
        return scored(len(different) / len(calls))


class TrajectoryTerminals(_OfCalls):
    """The first and the last call are the tools that they should be."""

    kind: Literal["trajectory_terminals"] = "trajectory_terminals"
    first: str | None = None
    last: str | None = None

    def score_calls(self, calls: tuple[ToolCall, ...], item: Item) -> Score:
        reference = names_of(item.expected_tool_calls or ())
        first = self.first or (reference[0] if reference else None)
        last = self.last or (reference[-1] if reference else None)
        if first is None and last is None:
            return abstained("no_reference")
        names = names_of(calls)
        return passed(names[0] == (first or names[0]) and names[-1] == (last or names[-1]))


class SubgoalProgress(Evaluator):
    """The share of *subgoals* reached: each is a tool that was called, or words that the output holds."""

    is_graded: ClassVar[bool] = True
    needs_output: ClassVar[bool] = False
    kind: Literal["subgoal_progress"] = "subgoal_progress"
    subgoals: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]

    def score(self, item: Item) -> Score:
        if item.absence and not item.tool_calls:
            return abstained(item.absence)
        called = {folded(name) for name in names_of(item.tool_calls or ())}
        text = "" if item.absence else folded(as_text(item.output))
        return scored(sum(folded(g) in called or folded(g) in text for g in self.subgoals) / len(self.subgoals))


class GoalStateMatch(Evaluator):
    """What the row's *state_field* (or else the output) says holds everything that is expected of the end state."""

    kind: Literal["goal_state_match"] = "goal_state_match"
    needs_output: ClassVar[bool] = False
    state_field: str = "final_state"

    def score(self, item: Item) -> Score:
        wanted = item.source.get("goal_state", item.expected)
        if not isinstance(wanted, Mapping):
            return not_applicable("no_goal_state")
        state = item.source.get(self.state_field)
        if state is None:
            if item.absence:
                return abstained("no_state")
            state = object_of(item.output)
        return passed(_holds(state, wanted))


def _holds(state: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(state, Mapping) and all(n in state and _holds(state[n], v) for n, v in wanted.items())
    return strict_json.canonical(state) == strict_json.canonical(wanted)


def _is_like(
    call: ToolCall, wanted: ToolCall, mode: ArgumentMode, tools: Mapping[str, ArgumentMode | list[str]]
) -> bool:
    if call.name != wanted.name:
        return False
    rule = tools.get(call.name, mode)
    if rule == "ignore":
        return True
    if not isinstance(call.arguments, Mapping) or not isinstance(wanted.arguments, Mapping):
        return rule == "exact" and bool(call.arguments == wanted.arguments)
    said = {(name, strict_json.canonical(value)) for name, value in call.arguments.items()}
    given = {(name, strict_json.canonical(value)) for name, value in wanted.arguments.items()}
    if isinstance(rule, list):
        return {pair for pair in said if pair[0] in rule} == {pair for pair in given if pair[0] in rule}
    return {"exact": said == given, "subset": said <= given, "superset": said >= given}[rule]
