"""A worker host and a submitter, as the tests see them: the installed command, and the public HTTP interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import requests

COMMAND = str(Path(sys.executable).with_name("overmind-agent"))
TIMEOUT_S = 60.0

CONFIG = """
[control_plane]
url = "{url}"
token_file = "{folder}/token"

[agent]
name = "test host"
state_dir = "{folder}/state"
grace_s = 2
drain_s = 30
{more}

[models.local]
base_url = "{models}"
model = "sentiment"
max_concurrency = 4

[logging]
format = "json"
level = "debug"
"""


class Agent:
    """A running `overmind-agent`, started at `started_at`; `lines` are its log events as they come."""

    def __init__(
        self, arguments: Iterable[str], environment: dict[str, str], *, within: Iterable[str] = ()
    ) -> None:
        self.started_at = time.time()
        self.process = subprocess.Popen(
            [*within, COMMAND, *arguments],
            env=environment,
            stdin=subprocess.PIPE if within else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self.out: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=[self.process.stdout, self.out], daemon=True),
            threading.Thread(target=self._read, args=[self.process.stderr, self.raw], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, kept: list[str]) -> None:
        for line in stream:
            with self._changed:
                kept.append(line.rstrip("\n"))
                if line.startswith("{") and '"event"' in line:
                    self.lines.append(json.loads(line))
                self._changed.notify_all()

    def wait_for(self, event: str, *, times: int = 1, **keys: Any) -> dict[str, Any]:
        """The *times*-th log event of that name, and with these *keys*."""

        def found() -> list[dict[str, Any]]:
            wanted = {"event": event, **keys}.items()
            return [line for line in self.lines if wanted <= line.items()]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= times, TIMEOUT_S), (event, self.raw)
            return found()[times - 1]

    def say(self, line: str) -> None:
        """Have the shell that it runs within carry out *line*."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Wait for its end. Safe to call twice."""
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            if stream is not None:
                stream.close()
        return code

    @property
    def summary(self) -> dict[str, Any]:
        """The last line of its standard output."""
        found: dict[str, Any] = json.loads(self.out[-1])
        return found


