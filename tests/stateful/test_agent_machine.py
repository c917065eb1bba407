"""
The rooms of the daemon over a control plane that lies, loses, cancels and gives away, on a clock that is told.

Whatever happens in whatever order, including `kill -9` in the midst of a call: no work whose result is there is
done again, what the server has is what was made, and once all is quiet every job ends and nothing waits to be said.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from trouble import KINDS, VERBS, Killed, Work, trouble

from daemon_parts import Daemon, FakeLauncher
from overmind_agent.errors import OvermindAgentError
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.testing import FakeServer, VirtualClock

LEASE_S = 60.0
ROUNDS = 60  # of quiet, until everything must have ended


class AgentMachine(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.clock = VirtualClock()
        self.server = FakeServer(self.clock, lease_s=LEASE_S)
        self.work = Work()
        self.daemon = Daemon(self.folder, self.server, self.clock, launcher=FakeLauncher(self.work))
        self.canceled: set[str] = set()

    @initialize(is_newest=st.booleans())
    def has_a_server(self, *, is_newest: bool) -> None:
        self.server.grants = self.server.takes_enclosed = is_newest

    # -------------------------------------------------------------------------- what others do

    @rule(target=jobs, has_input=st.booleans())
    def submit(self, has_input: bool) -> str:
        return self.server.submit("inference", {"a": 1}, input_bytes=b"rows" if has_input else None)

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if not LIFECYCLE[self.server.jobs[job_id].status].is_final:
            self.server.cancel(job_id)
            self.canceled.add(job_id)

    @rule(job_id=jobs)
    def expire(self, job_id: str) -> None:
        if LIFECYCLE[self.server.jobs[job_id].status].is_held:
            self.server.expire(job_id)

    @rule(
        verb=st.sampled_from(VERBS),
        kinds=st.lists(st.sampled_from(KINDS), max_size=3),
    )
    def script(self, verb: str, kinds: list[str]) -> None:
        self.server.script(verb, *(trouble(kind, verb) for kind in kinds))

    @rule()
    def kill_the_next_work(self) -> None:
        self.work.is_killed_next = True

    @rule(seconds=st.sampled_from([1, 20, 70]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # -------------------------------------------------------------------------- what the agent does

    @rule()
    def step(self) -> None:
        self._try(lambda: self.daemon.worker.step(wait_s=0))

    @rule()
    def deliver(self) -> None:
        self._try(lambda: self.daemon.delivery.deliver())

    @rule()
    def beat(self) -> None:
        self._try(lambda: self.daemon.heartbeat.beat())

    @rule()
    def restart(self) -> None:
        self.daemon = self.daemon.again()

    def _try(self, do: Any) -> None:
        try:
            do()
        except OvermindAgentError:
            return  # its slot would wait and try again
        except Killed:
            self.daemon = self.daemon.again()

    # -------------------------------------------------------------------------- what must hold

    @invariant()
    def work_is_done_once_unless_it_was_killed(self) -> None:
        assert {} == self.work.done_again()

    @invariant()
    def what_is_completed_has_what_was_made(self) -> None:
        for job_id, job in self.server.jobs.items():
            if job.status is Status.COMPLETED:
                assert [job_id.encode()] == list(job.files.values())

    @invariant()
    def no_job_is_failed(self) -> None:
        """Nothing that happens here is the job's fault."""
        assert [] == [job.updates[-1] for job in self.server.jobs.values() if job.status is Status.FAILED]

    def teardown(self) -> None:
        """All is quiet: everything ends."""
        self.server.calm()
        self.work.is_killed_next = False
        try:
            for _ in range(ROUNDS):
                self._try(lambda: self.daemon.worker.step(wait_s=0))
                self._try(lambda: self.daemon.delivery.deliver())
                self.clock.advance(7)
            left = {job.status for job in self.server.jobs.values()} - {Status.COMPLETED, Status.CANCELED}
            assert set() == left
            assert [] == list(self.daemon.journal.undelivered())
            assert [] == [*self.daemon.journal.held(), *self.daemon.journal.intended()]
            self.work_is_done_once_unless_it_was_killed()
            self.what_is_completed_has_what_was_made()
        finally:
            self.daemon.close()
            shutil.rmtree(self.folder)


@pytest.mark.timeout(900)
def test_an_agent_gets_every_job_to_its_end(examples: settings) -> None:
    try:
        run_state_machine_as_test(AgentMachine, settings=examples)
    finally:
        structlog.reset_defaults()
