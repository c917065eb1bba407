"""Why jobs fail: the table in the docs and what the code can say are the same."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("agent/overmind_agent", "executors/overmind_executors", "controlplane/overmind_controlplane")
# What raises or says that a job failed, by its `reason`.
SAYS: Final = frozenset({"JobError", "InvalidInput", "ExecutorError", "UploadError", "ExecutionFailed"})
_ROW: Final = re.compile(r"^\| ((?:`[a-z_…]+`(?:, )?)+)[^|]*\|[^|]+\|[^|]+\|$", re.MULTILINE)


@cache
def _trees() -> list[ast.Module]:
    files = [file for folder in CODE for file in (ROOT / folder).rglob("*.py") if "testing" not in file.parts]
    return [ast.parse(file.read_text(encoding="utf-8")) for file in files]


def _nodes() -> Iterator[ast.AST]:
    for tree in _trees():
        yield from ast.walk(tree)


def _constants() -> dict[str, set[str]]:
    """Texts by the names that modules give them."""
    found: dict[str, set[str]] = defaultdict(set)
    for tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
                found[ast.unparse(node.target)].add(str(node.value.value))
    return found


def _said() -> set[str]:
    """Every reason that stands at the place where it is said; some are handed on, and stand elsewhere."""
    constants, found = _constants(), set()
    for node in _nodes():
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SAYS:
            for keyword in node.keywords:
                if keyword.arg == "reason":
                    found |= _texts(keyword.value, constants)
        elif isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {"JobError"}:
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason":
                    found |= _texts(line.value, constants)
    return found


def _texts(value: ast.expr, constants: dict[str, set[str]]) -> set[str]:
    if isinstance(value, ast.Constant):
        return {str(value.value)}
    if isinstance(value, ast.BoolOp):
        return set().union(*(_texts(part, constants) for part in value.values))
    return set(constants.get(ast.unparse(value), ()))


def _documented(page: str, heading: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    return {reason for row in _ROW.findall(text) for reason in re.findall(r"`([a-z_…]+)`", row)}


def _reasons() -> set[str]:
    own = _documented("operating.md", "## Why a job failed") - {"function_…"}
    return own | {name for name in _functions() if name.startswith("function_")}


def _functions() -> set[str]:
    text = (ROOT / "docs" / "functions.md").read_text(encoding="utf-8")
    return set(re.findall(r"`(function_[a-z_]+)`", text))


def test_every_reason_that_the_code_gives_is_in_the_docs() -> None:
    assert set() == _said() - _reasons()


def test_every_reason_in_the_docs_is_one_that_the_code_can_give() -> None:
    texts = {node.value for node in _nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    assert set() == _reasons() - texts


def test_the_table_is_read() -> None:
    assert {"invalid_input", "timeout", "disk_full", "function_timeout"} <= _reasons()
    assert {"invalid_input", "upload_error", "output_changed", "judge_drifted"} <= _said()
