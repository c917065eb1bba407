"""Functions on a model file: a real module, well behaved and not."""

from __future__ import annotations

import hashlib
import json
import os
import select
import stat
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters, Result, WorkStopped
from overmind_executors.functions import BadManifest, Function, FunctionExecutor, read_modules
from overmind_executors.recount import main as recount_command
from overmind_executors.recount import recount
from overmind_executors.result_files import seal
from overmind_executors.stopping import StopFlag

Make = Callable[..., Context]

# What a module's author would write. The parameter `do` says which of its deeds is wanted.
SCRIPT: Final = """#!{python}
import argparse, json, os, pathlib, subprocess, sys, time
parser = argparse.ArgumentParser()
for name in ("--input", "--output", "--temp", "--config"):
    parser.add_argument(name)
parser.add_argument("function")
told = parser.parse_args()
given = json.loads(pathlib.Path(told.input).read_text())
temp = pathlib.Path(told.temp)
do = given["do"]["value"]


def say(*outputs):
    lines = [dict(zip(("name", "type", "path"), output)) for output in outputs]
    pathlib.Path(told.output).write_text(json.dumps(lines))


if do == "count":
    words = pathlib.Path(given["model"]["value"]).read_text().split()
    (temp / "count.json").write_text(json.dumps({{"words": len(words), "given": given, "argv": sys.argv[1:]}}))
    say(("result", "file", str(temp / "count.json")))
elif do == "folder":
    (temp / "made" / "deep").mkdir(parents=True)
    (temp / "made" / "a.txt").write_text("a")
    (temp / "made" / "deep" / "b.txt").write_text("b")
    (temp / "made" / "link").symlink_to("/etc/passwd")
    (temp / "r").write_text("r")
    say(("result", "file", "r"), ("extra", "directory", "made"))
elif do == "exit":
    (temp / "r").write_text("r")
    say(("result", "file", "r"))
    sys.exit(3)
elif do == "nothing":
    pass
elif do == "raw":
    pathlib.Path(told.output).write_text(given["text"]["value"])
elif do == "make":
    (temp / given["text"]["value"]).write_text("made")
    say(("result", "file", given["text"]["value"]))
elif do == "link":
    (temp / "out").symlink_to(given["text"]["value"])
    say(("result", "file", "out"))
elif do == "large":
    (temp / "made").mkdir()
    for path in (temp / "r", temp / "made" / "s"):
        path.write_bytes(b"x" * 1500)
    say(("result", "file", "r"), ("extra", "directory", "made"))
elif do == "huge":
    with open(temp / "r", "wb") as file:
        for _ in range(1000):
            file.write(b"x" * 1_000_000)
    say(("result", "file", "r"))
elif do == "not utf-8":
    (temp / "made").mkdir()
    (temp / "r").write_text("r")
    (temp / "made" / os.fsdecode(b"\\xff")).write_text("x")
    say(("result", "file", "r"), ("extra", "directory", "made"))
elif do == "long":
    (temp / "r").write_text("r")
    (temp / ("d" * 255)).mkdir()
    say(("result", "file", "r"), ("extra", "directory", "d" * 255))
elif do == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (temp / "begun.part").write_text(f"{{os.getpid()}} {{child.pid}}")
    (temp / "begun.part").rename(temp / "begun")
    time.sleep(600)
"""
MANIFEST: Final[dict[str, Any]] = {
    "module_key": "@acme:words",
    "module_version": "1.2.0",
    "functions": {
        "@acme:count": [
            {
                "entrypoint": "count.bat",
                "run_command": "{entrypoint} {input_file} {output_file} {temp_dir}",
                "operating_systems": ["Windows 10"],
            },
            {
                "entrypoint": "main.py",
                "run_command": "{entrypoint} --input {input_file} --output={output_file} --temp '{temp_dir}' "
                "{function_name}",
                "function_schema": {
                    "inputs": {
                        "model": {"type": "user_model", "validation_types": ["@extension:txt"]},
                        "do": {"type": "parameter", "validation_types": ["@string"]},
                        "text": {"type": "parameter", "optional": True},
                        "limit": {"type": "parameter", "validation_types": ["@number"], "optional": True},
                    },
                    "outputs": [
                        {"name": "result", "type": "file", "required": True},
                        {"name": "extra", "type": "directory", "required": False},
                    ],
                },
                "operating_systems": ["Ubuntu 22.04"],
            },
        ]
    },
}

