"""Whether the tools that an eval spec expects were called, with allowed values, each fed by the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overmind_executors.scoring.eval_spec import Dependency, ToolConfig
from overmind_executors.scoring.items import ToolCall
from overmind_executors.scoring.texts import as_text, folded


def tool_usage(config: ToolConfig | None, calls: tuple[ToolCall, ...] | None) -> float | None:
    """
    The mean of what can be checked: completeness, arguments, chaining; each in [0, 1].

    Returns:
        None when there is no trace of tools, or nothing to check: then it says nothing about the case.
    """
    if config is None or calls is None:
        return None
    parts = [_completeness(config, calls), _arguments(config, calls), _chaining(config, calls)]
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known else None


def _completeness(config: ToolConfig, calls: tuple[ToolCall, ...]) -> float | None:
    expected = set(config.expected_tools)
    return len(expected & {call.name for call in calls}) / len(expected) if expected else None


def _arguments(config: ToolConfig, calls: tuple[ToolCall, ...]) -> float | None:
    """Compared as text, as people write 5 and "5" for one thing."""
    checked = [
        folded(as_text(call.arguments[parameter])) in {folded(as_text(value)) for value in allowed}
        for call in calls
        if isinstance(call.arguments, Mapping)
        for parameter, allowed in config.param_constraints.get(call.name, {}).items()
        if parameter in call.arguments
    ]
    return sum(checked) / len(checked) if checked else None


def _chaining(config: ToolConfig, calls: tuple[ToolCall, ...]) -> float | None:
    checked = [held for rule in config.dependencies if (held := _is_fed(rule, calls)) is not None]
    return sum(checked) / len(checked) if checked else None


def _is_fed(rule: Dependency, calls: tuple[ToolCall, ...]) -> bool | None:
    """Whether the later tool got the earlier one's value; None when a result is not on record."""
    for place, call in enumerate(calls):
        if call.name != rule.to_tool or not isinstance(call.arguments, Mapping):
            continue
        given = _results(rule, calls[:place])
        if given and rule.to_param in call.arguments:
            return as_text(call.arguments[rule.to_param]) in given
    return None


def _results(rule: Dependency, calls: tuple[ToolCall, ...]) -> set[str]:
    values: list[Any] = [
        call.result[rule.from_field]
        for call in calls
        if call.name == rule.from_tool and isinstance(call.result, Mapping) and rule.from_field in call.result
    ]
    return {as_text(value) for value in values}
