"""What the docs have a reader type is typed, and prints what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from doc_pages import PAGES, ROOT, Step, differs, steps
from doc_session import Session

# The beginning of a command that is not run, and why.
NOT_RUN: Final = {
    "make demo": "takes a minute and the weights of a language model; run by hand",
    "pip install": "installs from an index; the packages are there",
    "overmind-agent run  ": "never ends; on another page it runs behind the others",
    "export OVERMIND_DATABASE_URL": "a PostgreSQL server; tests/controlplane has one",
    "overmind-control-plane serve --data /srv/overmind": "the same",
    "python3 -m venv /opt": "root, and an index of packages",
    "install -m": "root's folders",
    "systemd-sysusers": "root, and a running systemd; tests/packaging asks its tools",
    "runuser": "root",
    "apt-get install": "root, and an index of packages",
    "/opt/overmind-agent/bin/pip install docs/examples": "root; tests/acceptance installs it elsewhere",
    "overmind-control-plane job submit --type @overmind:word_count": "the same",
    "docker ": "a container engine",
    "OVERMIND_API_URL=https://overmind.example docker": "the same",
    "kubectl ": "a cluster; tests/packaging reads the manifest",
}
# What stands in a page for something of the reader's own.
STANDS_FOR: Final = {
    "https://llm.example/v1": "http://127.0.0.1:8471/v1",
    "https://overmind.example": "http://127.0.0.1:8470",
    "ovr_…": "$(cat ready.token)",
    "--wait 60": "--wait 0",  # nobody has a job for it
    "cancel ebb1602c": "cancel $(overmind-agent jobs --json | jq -r '.jobs[1].job_id[:8]')",
}
# What a page's reader has beforehand, since other pages told so.
_A_CONTROL_PLANE: Final = (
    "overmind-control-plane project create ready --data ./ready",
    "(umask 077; overmind-control-plane token create --data ./ready --project ready --role agent > ready.token)",
    "overmind-control-plane serve --data ./ready",
    "export OVERMIND_AGENT_AGENT__STATE_DIR=$PWD/state",
)
# Its program ends with the job: the page kills the agent, and no other one starts that would look for what is left.
_A_HOST_AT_WORK: Final = """
[control_plane]
token_file = "ready.token"
[agent]
name = "host-1"
slots = 3
[sandbox]
use = "off"
[functions.commands]
slow = ["/bin/sh", "-c", "while kill -0 $PPID; do sleep 1; done"]
"""
_NO_NAMESPACES: Final = """#!/bin/sh
echo "bwrap: No permissions to create new namespace, likely because the kernel does not allow them." >&2
exit 1
"""
_A_LONG_JOB: Final = '{"items": [{"id": "1", "input": "x"}], "target": {"kind": "command", "command": "slow"}}'
BEFOREHAND: Final = {
    "README": _A_CONTROL_PLANE,
    "operating": (
        *_A_CONTROL_PLANE,
        "overmind-local-model",
        "export OVERMIND_API_URL=http://127.0.0.1:8470 OVERMIND_API_KEY=$(cat ready.token)",
        "export OVERMIND_AGENT_MODELS__LOCAL__BASE_URL=http://127.0.0.1:8471/v1",
        "export OVERMIND_AGENT_MODELS__LOCAL__MODEL=smollm2",
    ),
    "sandbox": (  # a kernel that forbids it, in bubblewrap's own words
        f"printf '%s' '{_NO_NAMESPACES}' > bwrap && chmod +x bwrap && export PATH=$PWD:$PATH",
        "export OVERMIND_API_URL=http://127.0.0.1:8470 OVERMIND_API_KEY=ovr_nobody",
        "export OVERMIND_AGENT_AGENT__STATE_DIR=$PWD/state",
        "export OVERMIND_AGENT_FUNCTIONS__CODE_ROOTS=$PWD",
    ),
    "commands": (
        *_A_CONTROL_PLANE,
        "export OVERMIND_API_URL=http://127.0.0.1:8470",
        "overmind-control-plane token create --data ./ready --project ready --role submit > submit.token",
        "chmod 600 submit.token",
        f"printf '%s' '{_A_HOST_AT_WORK}' > agent.toml; printf '%s' '{_A_LONG_JOB}' > job.json",
        "export OVERMIND_AGENT_CONFIG=$PWD/agent.toml",
        "(overmind-agent run > run.log 2>&1 &)",
        *["overmind-control-plane job submit --token-file submit.token --type inference --parameters job.json"] * 2,
        "until test $(grep -c job.started run.log) = 2; do sleep 0.05; done",
    ),
}
# They are started behind the others, also where a page leaves its shell to them.
SERVERS: Final = ("overmind-control-plane serve", "overmind-local-model")


def _reason_not_to_run(command: str) -> str | None:
    found = (reason for beginning, reason in NOT_RUN.items() if f"{command} ".startswith(beginning))
    return next(found, None)


def _to_do(page: Path) -> list[Step]:
    return [step for step in steps(page) if step.file or _reason_not_to_run(step.text) is None]


def _meant(text: str) -> str:
    for stand_in, real in STANDS_FOR.items():
        text = text.replace(stand_in, real)
    return text


def _type(session: Session, command: str) -> str:
    return session.serve(command) if command.startswith(SERVERS) else session.run(command)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not s.file for s in _to_do(page))], ids=lambda p: p.stem
)
# Under a load that makes everything ten times slower, too.
@pytest.mark.timeout(300)
def test_a_page_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        for command in BEFOREHAND.get(page.stem, ()):
            _type(session, command)
        for step in _to_do(page):
            where, text = f"{page.relative_to(ROOT)}:{step.line}", _meant(step.text)
            if step.file:
                session.write(step.file, text)
                continue
            printed = _type(session, text)
            if step.shown or (step.shown is not None and not text.startswith(SERVERS)):
                assert "" == differs(step.shown, printed), f"{where}: {step.text}"


def test_what_is_not_run_stands_in_some_page() -> None:
    shown = [step.text for page in PAGES for step in steps(page) if not step.file]

    assert [] == [beginning for beginning in NOT_RUN if not any(f"{text} ".startswith(beginning) for text in shown)]


def test_what_a_page_shows_may_differ_in_what_varies_and_in_nothing_else() -> None:
    shown = 'ok {"id":"5d1b1f3a-0000-4000-8000-000000000000","n":3,"s":"done"}\n…\nlast … one'

    assert "" == differs(
        shown, 'ok {"id":"6d1b1f3a-0000-4000-8000-00000000000f","n":-7.5,"s":"done"}\na\nb\nlast 2 one'
    )
    assert "" != differs(shown, shown.replace("done", "failed"))
    assert "" != differs(shown, shown + "\nmore")
    assert "" != differs(shown, re.sub(r'"n":3,', "", shown))