# What is written beside the outputs of a function.
OURS: Final = ("summary.json", "report.md", "report.html")


def write_module(folder: Path, manifest: Mapping[str, Any] = MANIFEST) -> Path:
    """A module's folder, as its owner would put it on a host."""
    folder.mkdir(parents=True)
    (folder / "module_manifest.json").write_text(json.dumps(manifest))
    script = folder / "main.py"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder


def _functions(*folders: Path, timeout_s: float = 30, most_output_bytes: int = 2000) -> tuple[Function, ...]:
    return read_modules(
        folders, host_os="Debian GNU/Linux 12", timeout_s=timeout_s, most_output_bytes=most_output_bytes
    )


@pytest.fixture
def run(tmp_path: Path, make_context: Make) -> Callable[..., tuple[Result, Context]]:
    """Run the module's function once; the job's model is a text of three words with a hostile name."""
    folder = write_module(tmp_path / "module")
    model = tmp_path / "model"
    model.write_text("one two three")

    def run(
        parameters: dict[str, Any], *, name: str = "../../-rf;\n$(x).TXT", stop: StopFlag | None = None, **more: Any
    ) -> tuple[Result, Context]:
        context = make_context(input_file=model, input_name=name, stop=stop or StopFlag())
        executor = FunctionExecutor(_functions(folder, **more)[0])
        return executor.run(executor.validate(parameters), context), context

    return run


def test_a_function_reads_its_model_and_its_parameters_and_makes_a_file(run: Any) -> None:
    result, context = run({"do": "count", "limit": {"value": 3}})

    made = json.loads((context.output / "count.json").read_text())
    place = context.output.parent / "function"
    assert ("count.json", *OURS) == result.files
    told = {"function": "@acme:count", "module_version": "1.2.0", "sandbox": "none", "exit_code": 0}
    assert told == {name: result.outcome[name] for name in told}
    assert 3 == made["words"]
    assert {
        "do": {"type": "parameter", "value": "count"},
        "limit": {"type": "parameter", "value": 3},
        "model": {"type": "user_model", "value": str(place / "in" / "model.txt")},
    } == made["given"]
    assert [
        "--input",
        str(place / "in" / "input.json"),
        f"--output={place / 'tmp' / 'output.json'}",
        "--temp",
        str(place / "tmp"),
        "@acme:count",
    ] == made["argv"]


# What needs a key, and makes a file that is a model again.
ASKS: Final = """#!{python}
import json, pathlib, stat, sys
given = json.loads(pathlib.Path(sys.argv[1]).read_text())
key = pathlib.Path(given["llm_key"]["value"])
made = pathlib.Path(sys.argv[3]) / "made.json"
mode = stat.S_IMODE(key.stat().st_mode)
made.write_text(json.dumps({{"key": key.read_text(), "type": given["llm_key"]["type"], "mode": mode}}))
pathlib.Path(sys.argv[2]).write_text(json.dumps([{{"name": "next", "type": "file", "path": str(made)}}]))
"""


@pytest.fixture
def asking(tmp_path: Path) -> Callable[..., Function]:
    """`asking(credentials)`: a function that needs a key of the host's."""
    schema = {
        "inputs": {"llm_key": {"type": "auth_info"}},
        "outputs": [{"name": "next", "type": "file", "required": True, "upload_as": "model"}],
    }
    command = "{entrypoint} {input_file} {output_file} {temp_dir}"
    variant = {"entrypoint": "ask", "run_command": command, "function_schema": schema}
    folder = tmp_path / "asking"
    folder.mkdir()
    manifest = {"module_version": "1.0.0", "functions": {"@acme:ask": [variant]}}
    (folder / "module_manifest.json").write_text(json.dumps(manifest))
    (folder / "ask").write_text(ASKS.format(python=sys.executable))
    (folder / "ask").chmod(stat.S_IRWXU)

    def make(**credentials: Path) -> Function:
        (function,) = read_modules(
            [folder], host_os="Debian", timeout_s=30, most_output_bytes=2000, credentials=credentials
        )
        return function

    return make


