"""
The host's own commands before and after the work of a job: to mount what it needs, to look at a GPU, to clean up.

```
before   the input is there, no work has begun   fails or hangs: the job fails with hook_failed, no work is done
after    the work is over, no file is sent yet   fails or hangs: hook.failed in the log, and nothing else
```

A wish that the job end cuts a *before* off. An *after* is there for the time when the job has ended: it is cut
short only when the daemon gives its jobs back, to end itself.

The owner of the host names them, never a job; they run as the agent's user. Neither their home nor their working
folder is one that a job can write to. What they print is in the job's log, and what they start ends with them.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.children import processes
from overmind_agent.children.order import ChildSettings
from overmind_agent.children.result import has_ended
from overmind_agent.errors import JobError, Stopped
from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import Claim, Progress, Result, StopReason
from overmind_agent.logs import job_log
from overmind_agent.ports import Clock, Launcher, Workspace

HOOK_S: Final = 30.0
# What one *after* the work still gets when the daemon gives its jobs back: enough to unmount something.
HURRIED_S: Final = 2.0
TICK_S: Final = 0.1

StopAsked = Callable[[], StopReason | None]


class HookedLauncher:
    """
    Fills the Launcher port with another one, and two commands round each of its runs.

    Args:
        before, after: words of a command line; none for no hook.
        settings: what children get; hooks have the same variables, but for those of folders.
        is_hurried: whether the daemon gives its jobs back, and wants to end.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        before: Sequence[str],
        after: Sequence[str],
        settings: ChildSettings,
        is_hurried: Callable[[], bool],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._launcher = launcher
        self._before = before
        self._after = after
        self._settings = settings
        self._is_hurried = is_hurried
        self._clock = clock
        self._log = log

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        stop_reason: StopAsked,
    ) -> Result:
        """See Launcher. Work that an earlier start has done has no *before* any more, but an *after*."""
        outcome = "stopped"
        try:
            if self._before and not has_ended(workspace):
                self._begin(claim, workspace, stop_reason)
            result = self._launcher.run(
                claim,
                parameters,
                workspace,
                on_progress=on_progress,
                on_iteration=on_iteration,
                stop_reason=stop_reason,
            )
            outcome = "completed"
            return result
        except JobError:
            outcome = "failed"
            raise
        finally:
            self._end(claim, workspace, outcome)

    def _begin(self, claim: Claim, workspace: Workspace, stop_reason: StopAsked) -> None:
        why = self._done(self._before, claim, workspace, lambda: stop_reason() is not None, hook="before")
        if (reason := stop_reason()) is not None:
            raise Stopped(reason)
        if why is not None:
            raise JobError(f"this host's hook before a job {why}", reason="hook_failed")

    def _end(self, claim: Claim, workspace: Workspace, outcome: str) -> None:
        if not self._after:
            return
        why = self._done(self._after, claim, workspace, self._hurry(), hook="after", outcome=outcome)
        if why is not None:
            self._log.warning("hook.failed", job_id=claim.job.id, error=why)

    def _hurry(self) -> Callable[[], bool]:
        """Whether HURRIED_S are over since the daemon was first seen to want to end."""
        ends_at_s = math.inf

        def is_over() -> bool:
            nonlocal ends_at_s
            now_s = self._clock.now_s()
            if self._is_hurried():
                ends_at_s = min(ends_at_s, now_s + HURRIED_S)
            return now_s >= ends_at_s

        return is_over

    def _done(
        self, words: Sequence[str], claim: Claim, workspace: Workspace, is_cut: Callable[[], bool], **facts: str
    ) -> str | None:
        """Run one to its end; why it did not go well, None when it did."""
        environment = self._settings.environment_of(claim, workspace, self._mark(claim))
        environment |= {f"OVERMIND_{name.upper()}": value for name, value in facts.items()}
        environment |= {"HOME": "/", "OVERMIND_JOB_TYPE": claim.job.job_type}
        del environment["TMPDIR"]
        with processes.marked(environment[processes.MARK]):
            why, code = self._carried_out(words, environment, workspace, is_cut)
        return why or (f"ended with {code}" if code else None)

    def _carried_out(
        self, words: Sequence[str], environment: Mapping[str, str], workspace: Workspace, is_cut: Callable[[], bool]
    ) -> tuple[str | None, int | None]:
        """Why it was not run to its end, None when it was; and its exit code."""
        try:
            with open_plain(workspace.log, append=True) as log:
                process = processes.start(
                    words,
                    cwd="/",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            return f"cannot be started: {getattr(error, 'strerror', None) or error}", None
        try:
            why = self._watched(process, workspace, is_cut)
        finally:
            processes.end_tree(process, environment[processes.MARK], pause=self._clock.sleep)
        return why, process.returncode

    def _watched(self, process: processes.Process, workspace: Workspace, is_cut: Callable[[], bool]) -> str | None:
        """Until it has ended, which is for others to wait for; why it must not go on, None when it has ended."""
        ends_at_s = self._clock.now_s() + HOOK_S
        while not processes.has_ended(process, within_s=TICK_S):
            job_log.trim(workspace.log)
            if is_cut():
                return "was cut off"
            if self._clock.now_s() >= ends_at_s:
                return f"took longer than {HOOK_S:g} s"
        return None

    def _mark(self, claim: Claim) -> str:
        return f"{self._settings.owner}#{claim.job.id}/{claim.attempt}/hook"
