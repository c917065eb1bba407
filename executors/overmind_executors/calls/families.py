"""Who made a model, as far as its name says: a judge is not asked about its own kin without a word of it."""

from __future__ import annotations

import re
from typing import Final

# The beginning of a model's name, without its provider's prefix.
_MAKERS: Final = {
    "openai": ("gpt", "chatgpt", "o1", "o3", "o4", "davinci"),
    "anthropic": ("claude",),
    "google": ("gemini", "gemma", "palm"),
    "meta": ("llama", "meta-llama"),
    "mistral": ("mistral", "mixtral", "ministral", "codestral", "magistral", "pixtral"),
    "alibaba": ("qwen", "qwq"),
    "cohere": ("command", "aya"),
    "microsoft": ("phi",),
    "xai": ("grok",),
    "amazon": ("nova", "titan"),
}
_FIRST_WORD: Final = re.compile(r"[a-z]+")


def family_of(model: str) -> str:
    """
    The family of *model*, a provider's id such as `openai/gpt-5-mini`; for an unknown maker its name's first word.
    """
    name = model.lower().rsplit("/", 1)[-1]
    name = name.split(".", 1)[1] if re.match(r"(us|eu|apac|anthropic|amazon|meta|mistral|cohere)\.", name) else name
    name = name.split(".", 1)[1] if re.match(r"(anthropic|amazon|meta|mistral|cohere)\.", name) else name
    for maker, beginnings in _MAKERS.items():
        if name.startswith(beginnings):
            return maker
    found = _FIRST_WORD.search(name)
    return found.group() if found else name
