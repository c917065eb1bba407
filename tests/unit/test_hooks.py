"""The host's commands round a job's work, with real processes: what each sees, and what becomes of the job."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from agent_parts import a_claim
from overmind_agent.children.hooks import HOOK_S, HURRIED_S, HookedLauncher
from overmind_agent.children.order import ChildSettings
from overmind_agent.configuration import checked
from overmind_agent.errors import ExecutorError, JobError, Stopped
from overmind_agent.files.workspace import DiskWorkspaces
from overmind_agent.jobs import Result, StopReason
from overmind_agent.ports import Clock, Workspace
from overmind_agent.testing import VirtualClock
from overmind_config.problems import SettingsError

DONE = Result((), {"done": True})
SHOW = (
    'echo "$OVERMIND_HOOK $OVERMIND_JOB_TYPE $OVERMIND_JOB_ID $OVERMIND_OUTCOME $ALLOWED $HOME $PWD ${TMPDIR-none}"'
)


class Hurried(VirtualClock):
    """Each look at it takes a third of what a hook has."""

    def now_s(self) -> float:
        """See Clock."""
        self.sleep(HOOK_S / 3)
        return super().now_s()


class Slow(VirtualClock):
    """Each look at it takes less than what a hook has when the daemon wants to end."""

    def now_s(self) -> float:
        """See Clock."""
        self.sleep(HURRIED_S * 0.6)
        return super().now_s()


@dataclass
class Work:
    """Fills the Launcher port: writes a line into the job's log, then does what *end* says."""

    end: Callable[[], Result] = lambda: DONE
    runs: int = 0

    def run(self, _claim: Any, _parameters: Any, workspace: Workspace, **_more: Any) -> Result:
        """See Launcher."""
        self.runs += 1
        with workspace.log.open("a") as log:
            log.write("work\n")
        return self.end()


@dataclass
class Host:
    """
    One with hooks, as words or as the text of a shell script.

    Attributes:
        told, warnings: what the job's log and the agent's have after a run.
    """

    folder: Path
    before: str | Sequence[str] = ()
    after: str | Sequence[str] = ()
    work: Work = field(default_factory=Work)
    clock: Clock = field(default_factory=VirtualClock)
    stop: StopReason | None = None
    is_hurried: Callable[[], bool] = lambda: False
    told: list[str] = field(default_factory=list)
    warnings: list[Any] = field(default_factory=list)

    def run(self, *, is_done: bool = False) -> Result:
        """Run a job's work."""
        launcher = HookedLauncher(
            self.work,
            before=_words(self.before),
            after=_words(self.after),
            settings=ChildSettings(
                models=[], data_roots=[], environment={"ALLOWED": "yes"}, grace_s=1, nice=0, owner=str(self.folder)
            ),
            is_hurried=self.is_hurried,
            clock=self.clock,
            log=structlog.get_logger(),
        )
        with capture_logs() as events, DiskWorkspaces(self.folder / "jobs").open(a_claim().job, None) as workspace:
            if is_done:
                workspace.result.write_text('{"outcome": {}, "files": []}')
            try:
                return launcher.run(
                    a_claim(),
                    {},
                    workspace,
                    on_progress=lambda _p: None,
                    on_iteration=lambda _i: None,
                    stop_reason=lambda: self.stop,
                )
            finally:
                self.told = workspace.log.read_text().splitlines() if workspace.log.exists() else []
                self.warnings = [line for line in events if line["event"] == "hook.failed"]


def _words(hook: str | Sequence[str]) -> Sequence[str]:
    return ("/bin/sh", "-c", hook) if isinstance(hook, str) else hook


def test_both_run_round_the_work_and_know_the_job_and_no_folder_of_its_own(tmp_path: Path) -> None:
    host = Host(tmp_path, before=SHOW, after=SHOW)

    result = host.run()

    about = f"{a_claim().job.job_type} {a_claim().job.id}"
    assert DONE is result
    assert [f"before {about}  yes / / none", "work", f"after {about} completed yes / / none"] == host.told
    assert [] == host.warnings


SICK = [
    ("exit 3", VirtualClock, "ended with 3"),
    ("kill -9 $$", VirtualClock, "ended with -9"),
    ("exec sleep 600", Hurried, "took longer than 30 s"),
    (["/no/such/program"], VirtualClock, "cannot be started: No such file or directory"),
]


