"""Tables and words for people: in 80 columns, and nothing that a stranger wrote reaches the terminal raw."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from overmind_agent.control.plain_text import one_line

WIDE: Final = 200  # where nobody's terminal sets a limit
SHORT_ID: Final = 8
_SPANS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def span(seconds: float | None) -> str:
    """`2 h 3 min`: the two largest units of it; empty for None."""
    if seconds is None:
        return ""
    left = max(0.0, seconds)
    words: list[str] = []
    for size, unit in _SPANS:
        if left >= size or (unit == "s" and not words):
            words.append(f"{int(left // size)} {unit}")
            left %= size
        elif words:
            break
    return " ".join(words[:2])


def how_far(job: Mapping[str, Any]) -> str:
    """`3/10 rows`, empty before the job's first word."""
    if job.get("step") is None:
        return ""
    return f"{job['step']}/{job['total_steps']} {job['step_name'] or ''}".strip()


def lines_of(view: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What `status` says of a running agent, as pairs of a word and what it says."""
    contact, outbox = view["contact"], view["outbox"]
    yield "agent", f"{view['name']} ({contact['agent_id'] or 'not registered yet'})"
    yield "process", f"{view['pid']}, version {view['version']}, up for {span(view['uptime_s'])}"
    yield "takes jobs", _takes_jobs(view)
    yield "control plane", f"{contact['url']}, {_contact(contact)}"
    if expires_at := contact.get("token_expires_at"):  # a daemon that began before an update does not say it
        yield "token", f"expires at {expires_at[:19]}Z"
    yield "slots", f"{view['slots'] - view['free_slots']} of {view['slots']} in use"
    oldest = f", the oldest for {span(outbox['oldest_s'])}" if outbox["oldest_s"] is not None else ""
    parked = f"; {outbox['parked']} parked: see overmind-agent outbox list" if outbox["parked"] else ""
    yield "outbox", f"{outbox['waiting']} waiting{oldest}{parked}"
    late = [loop["name"] for loop in view["loops"] if loop["is_running"] and loop["left_s"] < 0]
    yield "loops", f"standing still: {', '.join(late)}" if late else "all turn"


def _takes_jobs(view: Mapping[str, Any]) -> str:
    if view["is_draining"]:
        return "no: it drains, and ends with its present jobs"
    if view["paused_at"]:
        return f"no: paused since {view['paused_at'][:19]}Z; overmind-agent resume ends that"
    if view["disk_refusal"]:
        return f"no: {view['disk_refusal']}"
    return "yes" if view["contact"]["is_registered"] else "not yet: it is not registered"


def _contact(contact: Mapping[str, Any]) -> str:
    answered = contact["answered_s"]
    last = "has not answered yet" if answered is None else f"answered {span(answered)} ago"
    return f"{last}; now: {contact['trouble']}" if contact["trouble"] else last


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Words on the left, what they say on the right, folded where the terminal ends."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for word, says in rows:
        table.add_row(word, _text(says))
    put(table)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, folded: Sequence[str] = ()) -> None:
    """
    A table with a head.

    Args:
        folded: the columns that give way where the terminal is too narrow.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column not in folded, overflow="fold")
    for row in rows:
        made.add_row(*(_text("" if cell is None else cell) for cell in row))
    put(made)


def _text(said: object) -> Any:
    from rich.text import Text

    return Text(one_line(said))


def put(what: Any) -> None:
    """Print a table of rich's: as wide as the terminal; elsewhere no line ends in blanks."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(file=sys.stdout).print(what)
        return
    made = io.StringIO()
    Console(file=made, width=WIDE).print(what)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in made.getvalue().splitlines())
