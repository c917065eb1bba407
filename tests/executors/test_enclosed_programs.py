"""Commands and functions in bubblewrap; where it does not work, they are refused."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.contract import Context, ExecutionFailed, Result
from overmind_executors.functions import FunctionExecutor, read_modules
from overmind_executors.inference import InferenceExecutor
from overmind_executors.sandbox.deciding import decide
from overmind_executors.sandbox.levels import Level, Sandbox

Make = Callable[..., Context]

COMMAND: Final = r"""
import json, os, pathlib, resource, socket, sys
given = json.load(sys.stdin)["input"]
said = given
match given:
    case "look": said = [os.path.exists(path) for path in sys.argv[1:]]
    case "connect": socket.create_connection(("127.0.0.1", 9), timeout=2)
    case "long file":
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.truncate(os.open("/tmp/x", os.O_CREAT | os.O_RDWR), 1 << 40)
    case "limits":
        kinds = (resource.RLIMIT_DATA, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)
        said = [resource.getrlimit(kind)[1] for kind in kinds]
    case "killed": os.kill(os.getpid(), 9)
print(json.dumps({"output": said}))
"""
SCRIPT: Final = r"""#!{python}
import json, os, pathlib, sys
given = json.loads(pathlib.Path(sys.argv[1]).read_text())
temp = pathlib.Path(sys.argv[3])
made = temp / "made"
match given["do"]["value"]:
    case "look":
        places = [given["model"]["value"], __file__, given["secret"]["value"]]
        made.write_text(json.dumps([os.path.exists(place) for place in places]))
    case "link": made.symlink_to(given["secret"]["value"])
    case "read the link of another": made.symlink_to("/etc/passwd")
    case "fill":
        for number in range(1000):
            (temp / str(number)).write_bytes(bytes(1 << 16))
        import time
        time.sleep(600)
    case "model": pathlib.Path(given["model"]["value"]).write_text("changed")