@pytest.mark.parametrize(("hook", "clock", "why"), SICK)
def test_a_hook_before_that_does_not_go_well_fails_the_job_and_no_work_is_done(
    tmp_path: Path, hook: str | Sequence[str], clock: type[VirtualClock], why: str
) -> None:
    host = Host(tmp_path, before=hook, clock=clock())

    with pytest.raises(JobError) as failed:
        host.run()

    assert (f"this host's hook before a job {why}", "hook_failed") == (str(failed.value), failed.value.reason)
    assert 0 == host.work.runs


@pytest.mark.parametrize(("hook", "clock", "why"), SICK)
def test_a_hook_after_that_does_not_go_well_changes_nothing(
    tmp_path: Path, hook: str | Sequence[str], clock: type[VirtualClock], why: str
) -> None:
    host = Host(tmp_path, after=hook, clock=clock())

    assert DONE is host.run()
    assert [(why, "warning")] == [(line["error"], line["log_level"]) for line in host.warnings]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(ExecutorError("no luck"), "failed"), (Stopped(StopReason.USER_REQUEST), "stopped")],
)
def test_the_hook_after_runs_however_the_work_ended(tmp_path: Path, end: Exception, outcome: str) -> None:
    def fail() -> Result:
        raise end

    host = Host(tmp_path, after="echo $OVERMIND_OUTCOME", work=Work(fail))

    with pytest.raises(type(end)):
        host.run()

    assert ["work", outcome] == host.told


def test_the_hook_after_runs_though_the_one_before_has_failed(tmp_path: Path) -> None:
    host = Host(tmp_path, before="exit 1", after="echo $OVERMIND_OUTCOME")

    with pytest.raises(JobError):
        host.run()

    assert ["failed"] == host.told


def test_a_wish_to_stop_cuts_the_hook_before_off(tmp_path: Path) -> None:
    host = Host(tmp_path, before="exec sleep 600", stop=StopReason.USER_REQUEST)

    with pytest.raises(Stopped) as stopped:
        host.run()

    assert (StopReason.USER_REQUEST, 0) == (stopped.value.reason, host.work.runs)


def test_a_daemon_that_gives_its_jobs_back_waits_for_no_hook_after_them(tmp_path: Path) -> None:
    """Seen while the hook runs: two of its three looks at the clock are within what it still has."""
    looks = iter([False, True])
    host = Host(tmp_path, after="exec sleep 600", clock=Slow(), is_hurried=lambda: next(looks, True))

    assert DONE is host.run()
    assert ["was cut off"] == [line["error"] for line in host.warnings]


def test_a_hook_after_work_that_was_stopped_has_its_time(tmp_path: Path) -> None:
    """It cleans up: a job that was canceled, or is given back, needs that as well."""
    host = Host(tmp_path, after="echo after", stop=StopReason.USER_REQUEST, is_hurried=lambda: True)

    host.run()

    assert ["work", "after"] == host.told


def test_work_that_is_done_already_has_no_hook_before_it(tmp_path: Path) -> None:
    host = Host(tmp_path, before="echo before", after="echo after")

    host.run(is_done=True)

    assert ["work", "after"] == host.told


def test_what_a_hook_has_started_ends_with_it(tmp_path: Path) -> None:
    host = Host(tmp_path, before="sleep 600 & echo $!")

    host.run()

    try:
        descriptor = os.pidfd_open(int(host.told[0]))
    except ProcessLookupError:
        return
    ended, _, _ = select.select([descriptor], [], [], 10)  # it was killed, and may take a moment to die
    os.close(descriptor)
    assert ended


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ('["relative"]', "must begin with the full path of a program"),
        ('["/no/such"]', "/no/such is no file that can be run"),
        ('["{folder}/plain"]', "plain is no file that can be run"),
        ('["{folder}"]', "is no file that can be run"),
    ],
)
def test_a_hook_that_cannot_be_run_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, what: str
) -> None:
    monkeypatch.setenv("OVERMIND_API_URL", "https://plane.example")
    monkeypatch.setenv("OVERMIND_API_KEY", "ovr_test")
    config = tmp_path / "agent.toml"
    (tmp_path / "plain").write_text("")
    config.write_text(f"[hooks]\nbefore = {words.format(folder=tmp_path)}\n")

    with pytest.raises(SettingsError, match=what):
        checked.read({}, config)
