"""
Do the tests bite? Takes one thing away at a time that the project promises, and sees whether the tests notice.

    python tests/bite.py            every defect
    python tests/bite.py fence …    those

Each defect is a text in a file that is replaced by another, in a copy of the sources; the tests named beside it
are run against the copy. A defect that no test sees is a hole, and the exit code is 1. A text that is not found
any more is one, too: the defect has to be written anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("agent", "executors", "config", "controlplane")
COPIED = (*SOURCES, "tests", "pyproject.toml")
LIMIT_S = 300


@dataclass(frozen=True)
class Defect:
    """What is taken away: in *file*, *old* becomes *new*; *tests* must notice."""

    name: str
    means: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


JOBS = "controlplane/overmind_controlplane/jobs"
BOARD = f"{JOBS}/board.py"
PAGE = "controlplane/overmind_controlplane/page"
MACHINE = "tests/stateful/test_board_machine.py"
AGENT_MACHINE = "tests/stateful/test_agent_machine.py"

DEFECTS = (
    Defect(
        "fence",
        "a word of an older attempt is taken in",
        BOARD,
        "if word.attempt is not None and word.attempt != job.attempt:",
        "if False:",
        (MACHINE, "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "holder",
        "a word of an agent that does not hold the job is taken in",
        BOARD,
        "if job.holder is None or word.agent_id not in (None, job.holder):",
        "if job.holder is None:",
        (MACHINE, "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "attempt-reset",
        "a release sets the attempts back",
        f"{JOBS}/moving.py",
        "        job.holder, job.is_leased, job.is_driven, job.lease_until = None, False, False, None\n",
        "        job.holder, job.is_leased, job.is_driven, job.lease_until = None, False, False, None\n"
        "        job.attempt = 0\n",
        (MACHINE,),
    ),
    Defect(
        "idempotency",
        "no key of a claim is kept",
        "controlplane/overmind_controlplane/record/idempotency.py",
        "    append(session, IdempotencyKey, granted)\n",
        "",
        (MACHINE, "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "life",
        "every status may follow every other",
        f"{JOBS}/steps.py",
        "return advance(present, to)",
        "return to",
        (MACHINE, "tests/controlplane/test_matrix.py"),
    ),
    Defect(
        "digest",
        "COMPLETED is taken though a declared file is missing",
        f"{JOBS}/results.py",
        "    if missing:\n",
        "    if False:\n",
        (MACHINE, "tests/controlplane/test_life.py"),
    ),
    Defect(
        "sequence",
        "a word may come out of order",
        f"{JOBS}/sequence.py",
        "if word.sequence is not None and word.sequence != expected:",
        "if False:",
        (MACHINE,),
    ),
    Defect(
        "journal-first",
        "the intention to claim is written after the claim",
        "agent/overmind_agent/worker.py",
        "        self._journal.intend(job, key)\n",
        "",
        (AGENT_MACHINE, "tests/unit/test_worker.py"),
    ),
    Defect(
        "new-key",
        "an interrupted claim is repeated under another key",
        "agent/overmind_agent/worker.py",
        "self._claim(*piece)",
        "self._claim(piece[0], str(uuid.uuid4()))",
        (AGENT_MACHINE, "tests/unit/test_worker.py"),
    ),
    Defect(
        "result-again",
        "work whose result is there is done again",
        "agent/overmind_agent/children/launcher.py",
        "if not has_ended(workspace):",
        "if True:",
        ("tests/unit/test_launcher.py",),
    ),
    Defect(
        "tree-kill",
        "what a job left behind is not looked for",
        "agent/overmind_agent/children/processes.py",
        "        strays = list(_strays(mark))\n",
        "        strays: list[int] = []\n",
        ("tests/unit/test_launcher.py",),
    ),
    Defect(
        "durable",
        "a commit of the journal does not wait for the disk",
        "agent/overmind_agent/journal/file.py",
        '"synchronous": 2',
        '"synchronous": 1',
        ("tests/unit/test_journal.py",),
    ),
    Defect(
        "told-first",
        "a status is told before it is on disk",
        "agent/overmind_agent/journal/outbox.py",
        "        if rows:\n            self._sync_what_is_told()\n",
        "",
        ("tests/unit/test_journal.py",),
    ),
    Defect(
        "lost-with-the-job",
        "an old claim that is given up takes the words of a later one with it",
        "agent/overmind_agent/journal/claims.py",
        "WHERE job_id = ? AND attempt = ? AND fate IS NULL",
        "WHERE job_id = ? AND ? AND fate IS NULL",
        ("tests/unit/test_worker.py",),
    ),
    Defect(
        "outbox-order",
        "the outbox is emptied from its end",
        "agent/overmind_agent/journal/outbox.py",
        "WHERE fate IS NULL ORDER BY position",
        "WHERE fate IS NULL ORDER BY position DESC",
        (AGENT_MACHINE, "tests/unit/test_journal.py", "tests/unit/test_delivery.py"),
    ),
    Defect(
        "wall-clock",
        "leases are measured with the clock on the wall",
        "controlplane/overmind_controlplane/record/stores.py",
        "clock_s: Callable[[], float] = time.monotonic",
        "clock_s: Callable[[], float] = time.time",
        ("tests/controlplane/test_leases.py", "tests/controlplane/test_housekeeping.py"),
    ),
    Defect(
        "fence-of-the-agent",
        "an agent works on when its lease has run out",
        "agent/overmind_agent/held_jobs.py",
        "if self._reason is None and self._clock.now_s() >= self._fenced_at_s:",
        "if False:",
        ("tests/unit/test_held_jobs.py",),
    ),
    Defect(
        "deadly",
        "a job that ends its agent again and again is gone on with",
        "agent/overmind_agent/host/deadly_jobs.py",
        "if ends[name] >= ENDS]",
        "if ends[name] < 0]",
        ("tests/unit/test_deadly_jobs.py",),
    ),
    Defect(
        "fence-at-the-end",
        "only the last word of an older attempt is refused",
        BOARD,
        "if word.attempt is not None and word.attempt != job.attempt:",
        "if word.attempt is not None and word.attempt != job.attempt and LIFECYCLE[word.status].is_final:",
        (MACHINE, "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "key-of-all",
        "the key of a claim belongs to no agent and no project",
        f"{JOBS}/claiming.py",
        'return f"{project_id}:{agent_id}:claim"',
        'return "claim"',
        (MACHINE, "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "said-too-soon",
        "a word is taken out of the outbox before it is sent",
        "agent/overmind_agent/delivery.py",
        "        try:\n            self._control_plane.report(replace(posted.update, enclosed=None))\n",
        "        self._outbox.delivered(posted)\n"
        "        try:\n            self._control_plane.report(replace(posted.update, enclosed=None))\n",
        ("tests/unit/test_delivery.py",),
    ),
    Defect(
        "still-is-alive",
        "a thread that does nothing is taken for one that works",
        "agent/overmind_agent/loops.py",
        "if self._has_worked() or waited_too_long_s <= 0:",
        "if True:",
        ("tests/unit/test_loops.py",),
    ),
    Defect(
        "beat-behind-work",
        "a heartbeat waits until nobody else speaks to the control plane",
        "agent/overmind_agent/over_http/calls.py",
        "    @contextmanager\n    def _within(self, total_s: float) -> Iterator[Deadline]:\n"
        "        self._on_wait(total_s)\n        with deadline(total_s) as limit:\n",
        "    _one = __import__('threading').Lock()\n\n"
        "    @contextmanager\n    def _within(self, total_s: float) -> Iterator[Deadline]:\n"
        "        self._on_wait(total_s)\n        with self._one, deadline(total_s) as limit:\n",
        ("tests/http/test_misbehaving_servers.py",),
    ),
    Defect(
        "ends-of-one-host",
        "how often a job ended its agents is counted by each agent alone",
        BOARD,
        "        if ends > job.ends_now:\n",
        "        if False:\n",
        ("tests/controlplane/test_leases.py",),
    ),
    Defect(
        "key-in-memory",
        "the key of a question for a job is not on disk before it is sent",
        "agent/overmind_agent/worker.py",
        "        key = self._journal.claim_key()\n",
        "        key = str(uuid.uuid4())\n",
        ("tests/unit/test_granted_questions.py",),
    ),
    Defect(
        "key-of-the-begun",
        "the key of a question gives its grant though a word about that has come",
        "controlplane/overmind_controlplane/jobs/asking.py",
        "if job is not None and is_fresh(job, ask.agent_id, before.attempt):",
        "if job is not None:",
        ("tests/contract/test_control_plane.py", "tests/controlplane/test_claims.py"),
    ),
    Defect(
        "refused-with-its-files",
        "a last word that is refused with its files is not said again without them",
        "agent/overmind_agent/delivery.py",
        "self._send(posted) if is_apart else why",
        "why",
        ("tests/unit/test_enclosed_files.py",),
    ),
    Defect(
        "changed-since",
        "a file that goes with the last word is not looked at before that is written down",
        "agent/overmind_agent/job_run.py",
        "            check_unchanged(file)\n",
        "            pass\n",
        ("tests/unit/test_enclosed_files.py",),
    ),
    Defect(
        "word-before-its-files",
        "whether all declared files are there is looked at before those that come with the word are added",
        BOARD,
        "        added = results.add_artifacts(session, caller, job, word)\n"
        "        results.must_be_there(session, job, word, added)\n",
        "        results.must_be_there(session, job, word, frozenset())\n"
        "        results.add_artifacts(session, caller, job, word)\n",
        ("tests/contract/test_control_plane.py",),
    ),
    Defect(
        "page-escapes",
        "the page shows what a job brings as HTML",
        f"{PAGE}/rendering.py",
        "autoescape=True",
        "autoescape=False",
        ("tests/page/test_pages.py",),
    ),
    Defect(
        "page-policy",
        "the page lets scripts of its own text run",
        f"{PAGE}/rendering.py",
        "script-src 'self'; style-src 'self';",
        "script-src 'self' 'unsafe-inline'; style-src 'self';",
        ("tests/page/test_pages.py",),
    ),
    Defect(
        "page-visit",
        "a cookie that somebody made himself opens the page",
        f"{PAGE}/visits.py",
        "if not hmac.compare_digest(told, plane.signer.mac(_PURPOSE, token_id, expires)):",
        "if False:",
        ("tests/page/test_pages.py",),
    ),
    Defect(
        "page-other-site",
        "a form of another site begins a visit",
        f"{PAGE}/visits.py",
        'if site not in (None, "same-origin", "none") or (origin is not None and _host_of(origin) != host):',
        "if False:",
        ("tests/page/test_pages.py",),
    ),
)


def main(names: list[str]) -> int:
    """Try the defects of *names*, or all; returns the exit code."""
    holes = 0
    for defect in DEFECTS:
        if names and defect.name not in names:
            continue
        began_s = time.monotonic()
        seen = _who_sees(defect)
        holes += not seen
        caught = seen or "NOBODY"
        print(f"| {defect.name} | {defect.means} | {caught} | {time.monotonic() - began_s:.0f} s |", flush=True)  # noqa: T201
    return 1 if holes else 0


def _who_sees(defect: Defect) -> str:
    """The first test that fails; empty when all pass, or when the defect cannot be made."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        file = copy / defect.file
        text = file.read_text()
        if defect.old not in text:
            return ""
        file.write_text(text.replace(defect.old, defect.new, 1))
        path = os.pathsep.join(str(copy / name) for name in SOURCES)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--tb=no",
            "--no-shrink",
            *defect.tests,
        ]
        ended = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    found = re.search(r"^(?:FAILED|ERROR) \S*?([^/\s]+::\S+)", ended.stdout, re.MULTILINE)
    return f"`{found.group(1)}`" if ended.returncode == 1 and found else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