def test_a_function_gets_the_hosts_credential_and_leaves_no_copy(
    asking: Callable[..., Function], make_context: Make, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-secret")
    context = make_context()
    executor = FunctionExecutor(asking(llm_key=tmp_path / "key", other=tmp_path / "absent"))

    result = executor.run(executor.validate({}), context)

    made = json.loads((context.output / "made.json").read_text())
    assert {"key": "sk-secret", "type": "auth_info", "mode": 0o600} == made
    assert (("made.json", *OURS), ("made.json",)) == (result.files, result.as_models)
    files = [path for path in context.output.parent.rglob("*") if path.is_file() and path.name != "made.json"]
    assert [tmp_path / "key"] == [path for path in files if b"sk-secret" in path.read_bytes()]


def test_without_a_credential_the_job_is_refused_before_anything_is_started(
    asking: Callable[..., Function], make_context: Make, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameters, match=r"function inputs \['llm_key'\] not provided"):
        FunctionExecutor(asking()).validate({})

    executor = FunctionExecutor(asking(llm_key=tmp_path / "absent"))
    with pytest.raises(ExecutionFailed, match="the credential 'llm_key' of this host cannot be read") as caught:
        executor.run(executor.validate({}), make_context())
    assert "function_not_started" == caught.value.reason


def test_a_folder_becomes_an_archive_without_the_links_in_it(run: Any) -> None:
    result, context = run({"do": "folder"})

    with zipfile.ZipFile(context.output / "made.zip") as archive:
        names = archive.namelist()
    assert ("r", "made.zip", *OURS) == result.files
    assert ["a.txt", "deep/b.txt"] == names


FAILURES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "an exit code, in spite of its output": ({"do": "exit"}, "function_exit_code"),
    "no output file, in spite of its exit code": ({"do": "nothing"}, "function_no_output"),
    "a name that is not UTF-8": ({"do": "not utf-8"}, "function_invalid_output"),
    "a name that leaves no room for its ending": ({"do": "long"}, "function_invalid_output"),
    "no JSON": ({"do": "raw", "text": "{"}, "function_invalid_output"),
    "no array": ({"do": "raw", "text": "{}"}, "function_invalid_output"),
    "an entry that is none": ({"do": "raw", "text": "[3]"}, "function_invalid_output"),
    "an entry without a path": (
        {"do": "raw", "text": '[{"name": "result", "type": "file"}]'},
        "function_invalid_output",
    ),
    "a required output that is missing": ({"do": "raw", "text": "[]"}, "function_missing_output"),
    "an output that is not there": (
        {"do": "raw", "text": '[{"name": "result", "type": "file", "path": "gone"}]'},
        "function_invalid_output",
    ),
    "an output of ours": (
        {"do": "raw", "text": '[{"name": "result", "type": "file", "path": "../in/input.json"}]'},
        "function_invalid_output",
    ),
    "a file of the host": (
        {"do": "raw", "text": '[{"name": "result", "type": "file", "path": "/etc/passwd"}]'},
        "function_invalid_output",
    ),
    "its own folder": (
        {"do": "raw", "text": '[{"name": "result", "type": "file", "path": "."}]'},
        "function_invalid_output",
    ),
    "a path with a NUL": (
        {"do": "raw", "text": '[{"name": "result", "type": "file", "path": "a\\u0000"}]'},
        "function_invalid_output",
    ),
    "a link to a file of the host": ({"do": "link", "text": "/etc/passwd"}, "function_invalid_output"),
    "too large an output": ({"do": "large"}, "function_output_too_large"),
    "a file that grows and grows": ({"do": "huge"}, "function_exit_code"),
}


@pytest.mark.parametrize(("parameters", "reason"), FAILURES.values(), ids=FAILURES)
def test_success_is_an_exit_code_of_0_and_a_whole_output_file(
    run: Any, parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ExecutionFailed) as failed:
        run(parameters)

    assert reason == failed.value.reason, failed.value


