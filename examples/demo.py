"""
From nothing to finished jobs on this machine: a control plane, a chat model, an agent and 64 reviews to judge.

Run it with `make demo`; `make demo KEEP=1` leaves the control plane and the model running. It uses only what a
user has: the installed commands and the HTTP interface. Everything it writes is in `.demo/`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import deciding_step
import intake_step
import requests
import scoring_step
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = ROOT / ".demo"
DATA: Final = HOME / "control-plane"
RUNNING: Final = HOME / "running.json"
SUBMIT_TOKEN: Final = HOME / "submit.token"
COMMANDS: Final = Path(sys.executable).parent
READY_S: Final = 60.0
STOP_S: Final = 10.0
SHOWN_ROWS: Final = 6
ASKED_TO_END: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A model this small follows one wording and not another: of these 64 reviews, between 8 and 60 come out right.
PROMPT: Final = "{input}\n\nIs this review positive or negative? Answer with one word."

say = Console(highlight=False, soft_wrap=True)


class Failed(Exception):
    """The demo cannot go on; the message says why."""


class Server:
    """A command that serves until it is stopped, in a process group of its own, with its output in a file."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.log = HOME / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [COMMANDS / name, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self.group = self._process.pid

    def address(self) -> str:
        """Where it listens, as soon as it does."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("listening on "):
                    return line.removeprefix("listening on ").strip()
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise Failed(f"{self._process.args[0]} did not start; {self.log} says why")  # type: ignore[index]

    def stop(self) -> None:
        """Ask it to end, then make it."""
        stop_group(self._process)


def stop_group(process: subprocess.Popen[Any]) -> None:
    """End *process* and what it left in its group. An agent that is asked a second time stops its job."""
    for ask, wait_s in ((signal.SIGTERM, 1), (signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        if process.poll() is None:
            process.send_signal(ask)
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def servers() -> Iterator[list[Server]]:
    """What is put into the list is stopped at the end, whatever happens, unless it is to be kept."""
    started: list[Server] = []
    try:
        yield started
    except BaseException:
        _stop(started)
        raise
    if not os.environ.get("KEEP"):
        _stop(started)
        return
    RUNNING.write_text(json.dumps([server.group for server in started]), encoding="utf-8")
    groups = " ".join(f"-{server.group}" for server in started)
    say.print(f"\nThe servers go on. Stop them with:  [bold]kill -- {groups}[/bold]")


def _stop(started: list[Server]) -> None:
    for server in reversed(started):
        server.stop()


def fresh_folder() -> None:
    """An empty `.demo/`, unless servers of an earlier run still work in it."""
    if RUNNING.exists():
        alive = [group for group in json.loads(RUNNING.read_text(encoding="utf-8")) if _is_alive(group)]
        if alive:
            groups = " ".join(f"-{group}" for group in alive)
            raise Failed(f"the servers of the last demo still run; stop them with: kill -- {groups}")
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o700)


def _is_alive(group: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, 0)
        return True
    return False


def command(name: str, *arguments: str) -> str:
    """What a short command prints."""
    done = subprocess.run([COMMANDS / name, *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Failed(f"{name} {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def make_tokens() -> tuple[str, Path]:
    """A project with a token that submits, and the file with the agent's."""
    command("overmind-control-plane", "project", "create", "demo", "--data", str(DATA))
    token = ("token", "create", "--data", str(DATA), "--project", "demo", "--role")
    submit = command("overmind-control-plane", *token, "submit")
    keep_secret(SUBMIT_TOKEN, submit)
    return submit, keep_secret(HOME / "agent.token", command("overmind-control-plane", *token, "agent"))


def keep_secret(file: Path, secret: str) -> Path:
    """*file*, with *secret* in it, for nobody else to read."""
    file.touch(mode=0o600)
    file.write_text(secret, encoding="utf-8")
    return file


def write_config(plane: str, model: str, token: Path) -> Path:
    """What an operator would write by hand."""
    config = HOME / "agent.toml"
    config.write_text(
        f"""\
[control_plane]
url = "{plane}"
token_file = "{token.name}"

[agent]
name = "demo"
state_dir = "agent-state"
data_roots = ["{ROOT / "examples"}"]

[models.local]
base_url = "{model}"
model = "smollm2"
""",
        encoding="utf-8",
    )
    return config


