"""What lies in the state folder: owned by this process, opened, and looked through for what the last life left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from overmind_agent.children import processes
from overmind_agent.errors import JournalError
from overmind_agent.files.workspace import DiskWorkspaces
from overmind_agent.host import room
from overmind_agent.host.admission import Admission
from overmind_agent.host.deadly_jobs import ended_in_order, give_up_what_ends_us, suspects
from overmind_agent.host.disk import Disk, Reserve
from overmind_agent.host.intake import Intake
from overmind_agent.host.last_life import give_up_what_is_too_late, look_back, note_alive, read_boot_id
from overmind_agent.host.state_folder import doubt_about, owning
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.logs.job_log import JobLog
from overmind_agent.standing import Standing


class State:
    """
    Attributes:
        intake: whether a person wants jobs to be taken.
        admission: whether any can be, for whatever reason.
        last_life: how the start before this one ended.
        ends: how often each job that is gone on with has ended its agent.
        suspects: those of them that are to be gone on with one by one.
        journal_fault: why the journal could not be written when it last was; None since it could be.
    """

    def __init__(self, standing: Standing, journal: SqliteJournal, reserve: Reserve) -> None:
        self._standing = standing
        folder, log = standing.settings.agent.state_dir, standing.log
        self._left: frozenset[str] = frozenset()
        self.journal = journal
        self.workspaces = DiskWorkspaces(folder / "jobs")
        self.workspaces.forget_temporary()
        self.disk = Disk(
            folder,
            min_free_bytes=standing.settings.agent.min_free_bytes,
            reserve=reserve,
            clean=lambda: self.sweep(journal.is_in_use),
            log=log,
        )
        self.disk.tend()
        self.intake = Intake(journal, log)
        self.admission = Admission({"paused": self.intake.refusal, "disk": self.disk.refusal})
        self.last_life = look_back(journal, datetime.now(UTC), read_boot_id())
        give_up_what_is_too_late(journal, self.last_life, log)
        self.ends = give_up_what_ends_us(journal, journal, self.last_life.ended_by, log)
        self.suspects = suspects(journal, journal)
        self.journal_fault: str | None = None

    def log_of(self, job_id: str) -> JobLog:
        """What the job wrote, masked."""
        return JobLog(self.workspaces.log(job_id), self._standing.outside.logs.redactor)

    def sweep(self, needed: Callable[[str], bool] | None = None) -> None:
        """Remove the folders of jobs that nobody needs, or of all that are not *needed*; say which cannot be."""
        left = frozenset(self.workspaces.sweep(needed or self.journal.is_needed, in_use=self.journal.is_in_use))
        if left - self._left:
            self._standing.log.warning("workspace.left", jobs=sorted(left), hint="remove these folders by hand")
        self._left = left

    def tend_disk(self) -> None:
        """Look how much room there is, and make some if need be."""
        self.disk.tend()
        self.admission.refusal()  # while all slots are busy nobody else asks

    def note_alive(self) -> None:
        """So that the next start knows when this one ended."""
        try:
            note_alive(self.journal)
        except JournalError as error:
            self.journal_fault = str(error)
            raise
        self.journal_fault = None


@contextmanager
def open_state(standing: Standing) -> Iterator[State]:
    """
    The state folder, until the block ends.

    Raises:
        ConfigError, JournalError, StateInUse: it cannot be used; the message says why.
    """
    folder, log = standing.settings.agent.state_dir, standing.log
    with owning(folder):
        if doubt := doubt_about(folder):
            log.warning("state.not_lasting", path=str(folder), file_system=doubt.kind, hint=doubt.hint)
        with using(folder):
            if why := room.too_little(folder, standing.settings):
                log.warning("disk.too_small", message=why, hint=room.HINT)
        if strangers := processes.end_strangers(f"{folder}#"):
            log.warning("agent.strangers_killed", processes=strangers)
        reserve = Reserve(folder / "reserve")
        with using(folder):
            journal = SqliteJournal(
                folder / "journal.sqlite",
                on_set_aside=lambda aside: log.error("journal.set_aside", path=str(aside)),
                make_room=reserve.give_up,
            )
        with closing(journal):
            with using(folder):
                state = State(standing, journal, reserve)
            try:
                yield state
            finally:
                ended_in_order(journal)


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """
    Raises:
        JournalError: something in the state folder cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise JournalError(f"the state folder {folder} cannot be used: {error}") from error