def _summary(context: Context, name: str = "summary.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context.output / name).read_text())
    return found


def test_a_function_that_fails_leaves_how_it_ended_for_its_reader(make_context: Make, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("one")
    context = make_context(input_file=tmp_path / "model", input_name="model.txt")
    executor = FunctionExecutor(_functions(write_module(tmp_path / "module"))[0])

    with pytest.raises(ExecutionFailed):
        executor.run(executor.validate({"do": "exit"}), context)

    facts = _summary(context)
    assert (3, "function_exit_code", []) == (facts["exit_code"], facts["reason"], facts["outputs"])
    assert "and failed: function" in (context.output / "report.md").read_text()


def test_the_report_says_what_was_run_with_what_and_what_came_of_it(run: Any) -> None:
    result, context = run({"do": "folder", "limit": 3})

    facts = _summary(context)
    digest = hashlib.sha256(b"one two three").hexdigest()
    assert [
        {"key": "do", "type": "parameter", "value": '"folder"'},
        {"key": "limit", "type": "parameter", "value": "3"},
        {"key": "model", "type": "user_model", "name": "../../-rf;\n$(x).TXT", "size_bytes": 13, "sha256": digest},
    ] == facts["inputs"]
    assert ("main.py", 0, None, 30) == tuple(facts[n] for n in ("entrypoint", "exit_code", "ended_by", "timeout_s"))
    assert [("result", "r"), ("extra", "made.zip")] == [(one["key"], one["name"]) for one in facts["outputs"]]
    report = (context.output / "report.md").read_text()
    assert result.outcome["report_markdown"] == report
    assert str(context.output.parent) not in report, "where a host keeps its files is nobody else's business"
    page = (context.output / "report.html").read_text()
    assert all(one["sha256"] in page for one in facts["outputs"])
    assert "<svg" in page


def test_a_file_of_the_functions_own_keeps_its_name_and_ours_make_room(run: Any) -> None:
    result, context = run({"do": "make", "text": "report.md"})

    assert ("report.md", *(f"function-{name}" for name in OURS)) == result.files
    assert "made" == (context.output / "report.md").read_text()
    assert "report.md" == _summary(context, "function-summary.json")["outputs"][0]["name"]
    seal(context.output, result.files, {"job_type": "@acme:count", "is_function": True})
    said, again = recount(context.output)
    assert said == again


def test_a_parameter_that_is_a_token_is_not_told(tmp_path: Path, make_context: Make) -> None:
    inputs = {"do": {"type": "parameter"}, "text": {"type": "parameter", "validation_types": ["@token:acme"]}}
    change = _with(lambda m: _variant(m)["function_schema"].update(inputs=inputs))
    executor = FunctionExecutor(_functions(write_module(tmp_path / "module", change))[0])
    context = make_context()

    result = executor.run(executor.validate({"do": "make", "text": "sk-canary"}), context)

    # Its own output is called so; as a value it stands nowhere.
    assert "sk-canary" == result.files[0]
    assert ['"make"', "(not shown)"] == [one["value"] for one in _summary(context)["inputs"]]


def test_every_figure_of_a_function_can_be_made_again_from_its_files(
    tmp_path: Path, start_child: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (function,) = _functions(write_module(tmp_path / "module"))
    order = {"job_type": function.name, "function": function.model_dump(mode="json")}
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "model.txt").write_text("one")
    child = start_child(folder).order(
        **order, parameters={"do": "folder"}, input_file="model.txt", input_name="model.txt"
    )
    child.events()
    child.process.wait(20)

    said, again = recount(folder / "output")

    assert said == again
    assert ["outputs", "output_files", "output_bytes", "report.md", "report.html"] == list(said)
    (folder / "output" / "r").write_text("another")
    said, again = recount(folder / "output")
    assert {"outputs", "output_bytes", "report.md", "report.html"} == {n for n in said if said[n] != again[n]}
    assert 1 == recount_command([str(folder / "output")])
    assert "outputs.0.size_bytes: the summary says " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["-rf", "a;b", "$(touch x)", "a b"])
def test_a_file_name_is_only_a_name(run: Any, name: str) -> None:
    result, context = run({"do": "make", "text": name})

    assert (name, *OURS) == result.files
    assert "made" == (context.output / name).read_text()


REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no parameter": ({}, "function inputs ['do'] not provided"),
    "a wrong type": ({"do": 3}, "do: must be @string"),
    "true for a number": ({"do": "count", "limit": True}, "limit: must be @number"),
    "one that nobody reads": ({"do": "count", "dO": 1}, "dO: the function has no such parameter"),
}


@pytest.mark.parametrize(("parameters", "message"), REFUSED.values(), ids=REFUSED)
def test_parameters_are_checked_before_anything_is_started(
    run: Any, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameters) as refused:
        run(parameters)

    assert message == str(refused.value)


