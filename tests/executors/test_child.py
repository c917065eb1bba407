"""The child process of one job, as a real process."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from child_process import Child

from overmind_executors import strict_json
from overmind_executors.contract import ModelEndpoint
from zoo import Hang, Zoo

Start = Callable[..., Child]
KEY = "sk-canary-0123456789"


def _model(zoo: Zoo, **changes: Any) -> dict[str, Any]:
    return {**asdict(ModelEndpoint("echo", zoo.url, "echo", api_key=KEY)), **changes}


def _inference(count: int, **more: Any) -> dict[str, Any]:
    items = [{"id": f"r{n}", "input": f"text {n}", "expected_output": f"text {n}"} for n in range(count)]
    return {"items": items, "target": {"model": "echo"}, **more}


def test_a_job_ends_with_its_files_and_their_digests(start_child: Start, zoo: Zoo) -> None:
    child = start_child().order(parameters=_inference(10), models=[_model(zoo)])

    result = child.result()

    output = child.folder / "output"
    assert "done" == result["status"]
    assert ["output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"] == [
        file["name"] for file in result["files"]
    ]
    for file in result["files"]:
        content = (output / file["name"]).read_bytes()
        assert len(content) == file["size_bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert {"total": 10, "ok": 10, "failed": 0, "skipped": 0} == result["outcome"]["counts"]


def test_the_manifest_names_the_job_its_input_and_its_files(start_child: Start, zoo: Zoo, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    (folder / "in").mkdir(parents=True)
    (folder / "in/rows").write_bytes(b'{"input": "a"}\n')

    child = start_child(folder).order(
        parameters={"target": {"model": "echo"}},
        models=[_model(zoo)],
        input_file="in/rows",
        input_name="my rows.jsonl",
    )

    result = child.result()
    manifest = json.loads((folder / "output/manifest.json").read_text())
    assert ["job_id", "attempt", "job_type", "executor_version", "input", "files"] == list(manifest)
    digest = hashlib.sha256(b'{"input": "a"}\n').hexdigest()
    assert {"name": "my rows.jsonl", "sha256": digest, "size_bytes": 15} == manifest["input"]
    assert [file | {"is_required": True, "is_model": False} for file in manifest["files"]] == result["files"][:-1]


def test_a_spare_says_that_it_is_ready_and_goes_home_when_dismissed(start_child: Start) -> None:
    child = start_child()

    assert {"event": "ready"} == child.event()
    child.send(b"")

    assert 0 == child.wait()
    assert not (child.folder / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_waiting_spare_goes_home_on_a_signal(start_child: Start, number: signal.Signals) -> None:
    child = start_child()
    child.event()

    child.signal(number)

    assert 0 == child.wait(5)
    assert not (child.folder / "result.json").exists()


def test_progress_is_told_and_ends_with_the_last_row(start_child: Start, zoo: Zoo) -> None:
    child = start_child().order(parameters=_inference(30), models=[_model(zoo)])

    events = child.events()

    assert {"event": "ready"} == events[0]
    progress = [event for event in events if event["event"] == "progress"]
    assert {"event": "progress", "step": 30, "total_steps": 30, "step_name": "rows"} == progress[-1]
    steps = [event["step"] for event in progress]
    assert sorted(steps) == steps
    assert len(steps) < 10, "not one event a row"


def test_the_totals_of_its_model_calls_are_told_and_no_single_call_unless_asked_for(
    start_child: Start, zoo: Zoo
) -> None:
    child = start_child().order(parameters=_inference(30), models=[_model(zoo)])

    events = child.events()

    (last,) = [event for event in events if event["event"] == "calls"][-1:]
    assert {"ok": 30} == last["kinds"]
    assert {"prompt_tokens", "completion_tokens", "cost_usd", "seconds", "refused", "model", "life"} < set(last)
    assert [] == [event for event in events if event["event"] == "call"]


def test_each_call_is_told_where_somebody_keeps_spans_and_carries_its_span(start_child: Start, zoo: Zoo) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    child = start_child().order(
        parameters=_inference(5),
        models=[_model(zoo)],
        traceparent=f"00-{trace_id}-{parent}-01",
        tells_spans=True,
    )

    told = [event for event in child.events() if event["event"] == "call"]

    assert {f"00-{trace_id}-{event['span_id']}-01" for event in told} == zoo.traceparents
    assert 5 == len(zoo.traceparents)
    assert {("ok", 200)} == {(event["kind"], event["status"]) for event in told}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_working_child_stops_within_a_second(start_child: Start, zoo: Zoo, number: signal.Signals) -> None:
    """Even when its calls hang: they are given a moment, then they are cut."""
    zoo.fail("", Hang())
    child = start_child().order(parameters=_inference(50), models=[_model(zoo)])
    zoo.wait_for_calls(4)

    child.signal(number)

    assert 0 == child.wait(1.5)
    assert {"status": "stopped"} == child.result()
    assert 4 == zoo.total


def test_a_child_without_its_parent_does_nothing(start_child: Start) -> None:
    child = start_child(parent=1)

    assert 0 == child.wait()
    assert [] == child.events()


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent here is a process of its own, which is killed."""
    code = textwrap.dedent(
        """
        import os, subprocess, sys
        r, w = os.pipe()
        line = [sys.executable, "-P", "-m", "overmind_executors.process.child", "--events-fd", str(w)]
        line += ["--parent", str(os.getpid())]
        child = subprocess.Popen(line, stdin=subprocess.PIPE, pass_fds=[w])
        os.read(r, 100)
        print(child.pid, flush=True)
        sys.stdin.read()
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()

    assert select.select([child], [], [], 5)[0], "the child lives on"
    os.close(child)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "order is not JSON"),
        (b'{"job_id": "j", "job_id": "k"}', "the same key twice"),
        (b'{"job_id": 7}', "order does not fit: job_id"),
    ],
)
def test_a_bad_order_is_a_bug_of_the_parents(start_child: Start, raw: bytes, message: str) -> None:
    child = start_child().send(raw)

    assert 70 == child.wait()
    assert message in child.log()
    assert not (child.folder / "result.json").exists()


def test_every_wrong_parameter_is_named_at_once(start_child: Start, zoo: Zoo) -> None:
    parameters = {"target": {"model": "echo", "system_promt": "x"}, "repetitions": 0, "concurency": 4}

    result = start_child().order(parameters=parameters, models=[_model(zoo)]).result()

    assert ("failed", "invalid_input") == (result["status"], result["reason"])
    assert "target.system_promt: unknown key; did you mean 'system_prompt'?" in result["message"]
    assert "repetitions: should be greater than or equal to 1" in result["message"]
    assert "concurency: unknown key; did you mean 'concurrency'?" in result["message"]


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"items": [{"input": _nested(61)}], "target": {"model": "echo"}}, "done"),
        ({"items": ["x"], "target": {"model": "echo"}, "surprise": _nested(63)}, "failed"),
    ],
)
def test_parameters_may_have_all_levels_that_json_may(
    start_child: Start, zoo: Zoo, parameters: dict[str, Any], status: str
) -> None:
    """The agent reads parameters of 64 levels, and the order that it writes is one level more."""
    raw = json.dumps(parameters)
    assert parameters == strict_json.loads(raw)
    with pytest.raises(strict_json.NotJson):
        strict_json.loads(f"[{raw}]")

    result = start_child().order(parameters=parameters, models=[_model(zoo)]).result()

    assert (status, "invalid_input" if status == "failed" else None) == (result["status"], result.get("reason"))


def test_an_unknown_job_type_names_the_known_ones(start_child: Start) -> None:
    result = start_child().order(job_type="inferense").result()

    assert "unknown_job_type" == result["reason"]
    assert "inference" in result["message"]


def test_what_an_earlier_attempt_left_in_the_output_is_gone(start_child: Start, zoo: Zoo, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    (folder / "output").mkdir(parents=True)
    (folder / "output/torn.jsonl").write_text("{")

    start_child(folder).order(parameters=_inference(1), models=[_model(zoo)]).result()

    assert {"output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html", "manifest.json"} == {
        path.name for path in (folder / "output").iterdir()
    }


def test_keys_prompts_and_rows_are_nowhere_but_where_they_belong(start_child: Start, zoo: Zoo) -> None:
    """The key: nowhere on disk. Prompts and rows: not in the log."""
    parameters = _inference(3, target={"model": "echo", "system_prompt": "the-secret-prompt"})
    child = start_child().order(parameters=parameters, models=[_model(zoo)])

    child.result()

    for path in child.folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert "the-secret-prompt" not in child.log()
    assert "text 1" not in child.log()


EXECUTOR = """
import os, pathlib
from overmind_executors.contract import ExecutionFailed, Result, WorkStopped

class Odd:
    job_type = "odd"
    is_resumable = False
    def validate(self, parameters):
        return parameters["do"]
    def run(self, task, context):
        out = context.output
        (out / "a.txt").write_text("a")
        exec(task)
        raise AssertionError("no verdict")
"""


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """An installed distribution with an executor that does what the job says, good or bad."""
    folder = tmp_path / "site"
    (folder / "odd-1.5.dist-info").mkdir(parents=True)
    (folder / "odd-1.5.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.5\n")
    (folder / "odd-1.5.dist-info/entry_points.txt").write_text(
        "[overmind_agent.executors]\nodd = odd_executor:Odd\nabsent = no_such_module:X\nlame = os:path\n"
    )
    (folder / "odd_executor.py").write_text(EXECUTOR)
    return folder


BAD_RESULTS = {
    "missing file": ('made = Result(("b.txt",))', "'b.txt' cannot be opened"),
    "symbolic link": ('os.symlink("/etc/passwd", out / "l"); made = Result(("l",))', "'l' cannot be opened"),
    "hard link": ('os.link(out / "a.txt", out / "../h"); made = Result(("a.txt",))', "not a plain file"),
    "folder": ('(out / "d").mkdir(); made = Result(("d",))', "not a plain file"),
    "pipe": ('os.mkfifo(out / "p"); made = Result(("p",))', "not a plain file"),
    "path": ('made = Result(("../a.txt",))', "not a plain name"),
    "absolute": ('made = Result(("/etc/passwd",))', "not a plain name"),
    "dots": ('made = Result(("..",))', "not a plain name"),
    "newline": ('made = Result(("a\\n.txt",))', "not a plain name"),
    "an escape": ('made = Result(("a\\x1b[31m.txt",))', "not a plain name"),
    "right to left": ('made = Result(("\\u202etxt.exe",))', "not a plain name"),
    "not UTF-8": ('made = Result(("\\udcff.txt",))', "not a plain name"),
    "a drive": ('made = Result(("C:\\\\x",))', "not a plain name"),
    "a dot at the end": ('made = Result(("a.txt.",))', "not a plain name"),
    "256 bytes": ('made = Result(("a" * 256,))', "not a plain name"),
    "our manifest": ('made = Result(("manifest.json",))', "not a plain name"),
    "twice": ('made = Result(("a.txt", "a.txt"))', "named twice"),
    "large outcome": ('made = Result((), {"x": "y" * 70000})', "outcome has"),
    "odd outcome": ('made = Result((), {"x": float("nan")})', "outcome is not JSON"),
    "lone surrogate in the outcome": (r'made = Result((), {"x": "\ud800"})', "outcome is not JSON: half of a"),
    "deep outcome": ('x = {}\nfor _ in range(32): x = {"x": x}\nmade = Result((), x)', "nested deeper than 32"),
    "bottomless outcome": ('x = {}\nfor _ in range(200000): x = {"x": x}\nmade = Result((), x)', "not JSON"),
    "exception": ('raise KeyError("oh")', "KeyError: 'oh'"),
}


@pytest.mark.parametrize(("code", "message"), BAD_RESULTS.values(), ids=BAD_RESULTS.keys())
def test_a_result_that_cannot_be_trusted_fails_the_job(
    start_child: Start, third_party: Path, code: str, message: str
) -> None:
    (third_party / "odd_executor.py").write_text(
        EXECUTOR.replace("exec(task)", "scope = dict(globals(), out=out); exec(task, scope); return scope['made']")
    )

    result = start_child(python_path=third_party).order(job_type="odd", parameters={"do": code}).result()

    assert ("failed", "executor_error") == (result["status"], result["reason"])
    assert message in result["message"]


def test_an_installed_executor_is_found_and_its_version_told(start_child: Start, third_party: Path) -> None:
    code = EXECUTOR.replace("exec(task)", 'return Result(("a.txt",), {"did": task})')
    (third_party / "odd_executor.py").write_text(code)

    child = start_child(python_path=third_party).order(job_type="odd", parameters={"do": "it"})

    assert {"did": "it"} == child.result()["outcome"]
    assert "1.5" == json.loads((child.folder / "output/manifest.json").read_text())["executor_version"]


def test_an_executor_says_which_files_are_not_required(start_child: Start, third_party: Path) -> None:
    code = EXECUTOR.replace("exec(task)", 'return Result(("a.txt",), best_effort=("a.txt",))')
    (third_party / "odd_executor.py").write_text(code)

    result = start_child(python_path=third_party).order(job_type="odd", parameters={"do": "it"}).result()

    assert {"a.txt": False, "manifest.json": True} == {
        file["name"]: file["is_required"] for file in result["files"]
    }


@pytest.mark.parametrize("method", ["validate", "run"])
def test_an_executor_may_change_the_working_folder(
    start_child: Start, third_party: Path, tmp_path: Path, method: str
) -> None:
    code = EXECUTOR.replace("exec(task)", 'return Result(("a.txt",), {"read": context.input_file.read_text()})')
    parts = code.split(f"def {method}(", 1)
    signature, body = parts[1].split("\n", 1)
    moved = f"{parts[0]}def {method}({signature}\n        os.chdir({str(tmp_path)!r})\n{body}"
    (third_party / "odd_executor.py").write_text(moved)
    folder = tmp_path / "workspace"
    (folder / "in").mkdir(parents=True)
    (folder / "in/rows").write_text("a row")

    child = start_child(folder, python_path=third_party)
    child.order(job_type="odd", parameters={"do": "it"}, input_file="in/rows")

    result = child.result()
    assert ("done", {"read": "a row"}) == (result["status"], result["outcome"])
    assert (folder / "output/manifest.json").is_file()


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ('raise ExecutionFailed("the sea is empty", reason="no_fish")', ("failed", "no_fish", "the sea is empty")),
        ("raise WorkStopped", ("stopped", None, None)),
    ],
)
def test_what_an_executor_raises_is_its_verdict(
    start_child: Start, third_party: Path, code: str, verdict: tuple[str, str | None, str | None]
) -> None:
    result = start_child(python_path=third_party).order(job_type="odd", parameters={"do": code}).result()

    assert verdict == (result["status"], result.get("reason"), result.get("message"))


def test_a_key_in_an_exception_is_redacted(start_child: Start, third_party: Path, zoo: Zoo) -> None:
    code = f'raise ValueError("refused: {KEY}")'

    child = start_child(python_path=third_party).order(
        job_type="odd", parameters={"do": code}, models=[_model(zoo)]
    )

    assert "ValueError: refused: [redacted]" == child.result()["message"]
    assert KEY not in child.log()
    assert "Traceback" in child.log()


@pytest.mark.parametrize("job_type", ["absent", "lame"])
def test_an_installed_executor_that_cannot_be_loaded_fails_its_jobs_alone(
    start_child: Start, third_party: Path, job_type: str
) -> None:
    result = start_child(python_path=third_party).order(job_type=job_type).result()

    assert "executor_error" == result["reason"]
    assert job_type in result["message"]
