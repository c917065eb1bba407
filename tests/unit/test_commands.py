"""The commands of the person who runs the host, in this process: what they print, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from agent_parts import JOB_ID, a_claim
from overmind_agent import cli
from overmind_agent.control import showing
from overmind_agent.control.line import Refusal
from overmind_agent.control.plain_text import of_a_log, one_line
from overmind_agent.control.server import ControlServer
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_config.state_place import state_dir
from overmind_config.toml_lines import lines_of

EVIL = "\x1b]0;owned\x07\x1b[2J\u202edone\r"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\u202edone\r"
SECRET = "ovr_" + "s" * 40
CONFIG = """
[control_plane]
url = "http://127.0.0.1:1"
token_file = "token"
proxy = "http://user:hunter22@127.0.0.1:3128"
[agent]
state_dir = "state"
slots = 2
labels = ["gpu"]
"""
JOB: dict[str, Any] = {
    "job_id": JOB_ID,
    "job_type": f"inference{EVIL}",
    "attempt": 1,
    "status": "Running",
    "is_ending": False,
    "held_s": 3725.0,
    "step": 3,
    "total_steps": 10,
    "step_name": f"rows{EVIL}",
    "lease_left_s": 41.0,
    "stop_reason": None,
}
VIEW: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 7,
    "name": "host-1",
    "state_dir": "/state",
    "started_at": "2026-11-22T07:00:00+00:00",
    "uptime_s": 90061.0,
    "slots": 2,
    "free_slots": 1,
    "job_types": ["inference"],
    "paused_at": None,
    "is_draining": False,
    "disk_refusal": None,
    "nursery_pid": None,
    "contact": {
        "url": "https://overmind.example",
        "adapter": "overmind",
        "agent_id": "6ca733ed-0000-4000-8000-000000000001",
        "is_registered": True,
        "answered_s": 61.0,
        "trouble": f"next_job: 503 {EVIL}",
        "is_refused": False,
    },
    "outbox": {"waiting": 3, "oldest_s": 62.0, "parked": 1},
    "jobs": [JOB],
    "loops": [{"name": "heartbeat", "is_running": True, "left_s": -1.0}],
}


class Host:
    """A configured host, and what a command on it printed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.config = folder / "agent.toml"
        self.config.write_text(CONFIG)
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(SECRET)
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        code = cli.main([*words, "--config", str(self.config)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def tell(self, *words: str) -> tuple[int, Any]:
        """Exit code and document of a command with `--json`."""
        code, out, _err = self.run(*words, "--json")
        return code, json.loads(out)

    @contextmanager
    def answering(self, **verbs: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Iterator[None]:
        """A daemon that knows *verbs*, beside `status`."""
        known = {"status": lambda _said: VIEW, **verbs}
        server = ControlServer(self.state, known, structlog.get_logger(), refusal=lambda _peer: None)
        with capture_logs():
            server.open()
            try:
                yield
            finally:
                server.close()

    def worked(self) -> SqliteJournal:
        """A journal with a held job, of whose words one was refused and one waits."""
        journal = SqliteJournal(self.state / "journal.sqlite")
        journal.remember_agent("agent-1")
        for job_id in (JOB_ID, f"{JOB_ID[:-1]}2"):
            claim = a_claim(job_id)
            journal.intend(claim.job, "key")
            journal.hold(claim)
            journal.post(claim, Status.VALIDATING)
        journal.refused(journal.undelivered()[0], f"409 {EVIL}")
        return journal


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    """A host on which no agent has worked yet."""
    return Host(tmp_path, capsys)


# ------------------------------------------------------------------------------------ words of strangers


@pytest.mark.parametrize("letter", [*map(chr, range(32)), "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ud800"])
def test_no_letter_that_moves_a_cursor_reaches_a_terminal(letter: str) -> None:
    assert one_line(letter).isprintable()
    assert of_a_log(letter).isprintable() or letter in "\n\t"


def test_other_letters_are_left_as_they_are() -> None:
    text = "größer 漢字 é — “ok” 🙂"

    assert (text, text) == (one_line(text), of_a_log(text))
    assert "a\nb\tc\n" == of_a_log("a\r\nb\tc\n")


# ------------------------------------------------------------------------------------ how it is


def test_a_running_agent_is_shown(host: Host) -> None:
    with host.answering():
        code, out, err = host.run("status")

    assert (0, "") == (code, err)
    assert "\x1b" not in out
    assert SHOWN in out
    for words in (
        "up for 1 d 1 h",
        "answered 1 min 1 s ago",
        "1 of 2 in use",
        "3 waiting, the oldest for 1 min 2 s; 1 parked",
        "standing still: heartbeat",
        "1 h 2 min",
        "3/10 rows",
    ):
        assert words in out


def test_a_running_agent_is_told_to_scripts_as_it_is(host: Host) -> None:
    with host.answering():
        assert (0, {"running": True, **VIEW}) == host.tell("status")
        assert (0, {"running": True, "jobs": [JOB]}) == host.tell("jobs")


TAKES: dict[str, tuple[dict[str, Any], str]] = {
    "yes": ({}, "yes"),
    "draining": ({"is_draining": True}, "no: it drains, and ends with its present jobs"),
    "paused": (
        {"paused_at": "2026-11-22T07:00:00.123+00:00"},
        "no: paused since 2026-11-22T07:00:00Z; overmind-agent resume ends that",
    ),
    "short of disk": ({"disk_refusal": "7 bytes are free"}, "no: 7 bytes are free"),
    "not registered": ({"contact": {**VIEW["contact"], "is_registered": False}}, "not yet: it is not registered"),
}


@pytest.mark.parametrize("how", TAKES)
def test_whether_it_takes_jobs_is_said_with_the_reason(how: str) -> None:
    changes, expected = TAKES[how]

    assert expected == dict(showing.lines_of({**VIEW, **changes}))["takes jobs"]


SPANS = {None: "", 0: "0 s", 59.9: "59 s", 60: "1 min", 3600: "1 h", 3661: "1 h 1 min", 90000: "1 d 1 h", -3: "0 s"}


@pytest.mark.parametrize("seconds", SPANS)
def test_a_span_of_time_in_its_two_largest_units(seconds: float | None) -> None:
    assert SPANS[seconds] == showing.span(seconds)


def test_without_an_agent_the_journal_speaks(host: Host) -> None:
    host.worked().close()

    code, out, err = host.run("status")

    assert 3 == code
    assert "no agent is running on" in err
    assert "1 to go on with" in out  # the one whose word was refused is not held any more
    assert "1 waiting; 1 parked" in out


def test_without_an_agent_scripts_are_told_so(host: Host) -> None:
    host.worked().close()

    code, told = host.tell("status")

    assert 3 == code
    assert (False, "agent-1", None) == (told["running"], told["agent_id"], told["paused_at"])
    assert (1, 1) == (told["outbox"]["waiting"], told["outbox"]["parked"])
    assert (3, ["Validating"]) == (lambda c, d: (c, [job["status"] for job in d["jobs"]]))(*host.tell("jobs"))


def test_the_journal_can_be_read_while_a_daemon_writes_it(host: Host) -> None:
    journal = host.worked()
    try:
        assert (0, 2) == (lambda code, told: (code, len(told["outbox"])))(*host.tell("outbox", "list"))
    finally:
        journal.close()


@pytest.mark.parametrize("words", [["status"], ["jobs"], ["outbox", "list"], ["pause"], ["cancel", "x"]])
def test_where_no_agent_has_worked_the_exit_code_says_so(host: Host, words: list[str]) -> None:
    code, out, err = host.run(*words)

    assert (3, "") == (code, out)
    assert err.startswith("overmind-agent: no agent ")


@pytest.mark.parametrize("words", [["status"], ["outbox", "list"], ["logs", "x"]])
def test_a_configuration_that_cannot_be_read_is_not_taken_for_none(
    host: Host, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([*words, "--config", "/nowhere/agent.toml"])

    assert 78 == code
    assert "overmind-agent: /nowhere/agent.toml cannot be read: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["outbox", "--config", "{}", "list"], ["outbox", "list", "--config", "{}"]], ids=["before", "after"]
)
def test_where_the_configuration_is_may_be_said_before_the_inner_command_or_after_it(
    host: Host, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    host.worked().close()

    code = cli.main([word.format(host.config) for word in words])

    assert 0 == code
    assert JOB_ID[:8] in capsys.readouterr().out


def test_a_journal_that_is_none_is_told(host: Host) -> None:
    (host.state / "journal.sqlite").write_bytes(b"no database" * 1000)

    code, _out, err = host.run("outbox", "list")

    assert 73 == code
    assert "cannot be read" in err


# ------------------------------------------------------------------------------------ what it is to do


def test_the_outbox_shows_what_is_parked_and_why(host: Host) -> None:
    host.worked().close()

    code, out, _err = host.run("outbox", "list")

    assert 0 == code
    assert f"409 {SHOWN}" in out
    assert [True, True] == [state in out for state in ("parked", "waiting")]


def test_a_job_is_named_by_the_beginning_of_its_id(host: Host) -> None:
    asked: list[Mapping[str, Any]] = []

    def cancel(said: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(said)
        return {"job_id": said["job_id"], "stop_reason": "host_request"}

    with host.answering(cancel=cancel):
        code, out, _err = host.run("cancel", JOB_ID[:6])
        unknown = host.run("cancel", "feed")

    assert (0, [{"job_id": JOB_ID}]) == (code, asked)
    assert f"job {JOB_ID} is being ended\n" == out
    assert (1, "") == unknown[:2]


def test_a_job_that_waits_to_be_gone_on_with_is_listed_and_can_be_canceled(host: Host) -> None:
    """A start of before left it; its slot is taken by another, or the control plane has not been asked yet."""
    left = a_claim(job_id="feed0000-0000-4000-8000-000000000000")
    journal = SqliteJournal(host.state / "journal.sqlite")
    journal.intend(left.job, "key")
    journal.hold(left)
    journal.close()

    with host.answering(cancel=lambda said: {"job_id": said["job_id"], "stop_reason": None}):
        listed = host.tell("jobs")[1]["jobs"]
        table = host.run("jobs")[1]
        code, out, _err = host.run("cancel", "feed")

    assert [(JOB_ID, "Running"), (left.job.id, None)] == [(job["job_id"], job["status"]) for job in listed]
    assert "waiting" in table
    assert (0, f"job {left.job.id} waits to be gone on with, and is ended then\n") == (code, out)


def test_where_nobody_looks_at_a_terminal_no_line_ends_in_blanks(host: Host) -> None:
    with host.answering():
        told = [host.run(*words)[1] for words in (["status"], ["jobs"], ["config", "show"], ["capabilities"])]

    lines = [line for text in told for line in text.splitlines()]
    assert len(lines) > 30
    assert [] == [line for line in lines if line != line.rstrip()]


def test_two_jobs_that_begin_alike_are_not_confused() -> None:
    from overmind_agent.control.commands import the_one

    with pytest.raises(Refusal, match="the beginning of 2 jobs"):
        the_one("5d", ["5d1", "5d2"])
    assert "5d" == the_one("5d", ["5d", "5d2"])
    with pytest.raises(Refusal):
        the_one("", ["5d"])


REPLIES: dict[tuple[str, ...], tuple[Mapping[str, Any], str]] = {
    ("pause",): (
        {"paused_at": "2026-11-22T07:00:00.5+00:00"},
        "paused since 2026-11-22T07:00:00Z: no new job is taken",
    ),
    ("resume",): ({"was_paused": True}, "takes jobs again"),
    ("drain",): ({"jobs": 2}, "draining: no new job; it ends when the present ones have (2 now)"),
    ("reload",): (
        {"applied": ["agent.slots"], "needs_restart": ["agent.name"]},
        "in force: agent.slots; after a restart: agent.name",
    ),
    ("outbox", "retry", "--all"): ({"retried": 2}, "2 to be sent once more"),
}


@pytest.mark.parametrize("words", REPLIES, ids=" ".join)
def test_what_was_done_is_said_in_one_line(host: Host, words: tuple[str, ...]) -> None:
    answer, expected = REPLIES[words]

    with host.answering(**{words[-1].replace("--all", "retry"): lambda _said: answer}):
        assert (0, f"{expected}\n", "") == host.run(*words)
        assert (0, answer) == host.tell(*words)


def test_a_configuration_that_is_refused_is_78_with_every_problem(host: Host) -> None:
    def refuse(_said: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Refusal("config_refused", "the configuration is wrong", ["one", f"two {EVIL}"])

    with host.answering(reload=refuse):
        code, out, err = host.run("reload")

    assert (78, "") == (code, out)
    assert f"overmind-agent: one\novermind-agent: two {SHOWN}\n" == err


# ------------------------------------------------------------------------------------ logs


def test_the_log_of_a_job_is_shown_without_its_secrets_and_escapes(host: Host) -> None:
    folder = host.state / "jobs" / JOB_ID
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(f"one {EVIL}!\nkey {SECRET}\nlast \N{BUG}\n".encode())

    whole = host.run("logs", JOB_ID[:4])
    tail = host.run("logs", "-n", "1", JOB_ID)

    assert (0, f"one {SHOWN}!\nkey {'*' * len(SECRET)}\nlast \N{BUG}\n", "") == whole
    assert (0, "last \N{BUG}\n", "") == tail


def test_the_last_lines_of_a_log_are_lines_whatever_a_job_writes_into_them(host: Host) -> None:
    folder = host.state / "jobs" / JOB_ID
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes("one\ntwo\x0b\x0c\u2028\r!\nthree".encode())

    tail = host.run("logs", "-n", "2", JOB_ID)
    whole = host.run("logs", "-n", str(1 << 70), JOB_ID)

    assert (0, "two\\x0b\\x0c\\u2028\\r!\nthree", "") == tail
    assert (0, f"one\n{tail[1]}", "") == whole


@pytest.mark.parametrize("words", [[], ["-n", "3"]], ids=["all", "tail"])
def test_of_a_job_that_has_written_nothing_that_is_said(host: Host, words: list[str]) -> None:
    (host.state / "jobs" / JOB_ID).mkdir(parents=True)

    code, out, err = host.run("logs", *words, JOB_ID)

    assert (0, "", f"overmind-agent: job {JOB_ID} has written nothing yet\n") == (code, out, err)


@pytest.mark.parametrize("place", ["/dev/null", f"/{'long' * 2000}"])
def test_a_state_folder_that_can_be_none_is_no_bug(host: Host, place: str) -> None:
    code, out, err = host.run("logs", JOB_ID, "--state-dir", place)

    assert (1, "") == (code, out)
    assert err.startswith("overmind-agent: ")


def test_a_state_folder_whose_name_holds_a_nul_is_none(host: Host) -> None:
    host.config.write_text('[agent]\nstate_dir = "a\\u0000b"\n')

    assert state_dir(config=host.config, environ={}) == state_dir(config=host.folder / "none", environ={})


def test_a_terminal_without_a_letter_gets_its_number(host: Host) -> None:
    folder = host.state / "jobs" / JOB_ID
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes("größer 漢\n".encode())

    said = subprocess.run(
        [sys.executable, "-m", "overmind_agent", "logs", JOB_ID, "--config", str(host.config)],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )

    assert (0, "größer \\u6f22\n".encode("latin-1"), b"") == (said.returncode, said.stdout, said.stderr)


def test_a_log_that_the_job_has_put_a_link_in_the_place_of_is_not_followed(host: Host) -> None:
    folder = host.state / "jobs" / JOB_ID
    folder.mkdir(parents=True)
    (folder / "log.txt").symlink_to(host.folder / "token")

    code, out, err = host.run("logs", JOB_ID)

    assert (1, "") == (code, out)
    assert "cannot be read" in err


# ------------------------------------------------------------------------------------ the configuration


def test_every_key_is_shown_with_its_origin_and_no_secret(host: Host) -> None:
    code, told = host.tell("config", "show", "--origin")

    rows = {row["key"]: (row["value"], row["origin"]) for row in told["keys"]}
    assert (0, str(host.config)) == (code, told["file"])
    assert ("2", f"{host.config}:8") == rows["agent.slots"]
    assert ("20", "default") == rows["control_plane.poll_wait_s"]
    assert ("**********", f"{host.config}:5") == rows["control_plane.proxy"]
    assert "hunter22" not in host.run("config", "show")[1]


def test_a_key_is_found_on_its_line_and_never_on_a_wrong_one(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('# slots = 1\n[agent] # ours\nslots = 2\nweights = [\n"a=1",\n]\n[models.local]\nmodel="x"\n')

    assert {"agent.slots": 3, "agent.weights": 4, "models.local.model": 8} == lines_of(path)
    assert {} == lines_of(tmp_path / "missing")


def test_a_wrong_configuration_is_78_and_names_every_problem(host: Host) -> None:
    good = host.run("config", "check")
    host.config.write_text(CONFIG.replace("slots = 2", "slots = 0\nslot = 1"))

    code, out, err = host.run("config", "check")

    assert (0, "the configuration is complete\n") == good[:2]
    assert (78, "") == (code, out)
    assert 2 == len(err.splitlines())
    assert (78, 2) == (lambda code, told: (code, len(told["problems"])))(*host.tell("config", "check"))


def test_a_host_says_what_it_offers(host: Host) -> None:
    code, told = host.tell("capabilities")

    assert (0, ["gpu"], 2) == (code, told["labels"], told["slots"])
    assert "inference" in told["job_types"]
    assert 0 < told["memory_bytes"]


# ------------------------------------------------------------------------------------ the grammar

WRONG = [
    ["cancel"],
    ["run", "--bogus"],
    ["run", "--job", ""],
    ["run", "--wait", "3"],
    ["outbox", "retry"],
    ["logs"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage_is_64_and_shows_the_usage_of_that_command(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)

    command = " ".join(words[: 2 if words[0] == "outbox" else 1])
    said = capsys.readouterr().err
    assert 64 == caught.value.code
    assert said.startswith(f"usage: overmind-agent {command} ")


COMMANDS = ("run", "check", "health", "status", "jobs", "logs", "pause", "resume", "drain", "cancel", "reload")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["completion", shell])

    script = capsys.readouterr().out
    assert 0 == code
    assert [] == [name for name in (*COMMANDS, "outbox", "capabilities", "config") if name not in script]


def test_bash_takes_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["completion", "bash"])
    bash = shutil.which("bash")
    assert bash is not None, "install bash"

    # What bash would offer after `overmind-agent outbox `.
    ask = "COMP_WORDS=(overmind-agent outbox ''); COMP_CWORD=2; _shtab_overmind_agent; echo ${COMPREPLY[*]}"
    script = f"{capsys.readouterr().out}\n{ask}"
    ended = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=20, check=True)

    assert {"list", "retry"} <= set(ended.stdout.split())


@pytest.mark.parametrize("words", [("version",), ("completion", "bash"), ("check", "--json")])
def test_what_nobody_reads_to_its_end_is_no_bug(words: tuple[str, ...], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "overmind_agent.cli", *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)

    assert (141, "") == (ended.returncode, ended.stderr)