# A function's inputs, the one that the job's file fills, and what is said of the others.
FILES: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "a link alone": ({"at": {"type": "user_link"}}, "at", ""),
    "a model before a link that may be left out": (
        {"at": {"type": "user_link", "optional": True}, "part": {"type": "user_model"}},
        "part",
        "",
    ),
    "a link before a model that may be left out": (
        {"part": {"type": "user_model", "optional": True}, "at": {"type": "user_link"}},
        "at",
        "",
    ),
    "a second model": (
        {"old": {"type": "user_model"}, "new": {"type": "user_model"}},
        "old",
        "new: is a second file of the job's; 'old' alone is fetched here [input_not_fetched]",
    ),
    "a link beside a model": (
        {"at": {"type": "user_link"}, "part": {"type": "user_model"}},
        "part",
        "at: is a second file of the job's; 'part' alone is fetched here [input_not_fetched]",
    ),
}


@pytest.mark.parametrize(("inputs", "filled", "refusal"), FILES.values(), ids=FILES)
def test_a_job_brings_one_file_and_no_second_input_gets_it_too(
    tmp_path: Path, inputs: dict[str, Any], filled: str, refusal: str
) -> None:
    """A function that compares two models must not be given one of them twice."""
    manifest = _with(lambda m: _variant(m)["function_schema"].update(inputs=inputs))
    (function,) = _functions(write_module(tmp_path / "module", manifest))

    assert filled == function.file_inputs()[0][0]
    if not refusal:
        assert {} == FunctionExecutor(function).validate({})
        return
    with pytest.raises(InvalidParameters) as refused:
        FunctionExecutor(function).validate({})
    assert refusal == str(refused.value)


def test_a_link_is_given_as_the_file_that_holds_it_and_nobody_follows_it(
    tmp_path: Path, make_context: Make
) -> None:
    inputs = {"model": {"type": "user_link"}, "do": {"type": "parameter"}}
    outputs = [{"name": "result", "type": "file", "version_of": "model"}]
    manifest = _with(lambda m: _variant(m)["function_schema"].update(inputs=inputs, outputs=outputs))
    (tmp_path / "link").write_text("http://127.0.0.1:9/part")
    context = make_context(input_file=tmp_path / "link", input_name="part.link")
    executor = FunctionExecutor(_functions(write_module(tmp_path / "module", manifest))[0])

    result = executor.run(executor.validate({"do": "count"}), context)

    made = json.loads((context.output / "count.json").read_text())
    assert ("user_link", 1) == (made["given"]["model"]["type"], made["words"])
    assert ("count.json",) == result.as_models, "a newer form of a model is a model of its own"
    assert ["model"] == [one["version_of"] for one in _summary(context)["outputs"]]


def test_a_model_of_another_kind_is_refused(run: Any) -> None:
    with pytest.raises(InvalidParameters, match="model: must be a file of @extension:txt"):
        run({"do": "count"}, name="model.csv")


def test_a_function_has_its_time(run: Any) -> None:
    with pytest.raises(ExecutionFailed, match=r"the function took longer than 0.5 s"):
        run({"do": "hang"}, timeout_s=0.5)


def test_a_stop_ends_the_function_and_what_it_has_started(run: Any, tmp_path: Path) -> None:
    stop, stopped = StopFlag(), threading.Event()
    begun: list[Path] = []

    def watch() -> None:
        while not (begun[:] or stopped.wait(0.02)):
            begun.extend(tmp_path.rglob("begun"))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(WorkStopped):
            run({"do": "hang"}, stop=stop)
    finally:
        stopped.set()
        watcher.join()

    for pid in map(int, begun[0].read_text().split()):
        assert _has_ended(pid)