class Host:
    """
    A folder with a configuration, a token and a state folder.

    Args:
        more: lines of the configuration's section `[agent]`.
    """

    def __init__(self, folder: Path, url: str, token: str, models: str, *, more: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "agent.toml"
        self.config.write_text(CONFIG.format(url=url, folder=folder, models=models, more=more))
        self.write_token(token)
        self.started: list[Agent] = []

    def write_token(self, token: str) -> None:
        """Put *token* where the configuration says."""
        path = self.folder / "token"
        path.touch(mode=0o600)
        path.write_text(token)

    def start(self, *arguments: str, within: Sequence[str] = (), **environment: str) -> Agent:
        """Start `overmind-agent run` with the host's configuration, as an argument of the command *within*."""
        clean = {"PATH": os.environ["PATH"], "SECRET_OF_THE_HOST": "not for jobs", **environment}
        agent = Agent(["run", "--config", str(self.config), *arguments], clean, within=within)
        self.started.append(agent)
        return agent

    def start_on_small_disk(self, size_mib: int) -> Agent:
        """
        `overmind-agent run` with a state folder that is a disk of its own, in a namespace where we may mount one.

        `agent.say` runs a line of shell there.
        """
        self.state.mkdir(exist_ok=True)
        script = f"mount -t tmpfs -o size={size_mib}m small {self.state} && cd {self.state} || exit 96; "
        script += '"$@" & while read -r line; do eval "$line"; done; wait $!'
        clean = {"PATH": os.environ["PATH"]}
        within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
        agent = Agent(["run", "--config", str(self.config)], clean, within=within)
        self.started.append(agent)
        return agent

    def once(self, *arguments: str) -> Agent:
        """`run --once`, from its start to its end."""
        agent = self.start("--once", *arguments)
        agent.exit_code()
        return agent

    def check(self) -> dict[str, str]:
        """The grades of all findings of `overmind-agent check`, by their codes."""
        command = [COMMAND, "check", "--json", "--config", str(self.config)]
        clean = {"PATH": os.environ["PATH"]}
        ended = subprocess.run(command, env=clean, capture_output=True, timeout=TIMEOUT_S, check=False)
        return {finding["code"]: finding["grade"] for finding in json.loads(ended.stdout)["checks"]}

    def children(self) -> list[int]:
        """The processes of jobs of this host that are alive, whoever their parent is."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    is_ours = (entry / "cwd").readlink().is_relative_to(self.state)
                except OSError:
                    continue
                if is_ours:
                    found.append(int(entry.name))
        return found

    def stop_all(self) -> None:
        """Leave nothing behind."""
        for agent in self.started:
            if agent.process.poll() is None:
                agent.process.kill()
            agent.exit_code()
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = TIMEOUT_S) -> None:
    """Look again and again, until it is so."""
    ends_at_s = time.monotonic() + timeout_s
    gap_s = 0.02
    while not is_so():
        assert time.monotonic() < ends_at_s, "it never came to be so"
        time.sleep(gap_s)
        gap_s = min(0.2, gap_s * 1.2)


def reviews(number: int) -> list[dict[str, Any]]:
    """Rows that the zoo's `sentiment` model answers rightly."""
    moods = (("I love it, a great buy", "positive"), ("It broke at once", "negative"))
    return [
        {"id": f"row-{n}", "input": f"{moods[n % 2][0]}, says buyer {n}", "expected_output": moods[n % 2][1]}
        for n in range(number)
    ]


def inference(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Parameters of an inference job over *rows*."""
    prompt = "positive or negative? one word"
    target = {"kind": "model", "model": "local", "system_prompt": prompt, "temperature": 0}
    return {"items": rows, "target": target, "comparison": {"kind": "label"}, "concurrency": 4, **more}


class Submitter:
    """Submits through the jobs REST, reads results through the agent-pull dialect."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def call(self, verb: str, path: str, **more: Any) -> Any:
        """The JSON of a successful answer."""
        answer = self._session.request(verb, self.url + path, timeout=30, **more)
        assert answer.ok, answer.text
        return answer.json()

    def submit(self, parameters: dict[str, Any], *, job_type: str = "inference") -> str:
        """The id of a new job."""
        body = {"job_type": job_type, "status": "pending", "result": {"parameters": parameters}}
        return str(self.call("POST", "/api/jobs/", json=body)["id"])

    def record(self, job_id: str) -> dict[str, Any]:
        """The job in the jobs REST."""
        found: dict[str, Any] = self.call("GET", f"/api/jobs/{job_id}/")
        return found

    def history(self, job_id: str) -> list[str]:
        """The names of the job's statuses."""
        return [line["name"] for line in self.job(job_id)["status_history"]]

    def job(self, job_id: str) -> dict[str, Any]:
        """The job in the agent-pull dialect."""
        found: dict[str, Any] = self.call("GET", f"/api/v2/jobs/{job_id}")
        return found

    def cancel(self, job_id: str) -> None:
        """End the job, as a person."""
        self.call("PUT", f"/api/v2/jobs/{job_id}/status", params={"status_name": "Canceled"})

    def files(self, job_id: str) -> dict[str, bytes]:
        """The job's result files by name. Two of one name are an error."""
        model = self.call("GET", f"/api/v2/models/{self.job(job_id)['model_id']}")
        found: dict[str, bytes] = {}
        for artifact in model["artifacts"]:
            revision = artifact["file"]["revisions"][-1]
            url = self.call("GET", f"/api/v2/tokens/{revision['content_token']['sha']}/download-url")["url"]
            assert revision["name"] not in found
            found[revision["name"]] = requests.get(url, timeout=30).content
        return found


def jsonl(content: bytes) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in content.splitlines()]
