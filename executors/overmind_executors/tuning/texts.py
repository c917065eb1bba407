"""What is tuned: a named set of texts, made from a prompt and put back into one."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.inference.parameters import ModelTarget, TemplateMessage

Texts = Mapping[str, str]
"""Texts by name; the names never change, and neither does their order."""

Prompt = str | Sequence[TemplateMessage]
"""A system prompt, or the messages of a template."""

PROMPT: Final = "prompt"
MAX_SUMMARY: Final = 1500

_GUIDING: Final = frozenset({"system", "developer"})
_PLACEHOLDER: Final = re.compile(r"\{\{\s*[\w.]+\s*\}\}|\{[A-Za-z_]\w*\}")


def texts_of(prompt: Prompt) -> dict[str, str]:
    """
    The texts of *prompt*, by name: `prompt` for a text, else each message's role, numbered where it stands twice.
    """
    if isinstance(prompt, str):
        return {PROMPT: prompt}
    times = Counter(message.role for message in prompt)
    seen: Counter[str] = Counter()
    found = {}
    for message in prompt:
        seen[message.role] += 1
        name = message.role if times[message.role] == 1 else f"{message.role}_{seen[message.role]}"
        found[name] = message.content
    return found


def prompt_of(texts: Texts) -> Prompt:
    """The prompt that *texts*, whole and with their names, are the texts of: undoes `texts_of`."""
    if tuple(texts) == (PROMPT,):
        return texts[PROMPT]
    named = [{"role": name.partition("_")[0], "content": text} for name, text in texts.items()]
    return [TemplateMessage.model_validate(one) for one in named]


def guiding(prompt: Prompt) -> tuple[str, ...]:
    """The names of the texts that are tuned when nobody says which: the system's, or all without one."""
    names = tuple(texts_of(prompt))
    return tuple(name for name in names if name.rpartition("_")[0] in _GUIDING or name in _GUIDING) or names


def prompt_with(prompt: Prompt, texts: Texts) -> str | list[dict[str, str]]:
    """*prompt* with *texts* in the places of its own, as JSON has it."""
    if isinstance(prompt, str):
        return texts[PROMPT]
    return [{"role": message.role, "content": text} for message, text in zip(prompt, texts.values(), strict=True)]


def as_code(prompt: Prompt, texts: Texts) -> str:
    """The same as one text: itself, or the JSON of its messages."""
    made = prompt_with(prompt, texts)
    return made if isinstance(made, str) else strict_json.dumps(made)


def target_with(target: ModelTarget, prompt: Prompt, texts: Texts) -> ModelTarget:
    """*target* asked with *texts*."""
    made = prompt_with(prompt, texts)
    if isinstance(made, str):
        return target.model_copy(update={"system_prompt": made})
    messages = [
        TemplateMessage(role=message.role, content=text)
        for message, text in zip([m for m in prompt if not isinstance(m, str)], texts.values(), strict=True)
    ]
    return target.model_copy(update={"messages_template": messages})


def digest(texts: Texts) -> str:
    """Equal for equal texts, and only for those."""
    return hashlib.sha256(strict_json.canonical(dict(texts))).hexdigest()


def placeholders(text: str) -> frozenset[str]:
    """The variables that *text* names: `{name}` and `{{name}}`."""
    return frozenset(found.replace(" ", "") for found in _PLACEHOLDER.findall(text))


def diff(before: Texts, after: Texts) -> str:
    """A unified diff over all texts that differ; empty when none does."""
    lines: list[str] = []
    for name, old in before.items():
        lines += difflib.unified_diff(
            old.splitlines(), after[name].splitlines(), f"before/{name}", f"after/{name}", lineterm=""
        )
    return "".join(f"{line}\n" for line in lines)


def changes(before: Texts, after: Texts) -> str:
    """What the diff says, in a line for each text: how many lines came and went, and the first ones that came."""
    said = []
    for name, old in before.items():
        came, went = _lines(old, after[name])
        if came or went:
            first = "; ".join(line.strip()[:160] for line in came[:3] if line.strip())
            lines = "1 line" if len(came) == 1 else f"{len(came)} lines"
            said.append(f"{name}: {lines} added, {len(went)} removed. New: {first}")
    return "\n".join(said)[:MAX_SUMMARY]


def _lines(old: str, new: str) -> tuple[list[str], list[str]]:
    found: dict[str, list[str]] = {"+ ": [], "- ": [], "  ": [], "? ": []}
    for line in difflib.ndiff(old.splitlines(), new.splitlines()):
        found[line[:2]].append(line[2:])
    return found["+ "], found["- "]


def as_json(texts: Texts) -> dict[str, Any]:
    """For a line of a file."""
    return dict(texts)
