"""What differs between two configurations, and which of it can be changed while the agent runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from overmind_config.keys import ANY_NAME, general, known_keys
from overmind_config.settings import Settings

LIVE: Final = frozenset(
    {
        "control_plane.token_file",
        "control_plane.token",
        "agent.slots",
        "agent.weights",
        "agent.labels",
        "agent.job_types",
        "agent.data_roots",
        "agent.drain_s",
        "agent.grace_s",
        "agent.stop_timeout_s",
        "agent.job_timeout_s",
        "agent.no_progress_s",
        "agent.min_free_bytes",
        "agent.results_keep_days",
        "agent.results_max_bytes",
        "agent.job_env",
        "agent.nice",
        "policy.models",
        "policy.signatures",
        "policy.signing_keys",
        "policy.projects",
        "policy.max_usd",
        "policy.max_calls",
        "policy.max_tokens",
        "policy.max_input_bytes",
        "policy.max_result_bytes",
        "policy.judge_cache_days",
        *(key for key in known_keys() if key.startswith((f"models.{ANY_NAME}.", "sandbox."))),
        "functions.modules",
        "functions.commands",
        "functions.code_roots",
        "functions.credentials",
        "functions.timeout_s",
        "functions.most_output_bytes",
        "hooks.before",
        "hooks.after",
        "logging.level",
    }
)
"""The keys that a reload puts in force, for whatever begins after it. Every other key needs a restart."""


def changed_keys(now: Settings, wanted: Settings) -> tuple[str, ...]:
    """
    The keys with another value, such as `agent.slots`, in the order of the reference file.

    A token that was rotated is no other key: it is read whenever its file changes.
    """
    before, after = dict(_values(now)), dict(_values(wanted))
    missing = object()
    return tuple(key for key in {**before, **after} if before.get(key, missing) != after.get(key, missing))


def is_live(key: str) -> bool:
    """Whether *key* can be changed while the agent runs."""
    return general(tuple(key.split("."))) in LIVE


def live_part(now: Settings, wanted: Settings) -> Settings:
    """*wanted*, but for the keys that need a restart: those stay as they are *now*."""
    sections: dict[str, Any] = {}
    for name in Settings.model_fields:
        before, after = getattr(now, name), getattr(wanted, name)
        if name != "models":
            kept = {field for field in type(after).model_fields if not is_live(f"{name}.{field}")}
            after = after.model_copy(update={field: getattr(before, field) for field in kept})
        sections[name] = after
    return wanted.model_copy(update=sections)


def _values(settings: Settings) -> Iterator[tuple[str, Any]]:
    for key in known_keys():
        if key == "control_plane.token":
            continue
        if ANY_NAME not in key:
            yield key, _at(settings, key)
    for name in settings.models:
        for key in known_keys():
            if ANY_NAME in key:
                here = key.replace(ANY_NAME, name)
                yield here, _at(settings, here)


def _at(settings: Settings, key: str) -> Any:
    value: Any = settings
    for step in key.split("."):
        value = value[step] if isinstance(value, Mapping) else getattr(value, step)
    return value
