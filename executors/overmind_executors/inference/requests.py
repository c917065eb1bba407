"""From a row to the body of a chat completion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.inference.parameters import AgentTarget, CommandTarget, ProgramTarget, Prompt
from overmind_executors.rows.rows import Row

# `{{name}}` is the text `{name}`; any other brace is just a brace. In one pass: what a row brings in is never
# read again.
_PLACEHOLDER: Final = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


class MissingField(Exception):
    """The row lacks what the request is made of. The message names the field."""


class NotMessages(Exception):
    """The row's input is a list, but not one of messages."""


def body_of(row: Row, target: Prompt | AgentTarget | CommandTarget) -> dict[str, Any]:
    """
    The request for *row*, without its model.

    Raises:
        MissingField: the row has no input, or lacks a field that the template names.
        NotMessages: its input is a list of something else.
    """
    if row.input is None:
        raise MissingField("input")
    if isinstance(target, ProgramTarget):
        return {"input": row.input}
    if row.body is not None:
        # The caller's own request: what it says wins, what it leaves out the target may say. Never a stream.
        left_out = {"model", "stream", "stream_options"}
        return {**target.sampling(), **{key: value for key, value in row.body.items() if key not in left_out}}
    return {"messages": _messages(row, target), **target.sampling()}


def _messages(row: Row, target: Prompt) -> list[dict[str, Any]]:
    if target.messages_template:
        fields = row.fields()
        return [{"role": m.role, "content": _filled(m.content, fields)} for m in target.messages_template]
    system = [{"role": "system", "content": target.system_prompt}] if target.system_prompt else []
    return [*system, *_user_messages(row.input)]


def _user_messages(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        return [{"role": "user", "content": as_text(given)}]
    if not given or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in given):
        raise NotMessages
    # Recorded conversations hold such messages, and providers refuse them.
    return [m for m in given if m.get("content") is not None or m["role"] not in ("system", "user")]


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    def text_for(found: re.Match[str]) -> str:
        literal, name = found.groups()
        if literal is not None:
            return "{" + literal + "}"
        if fields.get(name) is None:
            raise MissingField(name)
        return as_text(fields[name])

    return _PLACEHOLDER.sub(text_for, template)


def is_shareable(body: Mapping[str, Any]) -> bool:
    """Whether two such requests have one answer: a model is only then asked once for both."""
    temperature = body.get("temperature")
    return type(temperature) in (int, float) and temperature == 0


def placeholders(target: Prompt | AgentTarget | CommandTarget) -> tuple[str, ...]:
    """The fields that the template of *target* names, each once, in its order; none without a template."""
    found = (match[1] for m in target.messages_template or () for match in _PLACEHOLDER.findall(m.content))
    return tuple(dict.fromkeys(name for name in found if name))


def as_text(value: Any) -> str:
    """*value* itself when it is text, else its JSON."""
    return value if isinstance(value, str) else strict_json.dumps(value)