class ControlPlane:
    """The little of the HTTP interface that a submitter needs."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer that went well."""
        answer = self._session.request(method, self.url + path, json=body, timeout=30)
        if not answer.ok:
            raise Failed(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    def submit(self, job_type: str, parameters: dict[str, Any]) -> str:
        """A new job; returns its id."""
        job = {"job_type": job_type, "status": "pending", "result": {"parameters": parameters}}
        return str(self.call("POST", "/api/jobs/", job)["id"])

    def save_results(self, model_id: str, folder: Path) -> list[Path]:
        """Every result file of the job on *model_id*, in *folder*."""
        folder.mkdir()
        saved = []
        for artifact in self.call("GET", f"/api/v2/models/{model_id}")["artifacts"]:
            revision = artifact["file"]["revisions"][-1]
            url = self.call("GET", f"/api/v2/tokens/{revision['content_token']['sha']}/download-url")["url"]
            answer = requests.get(url, timeout=60)
            answer.raise_for_status()
            path = folder / Path(revision["name"]).name
            path.write_bytes(answer.content)
            saved.append(path)
        return saved


def inference(rows: list[Any]) -> dict[str, Any]:
    """The parameters of a job that asks the local model about *rows*."""
    return {
        "items": rows,
        "target": {
            "kind": "model",
            "model": "local",
            "messages_template": [{"role": "user", "content": PROMPT}],
            "temperature": 0,
            "max_tokens": 8,
            "stop": [".", ",", "\n"],
        },
        "concurrency": 2,
        "comparison": {"kind": "label"},
    }


def run_agent(config: Path) -> None:
    """One job, and exit; its bar and its log go straight to the terminal, its JSON summary into a file."""
    with (HOME / "agent-summary.json").open("wb") as summary:
        agent = subprocess.Popen(
            [COMMANDS / "overmind-agent", "run", "--once", "--wait", "10", "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=summary,
            process_group=0,
        )
    try:
        code = agent.wait()
    finally:
        stop_group(agent)
    if code:
        raise Failed(f"overmind-agent ended with exit code {code}")


def show(plane: ControlPlane, job_id: str, rows: list[Any]) -> None:
    """What came out."""
    job = plane.call("GET", f"/api/v2/jobs/{job_id}")
    record = plane.call("GET", f"/api/jobs/{job_id}/")
    show_history(job["status_history"])
    show_summary(record["result"])
    files = plane.save_results(job["model_id"], HOME / "results")
    show_rows(rows, HOME / "results" / "output.jsonl")
    say.print("\n[bold]Result files[/bold], downloaded from the control plane")
    for path in files:
        say.print(f"  {path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    say.print(f"\nControl plane: {plane.url}   job: {job_id}   status: [bold]{record['status']}[/bold]")
    if record["status"] != "completed":
        raise Failed(f"the job is {record['status']}, not completed")


def show_history(history: list[Any]) -> None:
    """The statuses of the job and when it came to them."""
    table = Table("status", "at", title="Life of the job", title_justify="left", title_style="bold")
    for status in history:
        table.add_row(status["name"], status["created"])
    say.print()
    say.print(table)


def show_summary(result: dict[str, Any]) -> None:
    """The figures that a reader wants first."""
    accuracy, usage, latency = result["accuracy"], result["usage"], result["latency_ms"]
    low, high = accuracy["interval_95"]
    right = f"{accuracy['correct']} of {accuracy['compared']}"
    table = Table("figure", "value", title="Summary", title_justify="left", title_style="bold")
    table.add_row("accuracy", f"{accuracy['accuracy']:.1%}  ({right}; 95 %: {low:.1%} to {high:.1%})")
    table.add_row("latency", f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms")
    table.add_row("tokens", f"{usage['prompt_tokens']:,} in, {usage['completion_tokens']:,} out")
    table.add_row("rows", ", ".join(f"{count} {name}" for name, count in result["counts"].items()))
    say.print()
    say.print(table)


def show_rows(rows: list[Any], output: Path) -> None:
    """The first few rows with their answers."""
    table = Table("input", "expected", "answer", title="Some rows", title_justify="left", title_style="bold")
    lines = output.read_text(encoding="utf-8").splitlines()
    for row, line in list(zip(rows, lines, strict=True))[:SHOWN_ROWS]:
        answer = json.loads(line)["response"]["body"]["choices"][0]["message"]["content"]
        table.add_row(row["input"], row["expected_output"], answer.strip())
    say.print()
    say.print(table)


def take_in(plane: ControlPlane, config: Path) -> None:
    """A second job: answers from elsewhere, checked against the reviews."""
    job_id = plane.submit("uploaded_outputs_setup", intake_step.PARAMETERS)
    say.print(f"\nSubmitted job {job_id}: a table of answers that were made elsewhere.\n")
    run_agent(config)
    record = plane.call("GET", f"/api/jobs/{job_id}/")
    if record["status"] != "completed":
        raise Failed(f"the job is {record['status']}, not completed")
    intake_step.show(say, record["result"])
    files = plane.save_results(plane.call("GET", f"/api/v2/jobs/{job_id}")["model_id"], HOME / "taken-in")
    say.print(f"\nIts report: {next(path for path in files if path.name == 'report.html').relative_to(ROOT)}")


def score(plane: ControlPlane, config: Path, rows: list[Any]) -> None:
    """A third job: answers from elsewhere, scored."""
    answers = scoring_step.answers(rows)
    job_id = plane.submit("judge_scoring", scoring_step.parameters(answers))
    say.print(f"\nSubmitted job {job_id}: {len(answers)} answers to score, half of them wrong on purpose.\n")
    run_agent(config)
    record = plane.call("GET", f"/api/jobs/{job_id}/")
    if record["status"] != "completed":
        raise Failed(f"the job is {record['status']}, not completed")
    scoring_step.show(say, record["result"])


def run_job(plane: ControlPlane, config: Path, job_type: str, parameters: dict[str, Any], folder: str) -> Any:
    """The record of a job that is submitted, run and completed; its result files are in *folder*."""
    job_id = plane.submit(job_type, parameters)
    say.print(f"\nSubmitted job {job_id}: {job_type}.\n")
    run_agent(config)
    record = plane.call("GET", f"/api/jobs/{job_id}/")
    if record["status"] != "completed":
        raise Failed(f"the job is {record['status']}, not completed")
    plane.save_results(plane.call("GET", f"/api/v2/jobs/{job_id}")["model_id"], HOME / folder)
    return record


def decide(plane: ControlPlane, config: Path, rows: list[Any]) -> None:
    """Two more jobs: a poor prompt is tuned, then two settings are compared with the prompt that came out."""
    tuned = run_job(plane, config, "prompt_tuning", deciding_step.tuning(rows), "tuned")
    deciding_step.show_tuning(say, tuned)
    prompt = json.loads(tuned["best_agent_code"])
    compared = run_job(plane, config, "model_backtesting", deciding_step.backtest(rows, prompt), "compared")
    deciding_step.show_backtest(say, compared)
    for folder in ("tuned", "compared"):
        say.print(f"Report: {(HOME / folder / 'report.html').relative_to(ROOT)}")


def say_what_next(plane: ControlPlane, *, is_kept: bool) -> None:
    """What there is to look at, and what to type."""
    commands, token = COMMANDS.relative_to(ROOT), SUBMIT_TOKEN.relative_to(ROOT)
    url = plane.url if is_kept else "http://127.0.0.1:8470"
    say.print("\n[bold]To look at[/bold]")
    say.print(f"  {(HOME / 'results').relative_to(ROOT)}/ and the reports named above, in a browser")
    needs = "" if is_kept else ", once it is served again (below)"
    say.print(f"  {url}/ is the same as a web page{needs}; sign in with the token in {token}")
    say.print("\n[bold]To type next[/bold]", highlight=False)
    if not is_kept:
        say.print(f"  {commands}/overmind-control-plane serve --data {DATA.relative_to(ROOT)} &", highlight=False)
    say.print(f'  export OVERMIND_API_URL={url} OVERMIND_API_KEY="$(cat {token})"', highlight=False)
    say.print(f"  {commands}/overmind-control-plane job list", highlight=False)
    say.print("A job of your own: docs/submitting.md. An agent on a host of yours: docs/operating.md.")


def demo() -> None:
    """All of it."""
    fresh_folder()
    lines = (ROOT / "examples" / "reviews.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    submit_token, agent_token = make_tokens()
    with servers() as started:
        say.print("Starting the control plane and the chat model …")
        started.append(Server("overmind-control-plane", "serve", "--data", str(DATA), "--port", "0"))
        started.append(Server("overmind-local-model", "--port", "0"))
        plane = ControlPlane(started[0].address(), submit_token)
        config = write_config(plane.url, started[1].address(), agent_token)
        job_id = plane.submit("inference", inference(rows))
        say.print(f"Submitted job {job_id}: {len(rows)} reviews. Now the agent asks for it and runs it.\n")
        run_agent(config)
        show(plane, job_id, rows)
        take_in(plane, config)
        score(plane, config, rows)
        decide(plane, config, rows)
        say_what_next(plane, is_kept=bool(os.environ.get("KEEP")))


def _end(*_: object) -> NoReturn:
    for asked in ASKED_TO_END:
        signal.signal(asked, signal.SIG_IGN)  # stopping the servers must not be interrupted
    sys.exit(130)


def main() -> int:
    """Run the demo; 0 when the job completed, 1 when something failed, 130 when it was interrupted."""
    for asked in ASKED_TO_END:
        signal.signal(asked, _end)
    try:
        demo()
    except (Failed, requests.RequestException) as error:
        say.print(f"[bold red]demo failed:[/bold red] {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