pathlib.Path(sys.argv[2]).write_text(json.dumps([{{"name": "result", "type": "file", "path": str(made)}}]))
"""
MANIFEST: Final[dict[str, Any]] = {
    "module_version": "1.0.0",
    "functions": {
        "@acme:look": [
            {"entrypoint": "main.py", "run_command": "{entrypoint} {input_file} {output_file} {temp_dir}"}
        ]
    },
}


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """What this machine can do."""
    return decide("required", Sandbox(memory_bytes=256 << 20, processes=24, disk_bytes=8 << 20))


def _ask(context: Context, *given: str) -> list[dict[str, Any]]:
    executor = InferenceExecutor()
    items = [{"id": f"r{number}", "input": one} for number, one in enumerate(given)]
    executor.run(executor.validate({"target": {"kind": "command", "command": "look"}, "items": items}), context)
    return [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]


def _is_refused(context: Context, work: Callable[[], object]) -> bool:
    """Whether this machine has no bubblewrap; then what was asked for is refused, and *work* has been tried."""
    if context.sandbox.level is Level.BUBBLEWRAP:
        return False
    with pytest.raises(ExecutionFailed) as refused:
        work()
    assert "sandbox_unavailable" == refused.value.reason
    return True


def test_a_command_in_a_sandbox_sees_what_its_command_line_names(
    make_context: Make, sandbox: Sandbox, tmp_path: Path
) -> None:
    """And what the host lets programs read; a folder has to be named there."""
    script, tool, beside = tmp_path / "look.py", tmp_path / "tool", tmp_path / "beside"
    script.write_text(COMMAND)
    tool.mkdir()
    beside.mkdir()
    command = (sys.executable, str(script), str(tool), str(script), str(beside))
    context = make_context(commands={"look": command}, sandbox=replace(sandbox, reads=(tool,)))

    if not _is_refused(context, lambda: _ask(context, "look")):
        (row,) = _ask(context, "look")

        assert [True, True, False] == row["x_overmind"]["output"]


def test_what_goes_wrong_in_a_command_in_a_sandbox_is_its_rows_outcome(
    make_context: Make, sandbox: Sandbox
) -> None:
    context = make_context(commands={"look": (sys.executable, "-c", COMMAND)}, sandbox=sandbox)
    given = ("connect", "long file", "limits", "killed")

    if not _is_refused(context, lambda: _ask(context, *given)):
        connect, file, limits, killed = _ask(context, *given)

        assert ("crash", "the program ended with exit code 1; see the log") == _error(connect)
        assert ("disk_limit", f"it wrote a file of more than {256 << 20} bytes") == _error(file)
        assert [256 << 20, 28, 0] == limits["x_overmind"]["output"]
        assert ("crash", "the program ended with signal 9; see the log") == _error(killed)


def _error(line: dict[str, Any]) -> tuple[str, str]:
    return line["error"]["code"], line["error"]["message"]


def test_a_command_that_is_not_there_is_told_from_one_that_fails(make_context: Make, sandbox: Sandbox) -> None:
    context = make_context(commands={"look": ("/no/such/command",)}, sandbox=sandbox)

    if not _is_refused(context, lambda: _ask(context, "x")):
        with pytest.raises(ExecutionFailed, match="1 x crash"):
            _ask(context, "x")

        (line,) = [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]
        assert "cannot be started: its sandbox could not be made, or it is not there" in _error(line)[1]


def test_a_command_that_is_exempt_runs_with_limits_alone(make_context: Make, tmp_path: Path) -> None:
    """Also where the others need a sandbox that the host does not have."""
    beside = tmp_path / "beside"
    beside.touch()
    sandbox = Sandbox(level=Level.LIMITS, why="none here", is_required=True, exempt=frozenset({"look"}))
    context = make_context(commands={"look": (sys.executable, "-c", COMMAND, str(tmp_path))}, sandbox=sandbox)

    looked, limits = _ask(context, "look", "limits")

    assert [True] == looked["x_overmind"]["output"]
    assert [4 << 30, 0] == limits["x_overmind"]["output"][::2]
    assert "limits" == json.loads((context.output / "summary.json").read_text())["target"]["sandbox"]


@pytest.fixture
def work(tmp_path: Path, make_context: Make, sandbox: Sandbox) -> Callable[..., tuple[Result | None, Context]]:
    """Run the module's function once; the result is None when it was refused."""
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "module_manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "main.py").write_text(SCRIPT.format(python=sys.executable))
    (folder / "main.py").chmod(stat.S_IRWXU)
    model, secret = tmp_path / "model", tmp_path / "secret"
    model.write_text("one two three")
    secret.write_text("not for functions")
    (function,) = read_modules([folder], host_os="Debian 12", timeout_s=60, most_output_bytes=1 << 20)

    def work(do: str) -> tuple[Result | None, Context]:
        context = make_context(input_file=model, input_name="model.txt", sandbox=sandbox)
        executor = FunctionExecutor(function)
        task = executor.validate({"do": do, "secret": str(secret)})
        if _is_refused(context, lambda: executor.run(task, context)):
            return None, context
        return executor.run(task, context), context

    return work


def test_a_function_in_a_sandbox_sees_its_model_and_its_module_and_no_more(work: Any) -> None:
    result, context = work("look")

    if result is not None:
        assert [True, True, False] == json.loads((context.output / "made").read_text())
        assert "bubblewrap" == result.outcome["sandbox"]


@pytest.mark.parametrize("do", ["link", "read the link of another"])
def test_a_functions_output_does_not_lead_out_of_its_folder(work: Any, sandbox: Sandbox, do: str) -> None:
    if sandbox.level is Level.BUBBLEWRAP:
        with pytest.raises(ExecutionFailed, match="names a path") as failed:
            work(do)
        assert "function_invalid_output" == failed.value.reason
    else:
        assert work(do)[0] is None


def test_a_function_fills_no_more_of_the_disk_than_its_outputs_may(work: Any, sandbox: Sandbox) -> None:
    if sandbox.level is Level.BUBBLEWRAP:
        with pytest.raises(ExecutionFailed, match="wrote more than 1048576 bytes") as failed:
            work("fill")
        assert "function_disk_limit" == failed.value.reason
    else:
        assert work("fill")[0] is None


def test_a_function_cannot_change_its_model(work: Any, sandbox: Sandbox) -> None:
    if sandbox.level is Level.BUBBLEWRAP:
        with pytest.raises(ExecutionFailed) as failed:
            work("model")
        assert "function_exit_code" == failed.value.reason
    else:
        assert work("model")[0] is None