def _has_ended(pid: int) -> bool:
    """Within a few seconds: what was killed takes a moment to be gone."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 5.0)[0])
    finally:
        os.close(process)


def _with(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    change(manifest)
    return manifest


def _variant(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["functions"]["@acme:count"][1]
    return found


BAD: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no version": (_with(lambda m: m.pop("module_version")), "module_version: Field required"),
    "a name of ours": (
        _with(lambda m: m.update(functions={"@overmind:inference": m["functions"]["@acme:count"]})),
        "a name of our own",
    ),
    "for Windows alone": (_with(lambda m: m["functions"]["@acme:count"].pop()), "no variant for Linux"),
    "an entry point elsewhere": (_with(lambda m: _variant(m).update(entrypoint="../main.py")), "neither a file"),
    "an unknown placeholder": (
        _with(lambda m: _variant(m).update(run_command="{entrypoint} {input_file} {output_file} {temp_dir} {x}")),
        "has a placeholder {x} that nobody fills",
    ),
    "a missing placeholder": (
        _with(lambda m: _variant(m).update(run_command="{entrypoint}")),
        "has no {input_file}",
    ),
    "half a quotation": (
        _with(lambda m: _variant(m).update(run_command="{entrypoint} ' {input_file} {output_file} {temp_dir}")),
        "No closing quotation",
    ),
    "a configuration that is not there": (
        _with(lambda m: _variant(m).update(run_command=_variant(m)["run_command"] + " {config_path}")),
        "asks for a configuration file",
    ),
    "an input of no known type": (
        _with(lambda m: _variant(m)["function_schema"]["inputs"]["do"].update(type="x")),
        "inputs.do.type",
    ),
    "a version of what is no file": (
        _with(lambda m: _variant(m)["function_schema"]["outputs"][0].update(version_of="do")),
        "output 'result' is a version of an input that is no file",
    ),
    "a NUL in the entry point": (_with(lambda m: _variant(m).update(entrypoint="a\0b")), "entrypoint"),
    "an entry point that is too long for a file": (
        _with(lambda m: _variant(m).update(entrypoint="x" * 4000)),
        "cannot be looked at",
    ),
    "a NUL in the command": (
        _with(lambda m: _variant(m).update(run_command=_variant(m)["run_command"] + " \0")),
        "run_command",
    ),
}


@pytest.mark.parametrize(("manifest", "message"), BAD.values(), ids=BAD)
def test_a_mistake_in_a_manifest_is_found_when_it_is_read(
    tmp_path: Path, manifest: dict[str, Any], message: str
) -> None:
    folder = write_module(tmp_path / "module", manifest)

    with pytest.raises(BadManifest) as bad:
        _functions(folder)

    assert message in str(bad.value)
    assert str(folder) in str(bad.value)


def test_a_folder_may_hold_many_modules_and_a_function_belongs_to_one(tmp_path: Path) -> None:
    write_module(tmp_path / "modules" / "a")
    other = _with(lambda m: m.update(functions={"@acme:other": m["functions"]["@acme:count"]}))
    write_module(tmp_path / "modules" / "b", other)

    found = _functions(tmp_path / "modules")

    assert ["@acme:count", "@acme:other"] == [function.name for function in found]
    with pytest.raises(BadManifest, match="another module has it too"):
        _functions(tmp_path / "modules", write_module(tmp_path / "again"))


def test_both_words_for_the_configuration_file_are_understood(tmp_path: Path) -> None:
    for word in ("config_path", "module_config"):
        command = f"{_variant(MANIFEST)['run_command']} --config {{{word}}}"
        folder = tmp_path / word
        write_module(folder, _with(lambda m, command=command: _variant(m).update(run_command=command)))
        (folder / "module_config.json").write_text("{}")

        assert folder / "module_config.json" == _functions(folder)[0].configuration


def test_an_entry_point_may_be_a_command_of_the_host(tmp_path: Path) -> None:
    folder = write_module(tmp_path / "module", _with(lambda m: _variant(m).update(entrypoint="env")))

    assert "env" == _functions(folder)[0].entrypoint


def test_a_manifest_that_is_a_pipe_is_none_and_nobody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "modules" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "modules" / "a" / "module_manifest.json")

    with pytest.raises(BadManifest, match="there is no"):
        _functions(tmp_path / "modules")


def test_a_folder_without_a_module_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match=r"there is no module_manifest\.json in it"):
        _functions(tmp_path)


def test_a_function_that_cannot_be_started_says_so(run: Any, tmp_path: Path) -> None:
    os.chmod(tmp_path / "module" / "main.py", 0o600)  # noqa: PTH101

    with pytest.raises(ExecutionFailed) as failed:
        run({"do": "count"})

    assert "function_not_started" == failed.value.reason


def test_a_function_that_was_cut_off_is_not_run_again(tmp_path: Path, start_child: Callable[..., Any]) -> None:
    """Nobody knows what it had done already; the control plane's reader decides."""
    (function,) = _functions(write_module(tmp_path / "module"))
    order = {"job_type": function.name, "function": function.model_dump(mode="json"), "parameters": {"do": "exit"}}
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "model.txt").write_text("one")
    reasons = []

    for _ in range(2):
        child = start_child(folder).order(**order, input_file="model.txt", input_name="model.txt")
        child.events()
        child.process.wait(20)
        reasons.append(json.loads((folder / "result.json").read_text())["reason"])

    assert ["function_exit_code", "agent_restarted"] == reasons
