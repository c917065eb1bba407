"""What a function was given, how it ended and what it made: the figures of its job, and its report for people."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors import report, strict_json
from overmind_executors.contract import Context
from overmind_executors.functions.exchange import Made
from overmind_executors.functions.manifest import Function
from overmind_executors.programs.commands import Ended
from overmind_executors.report import Cell, Figure, Report, Section, Table
from overmind_executors.result_files import MANIFEST, digest
from overmind_executors.sandbox.levels import Level

SUMMARY: Final = "summary.json"
# What a function may call a file of its own; then ours make room.
_IN_FRONT: Final = "function-"
_SECRET: Final = re.compile(r"@token(:|$)")
_MOST_OF_A_VALUE: Final = 2000
_MOST_OUTPUTS: Final = 100
# What an outcome repeats of the summary: what has the same few letters however much a function was given.
_IN_OUTCOME: Final = (
    "function", "module_version", "sandbox", "exit_code", "duration_s", "output_files", "output_bytes",
)  # fmt: skip

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Ran:
    """How a command ended, how long it took, and what it ran in."""

    ended: Ended
    duration_s: float
    level: Level


def facts_of(
    function: Function,
    values: Mapping[str, Any],
    context: Context,
    ran: Ran,
    *,
    made: Sequence[Made] = (),
    reason: str | None = None,
) -> dict[str, Any]:
    """
    What `summary.json` says of one run.

    Args:
        values: the parameters that it was given.
        reason: why the job fails, None when it does not.
    """
    return {
        "function": function.name,
        "module_version": function.module_version,
        "sandbox": ran.level.value,
        # As the manifest has them: where this host keeps its files is nobody else's business.
        "command": list(function.command),
        "entrypoint": Path(function.entrypoint).name,
        "inputs": list(_inputs(function, values, context)),
        "exit_code": ran.ended.code,
        "ended_by": ran.ended.ended_by,
        "reason": reason,
        "duration_s": round(ran.duration_s, 3),
        "timeout_s": function.timeout_s,
        **outputs_of(asdict(one) | facts_of_file(context.output / one.name) for one in made),
    }


def outputs_of(outputs: Iterator[Facts] | Sequence[Facts]) -> dict[str, Any]:
    """The *outputs*, and their number and size together."""
    found = list(outputs)
    return {
        "outputs": found,
        "output_files": len(found),
        "output_bytes": sum(one["size_bytes"] for one in found),
    }


def facts_of_file(path: Path) -> dict[str, Any]:
    """Size and hex SHA-256 of what *path* holds."""
    with path.open("rb") as file:
        facts = digest(file, path.name)
    return {"size_bytes": facts.size_bytes, "sha256": facts.sha256}


def write(facts: Facts, folder: Path, taken: Collection[str] = ()) -> tuple[str, ...]:
    """Write the summary and its reports into *folder*, under names that are not *taken*; returns those names."""
    files = {SUMMARY: (strict_json.dumps(facts) + "\n").encode(), **report.rendered(report_of(facts))}
    names = names_beside(taken)
    for name, content in zip(names, files.values(), strict=True):
        (folder / name).write_bytes(content)
    return names


def names_beside(taken: Collection[str]) -> tuple[str, str, str]:
    """The names of summary and reports, where the outputs of the function are called *taken*."""
    in_front = ""
    while any(in_front + name in taken for name in (SUMMARY, report.MARKDOWN, report.HTML)):
        in_front += _IN_FRONT
    return in_front + SUMMARY, in_front + report.MARKDOWN, in_front + report.HTML


def outcome_of(facts: Facts) -> Mapping[str, Any]:
    """For the record of the job."""
    return report.with_text({name: facts[name] for name in _IN_OUTCOME}, report_of(facts))


def report_of(facts: Facts) -> Report:
    """The report of a run, made of its summary alone."""
    title = f"Function {facts['function']}"
    return Report(title, _lead(facts), (_run(facts), _given(facts), *_made(facts)))


def _lead(facts: Facts) -> str:
    took = f"{facts['function']} {facts['module_version']} took {facts['duration_s']:.1f} s"
    if facts["reason"] is not None:
        return f"{took} and failed: {facts['reason']}."
    files = "1 file" if facts["output_files"] == 1 else f"{facts['output_files']:,} files"
    return f"{took} and made {files} of {facts['output_bytes']:,} bytes."


def _run(facts: Facts) -> Section:
    rows: tuple[tuple[Cell, ...], ...] = (
        ("command, as its manifest has it", " ".join(facts["command"])),
        ("entry point", facts["entrypoint"]),
        ("sandbox", facts["sandbox"]),
        ("exit code", facts["exit_code"]),
        ("ended by a limit", facts["ended_by"]),
        ("seconds", facts["duration_s"]),
        ("seconds that it had", facts["timeout_s"]),
    )
    return Section("What was run", (Table("The run", ("what", "value"), rows),))


def _given(facts: Facts) -> Section:
    columns = ("input", "type", "value or file", "bytes", "SHA-256")
    if not facts["inputs"]:
        return Section("What it was given", ("Nothing.",))
    rows = tuple(
        (one["key"], one["type"], one.get("value") or one.get("name"), one.get("size_bytes"), one.get("sha256"))
        for one in facts["inputs"]
    )
    return Section("What it was given", (Table("Inputs", columns, rows),))


def _made(facts: Facts) -> Iterator[Section]:
    found = facts["outputs"]
    if not found:
        return
    shown = found[:_MOST_OUTPUTS]
    columns = ("output", "type", "file", "bytes", "SHA-256", "a model, too", "newer form of")
    names = ("key", "type", "name", "size_bytes", "sha256", "is_model", "version_of")
    rows = tuple(tuple(one[name] for name in names) for one in shown)
    sizes = tuple((one["name"], one["size_bytes"]) for one in shown)
    drawn = (Figure("bars", Table("Bytes by file", ("file", "bytes"), sizes)),) if len(shown) > 1 else ()
    caption = "Outputs" if len(shown) == len(found) else f"The first {len(shown)} of {len(found):,} outputs"
    yield Section("What it made", (Table(caption, columns, rows), *drawn))


def _inputs(function: Function, values: Mapping[str, Any], context: Context) -> Iterator[dict[str, Any]]:
    for key, value in values.items():
        kind = (function.inputs or {}).get(key)
        is_secret = kind is not None and any(map(_SECRET.match, kind.validation_types))
        text = "(not shown)" if is_secret else strict_json.dumps(value)
        yield {"key": key, "type": "parameter", "value": _cut(text)}
    if context.input_file is not None:
        name = context.input_name or context.input_file.name
        yield from (
            {"key": key, "type": kind.type, "name": name, **facts_of_file(context.input_file)}
            for key, kind in function.file_inputs()[:1]
        )
    yield from ({"key": key, "type": "auth_info"} for key in function.credentials)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_OF_A_VALUE else text[: _MOST_OF_A_VALUE - 1] + "…"


def names_in(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of a result's *manifest*: the names of its summary and reports, which stand behind all outputs."""
    names = [str(file["name"]) for file in manifest["files"] if file["name"] != MANIFEST]
    summary, markdown, html = names[-3:]
    return summary, markdown, html
