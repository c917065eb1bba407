"""
Logging: one line an event, JSON for machines, coloured for people, the same for our events and the libraries'.

A line is written whole, or ends where its reader stopped reading; and a stream that does not take it never stops
the work: the lines that were lost are counted, and the next one that gets through is preceded by their number.
What is an error's repetition is said once a minute (`repeats`). In systemd's journal each line has its level.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from overmind_config import host
from overmind_config.redaction import Redactor
from overmind_config.repeats import Repeats

OURS: Final = "overmind"
_JSON: Final = structlog.processors.JSONRenderer()

Listener = Callable[[str, EventDict], object]
"""Hears the level and the keys of each event; what it adds to them goes into the line."""


class Logs:
    """
    The logging of this process, as `configure` set it up.

    Attributes:
        redactor: `redactor.add` masks a key that came later.
    """

    def __init__(
        self, handler: LineHandler, redactor: Redactor, threshold: _Threshold, listeners: list[Listener]
    ) -> None:
        self._handler = handler
        self._threshold = threshold
        self._listeners = listeners
        self.redactor = redactor

    def listen(self, listener: Listener) -> None:
        """Let *listener* hear all events of ours from now on, those too that are too low to be shown."""
        self._listeners.append(listener)

    @property
    def lost_lines(self) -> int:
        """How many lines the stream did not take, since the start."""
        return self._handler.lost_lines

    def recent(self) -> list[str]:
        """The last lines as they were written, secrets masked, each cut off where it is long."""
        return list(self._handler.recent)

    def tell_repeats(self) -> None:
        """Say what was held back, as far as its minute is over. To be called now and then, from any thread."""
        self._handler.tell_repeats()

    def set_level(self, level: str) -> None:
        """The lowest level of our own events, from now on."""
        self._threshold.set(level)

    def close(self) -> None:
        """Take the set-up back; what was held back is said before that."""
        self._handler.tell_repeats(is_end=True)
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger(OURS).removeHandler(self._handler)
        structlog.reset_defaults()


def configure(
    stream: TextIO | None,
    *,
    level: str = "info",
    style: str = "auto",
    secrets: Iterable[str] = (),
    bound: dict[str, Any] | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> Logs:
    """
    Set up logging for this process; a later call takes the place of an earlier one.

    Args:
        stream: standard output for a daemon, standard error for a command whose result goes to standard output.
            None, which is what Python makes of a stream that was closed before the start, discards all.
        level: the lowest level of our own events; other libraries speak from warning on.
        style: `json`, `pretty`, or `auto`: pretty on a terminal.
        secrets: masked wherever they appear.
        bound: goes into every line that a machine reads, such as `agent` and `agent_version`.
        now_s: by which a minute is measured.
    """
    redactor = Redactor(secrets)
    is_terminal = stream is not None and stream.isatty()
    is_pretty = style == "pretty" or (style == "auto" and is_terminal)
    handler = LineHandler(stream, Repeats(now_s), is_journal=host.is_journal(stream))
    known = bound or {}
    render = _pretty(is_terminal, known) if is_pretty else [_JSON]
    handler.setFormatter(_formatter(redactor, known, *render))
    listeners: list[Listener] = []
    threshold = _Threshold(level)
    _install(handler, threshold, listeners)
    return Logs(handler, redactor, threshold, listeners)


def _install(handler: LineHandler, threshold: _Threshold, listeners: Sequence[Listener]) -> None:
    for name, lowest in ((None, logging.WARNING), (OURS, logging.DEBUG)):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, LineHandler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(lowest)
    logging.getLogger(OURS).propagate = False
    for name in ("apscheduler", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _heard_by(listeners),
            threshold,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: logging.getLogger(OURS),
        cache_logger_on_first_use=False,
    )


def _heard_by(listeners: Sequence[Listener]) -> Processor:
    def tell(_: WrappedLogger, level: str, event: EventDict) -> EventDict:
        for listener in listeners:
            try:
                listener(level, event)
            except Exception:  # a figure is not worth a job
                event["unheard"] = True
        return event

    return tell


class _Threshold:
    """A step that drops what is below a level, which may change while loggers are about."""

    def __init__(self, level: str) -> None:
        self._levels = logging.getLevelNamesMapping()
        self.set(level)

    def set(self, level: str) -> None:
        """The lowest level that passes from now on."""
        self._lowest = self._levels[level.upper()]

    def __call__(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if self._levels[level.upper()] < self._lowest:
            raise structlog.DropEvent
        return event


def _formatter(redactor: Redactor, bound: dict[str, Any], *render: Processor) -> logging.Formatter:
    def bind(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
        return {**first, **bound, **event}

    def name_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        record = event["_record"]
        return event if record.name == OURS else {**event, "logger": record.name}

    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return redactor.value(event)  # type: ignore[no-any-return]  # a mapping as it was

    steps: Sequence[Processor] = [
        name_library,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        bind,
        redact,
        *render,
    ]
    return structlog.stdlib.ProcessorFormatter(processors=steps, keep_exc_info=False)


def _pretty(colors: bool, bound: Container[str]) -> Sequence[Processor]:
    """For people: the time of day, and only what the line is about."""

    def shorten(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        time_of_day = str(event["timestamp"])[11:19]
        kept = {name: value for name, value in event.items() if name not in bound and value is not None}
        return {**kept, "timestamp": time_of_day}

    # The usual formatter of tracebacks prints local variables, and they hold tokens and rows.
    return shorten, structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=20, exception_formatter=structlog.dev.plain_traceback
    )


# What is kept for whoever asks the daemon what was last, half a MiB at most.
RECENT_LINES: Final = 250
RECENT_CHARS: Final = 2000
# As sd-daemon(3) has them.
_PRIORITY: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
READER_S: Final = 1.0
"""How long a line waits for whoever reads the log."""


class LineHandler(logging.Handler):
    """
    Writes one line for each record and survives whatever the stream does.

    A terminal is written to through its stream, so that a progress bar that has taken it over can move out of
    the way. Anything else is written to past Python's buffers: what a full disk refused must not stay in them
    and fail again when the process ends. A reader that does not read, such as a log collector that hangs, is
    waited for once and then not any more, until it reads again: a heartbeat must not wait for a log line.

    Args:
        repeats: holds back what is said too often.
        is_journal: whether systemd's journal reads the stream, and wants each line's level before it.
    """

    def __init__(self, stream: TextIO | None, repeats: Repeats | None = None, *, is_journal: bool = False) -> None:
        super().__init__()
        self._stream = stream
        self._repeats = repeats or Repeats()
        self._is_journal = is_journal
        self.lost_lines = 0
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)
        self._unreported = 0
        self._patience_s = READER_S
        self._is_cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, hold it back, or count it."""
        for said in self._repeats.said_of(record):
            self._say(said)

    def tell_repeats(self, *, is_end: bool = False) -> None:
        """Write what was held back for a minute; all that was at the end."""
        with self._alone():
            for said in self._repeats.due(is_end=is_end):
                self._say(said)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _say(self, record: logging.LogRecord) -> None:
        try:
            if self._unreported:
                self._write(self._line(self._loss()))
                self._unreported = 0
            self._write(self._line(record, keeps=True))
        except Exception:  # whatever it is, a log line is not worth a job
            self.lost_lines += 1
            self._unreported += 1

    def _line(self, record: logging.LogRecord, *, keeps: bool = False) -> str:
        text = self.format(record)
        if keeps:  # also where nobody takes it: then it is asked for all the more
            self.recent.append(text[:RECENT_CHARS])
        if not self._is_journal:
            return text
        return "\n".join(f"<{_PRIORITY.get(record.levelno, 6)}>{line}" for line in text.splitlines())

    def _loss(self) -> logging.LogRecord:
        message = f"{self._unreported} log lines were lost"
        return logging.LogRecord("overmind_config.logs", logging.WARNING, __file__, 0, message, None, None)

    def _write(self, line: str) -> None:
        stream = self._current()
        if stream is None:
            return
        descriptor = None if stream.isatty() else _descriptor(stream)
        if descriptor is None:
            stream.write(line + "\n")
            stream.flush()
            return
        start = "\n" if self._is_cut else ""
        waiting = memoryview(f"{start}{line}\n".encode("utf-8", "backslashreplace"))
        while waiting:
            self._wait_for_room(descriptor)
            waiting = waiting[os.write(descriptor, waiting[: select.PIPE_BUF]) :]
            self._is_cut = bool(waiting)

    def _wait_for_room(self, descriptor: int) -> None:
        """
        Raises:
            TimeoutError: nobody makes room for PIPE_BUF bytes, so that a write would wait for ever.
        """
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        is_free = bool(poll.poll(self._patience_s * 1000))
        self._patience_s = READER_S if is_free else 0.0
        if not is_free:
            raise TimeoutError

    def _current(self) -> TextIO | None:
        """The stream itself, or what stands in its place while a progress bar is drawn."""
        now = {id(sys.__stdout__): sys.stdout, id(sys.__stderr__): sys.stderr}
        return now.get(id(self._stream), self._stream) if self._stream is not None else None


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError, ValueError):
        return None
