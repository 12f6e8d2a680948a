"""The log: one line per decision and per exchange, to stderr, as JSON or for people.

The loop never waits for a terminal or a pipe: records go through a queue to a thread that
redacts, formats and writes them. A reader that is stuck costs lines, not requests; one that
is gone costs nothing at all. Header values, keys and queries never come this far, and what
a client chose (its path) is escaped before it is written.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

import orjson

from launcher.core.effects import Abort, Decided, Deed, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.decisions import sentence
from launcher.facts import Fact, Granted, StartBegan, StartEnded, StopBegan, StopEnded, StopStuck
from launcher.printable import printable, seconds
from launcher.proxy.record import ExchangeRecord

LogFormat = Literal["auto", "json", "human"]
LogLevel = Literal["debug", "info", "warning", "error"]
Redact = Callable[[str], str]
Fields = dict[str, object]

#: Records waiting for a slow reader; those beyond it are counted and dropped.
MAX_WAITING = 10_000
#: Seconds that the end of the process waits for the last lines to be written.
FLUSH_TIMEOUT = 3.0

decisions = logging.getLogger("launcher.decisions")
exchanges = logging.getLogger("launcher.exchanges")

#: The refusal of those who may not wake a backend: health checks, every few seconds for as
#: long as it isn't up, which is its right.
_ORDINARY_REFUSAL = "not_resident"


@contextmanager
def configured(
    *,
    log_format: LogFormat = "auto",
    level: LogLevel = "info",
    redact: Redact | None = None,
    fd: int = 2,
) -> Iterator[None]:
    """Log to a file descriptor for as long as the block lasts; its end writes what is left.

    `auto` is human on a terminal and JSON elsewhere. `redact` takes configured secrets out
    of every text. Other people's loggers (aiohttp, asyncio) speak from `warning` on.
    """
    human = log_format == "human" or (log_format == "auto" and os.isatty(fd))
    writer = FdHandler(fd)
    writer.setFormatter(HumanFormatter(colour=_wants_colour(fd)) if human else JsonFormatter())
    if redact is not None:
        writer.addFilter(RedactFilter(redact))
    handler = QueueingHandler()
    listener = Listener(handler.waiting, writer)
    root, own = logging.getLogger(), logging.getLogger("launcher")
    before = root.level, own.level
    own.setLevel(level.upper())
    root.setLevel(max(own.level, logging.WARNING))
    root.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        own.setLevel(before[1])
        listener.finish(FLUSH_TIMEOUT)


def _wants_colour(fd: int) -> bool:
    return os.isatty(fd) and "NO_COLOR" not in os.environ


class QueueingHandler(logging.handlers.QueueHandler):
    """Takes a record on the loop's thread and returns at once."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        super().__init__(self.waiting)
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Only what may change or hold on to frames is made text here; the rest is done by
        the writing thread."""
        record.msg = record.getMessage()
        record.args = None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.waiting.qsize() >= MAX_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            text = f"{lost} log lines were dropped: nobody reads them fast enough"
            self.waiting.put(
                logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
            )
        self.waiting.put(record)


class Listener(logging.handlers.QueueListener):
    """The writing thread; its end waits for a stuck reader only so long."""

    def finish(self, timeout: float) -> None:
        """Write what is queued, but give up after `timeout` seconds (the thread is a daemon)."""
        thread = self._thread
        self.enqueue_sentinel()
        if thread is not None:
            thread.join(timeout)


class FdHandler(logging.Handler):
    """Writes to a descriptor, unbuffered: a broken pipe leaves nothing to fail at exit."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._gone = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._gone:
            return
        try:
            data = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a line that can't be formatted must not end the thread
            data = f"a log line of {record.name} could not be formatted\n".encode()
        try:
            self._write(data)
        except OSError:
            self._gone = True

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Somebody who shares the terminal made it non-blocking.
                select.select([], [self._fd], [])


class RedactFilter(logging.Filter):
    """Takes the configured secrets out of a record's message, fields and traceback."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._redact(record.getMessage())
        record.args = None
        if record.exc_text:
            record.exc_text = self._redact(record.exc_text)
        fields = _fields(record)
        if fields:
            record.fields = {key: self._value(value) for key, value in fields.items()}
        return True

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, (list, tuple)):
            return [self._value(one) for one in value]
        return value


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: Fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_fields(record))
        if record.exc_text:
            line["exception"] = record.exc_text
        try:
            return orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # a lone surrogate: undecodable bytes of a file name
            clean = {key: printable(str(value)) for key, value in line.items()}
            return orjson.dumps(clean).decode()


_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


class HumanFormatter(logging.Formatter):
    """Local time, level, message; details that are worth a line of their own below it."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        fields = _fields(record)
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}\x1b[0m"
        message = _sentence(fields) if record.name == exchanges.name else record.getMessage()
        lines = [f"{at}.{int(record.msecs):03d} {level} {printable(message)}"]
        detail = fields.get("detail")
        for text in (detail if isinstance(detail, str) else "", record.exc_text or ""):
            lines += [f"    {printable(line)}" for line in text.splitlines()]
        return "\n".join(lines)


def _fields(record: logging.LogRecord) -> Fields:
    fields = getattr(record, "fields", None)
    if isinstance(fields, ExchangeRecord):
        return exchange_fields(fields)
    return fields if isinstance(fields, dict) else {}


def exchange_fields(record: ExchangeRecord) -> Fields:
    """An exchange as the JSON log shows it; times in seconds. What is empty is left out."""
    fields: Fields = {
        "method": printable(record.method),
        "path": printable(record.path),
        "peer": record.peer,
        "status": record.status,
        "outcome": record.outcome,
        "duration": round(record.duration, 6),
        "requestBytes": record.request_bytes,
        "responseBytes": record.response_bytes,
    }
    for key, value in (
        ("route", record.route),
        ("backend", record.backend),
        ("model", record.model),
        ("code", record.code),
        ("cold", record.cold),
        ("queued", round(record.queued, 6)),
        ("starting", round(record.starting, 6)),
        ("retried", record.retried),
    ):
        if value:
            fields[key] = value
    if record.first_byte is not None:
        fields["firstByte"] = round(record.first_byte, 6)
    return fields


def _sentence(fields: Fields) -> str:
    """An exchange in one line for people."""
    notes = [str(fields[key]) for key in ("backend", "model", "code") if key in fields]
    if "cold" in fields:
        notes.append("cold")
    if "queued" in fields:
        notes.append(f"waited {_seconds(fields['queued'])}")
    if "retried" in fields:
        notes.append("sent twice")
    if fields["outcome"] not in ("ok", "error"):
        notes.append(str(fields["outcome"]).replace("_", " "))
    behind = f"  ({', '.join(notes)})" if notes else ""
    taken = _seconds(fields["duration"])
    return f"{fields['method']} {fields['path']} → {fields['status']} in {taken}{behind}"


def _seconds(field: object) -> str:
    return seconds(field if isinstance(field, (int, float)) else 0.0)


def log_exchange(record: ExchangeRecord) -> None:
    """One line per exchange; the writing thread makes it. A failure of ours is a warning,
    what was refused for a backend that it may not wake is for debugging."""
    level = logging.WARNING if record.status >= 500 else logging.INFO
    if record.code == _ORDINARY_REFUSAL:
        level = logging.DEBUG
    if exchanges.isEnabledFor(level):
        line = logging.LogRecord(exchanges.name, level, "", 0, "exchange", None, None)
        line.fields = record
        exchanges.handle(line)


def log_fact(fact: Fact) -> None:
    """One line per decision, and per outcome of one. Grants only at debug level."""
    match fact:
        case Granted():
            if decisions.isEnabledFor(logging.DEBUG):
                waited = seconds(fact.waited)
                _say("debug", f"granted {fact.backend} after {waited}", backend=fact.backend)
        case Decided():
            _decided(fact)
        case StartBegan() | StopBegan():
            pass  # what was decided has just been said
        case StartEnded():
            _start_ended(fact)
        case StopEnded():
            taken = round(fact.seconds, 3)
            text = f"{fact.backend} stopped after {seconds(taken)}"
            _say("info", text, backend=fact.backend, seconds=taken)
        case StopStuck(backend=backend, failure=failure):
            text = f"{backend} does not stop: {failure.message}"
            _say("error", text, backend=backend, code=failure.code, detail=failure.detail)
        case Reject():
            text = f"rejected a request for {fact.backend}: {fact.message}"
            level: LogLevel = "debug" if fact.code == _ORDINARY_REFUSAL else "warning"
            _say(level, text, backend=fact.backend, decision="reject", code=fact.code)
        case Abort():
            text = f"cutting the exchanges of {fact.backend}: {fact.message}"
            _say("warning", text, backend=fact.backend, decision="abort", code=fact.code)
        case _:
            _news(fact)


def _news(fact: Hung | Reachable | StopRequested | Closed | PrewarmSkipped) -> None:
    match fact:
        case PrewarmSkipped():
            text = f"{fact.backend} is not prewarmed: it doesn't fit beside those before it"
            _say("warning", text, backend=fact.backend)
        case Hung():
            text = f"{fact.backend} hangs: it failed its liveness probes"
            _say("warning", text, backend=fact.backend)
        case StopRequested():
            how = "at once" if fact.force else "after what runs"
            text = f"an operator wants {fact.backend} stopped, {how}"
            _say("info", text, backend=fact.backend)
        case Reachable(reachable=True):
            _say("info", "the driver answers again", backends=list(fact.backends))
        case Reachable():
            why = fact.failure.message if fact.failure is not None else "it does not answer"
            text = f"a driver is away; what runs is served on: {why}"
            _say("warning", text, backends=list(fact.backends))
        case Closed():
            _say("info", "shutting down: nothing starts or stops any more")


def _decided(fact: Decided) -> None:
    if fact.deed is Deed.REJECT:
        return  # the Reject that it explains knows better words
    _say(
        "info",
        sentence(fact),
        backend=fact.backend,
        decision=fact.deed.value,
        reason=fact.why,
        wantedBy=fact.wanted_by,
        pays=list(fact.pays) or None,
        cost=None if fact.cost is None else round(fact.cost, 3),
        waiting=fact.waiting or None,
        waited=None if fact.waited is None else round(fact.waited, 3),
    )


def _start_ended(fact: StartEnded) -> None:
    taken = round(fact.seconds, 3)
    if fact.outcome == "ready":
        text = f"{fact.backend} is ready after {seconds(taken)}"
        _say("info", text, backend=fact.backend, seconds=taken)
    elif fact.failure is None:
        text = f"the start of {fact.backend} was called off after {seconds(taken)}"
        _say("info", text, backend=fact.backend, seconds=taken)
    else:
        _say(
            "error",
            f"{fact.backend} failed to start after {seconds(taken)}: {fact.failure.message}",
            backend=fact.backend,
            seconds=taken,
            code=fact.failure.code,
            detail=fact.failure.detail,
        )


def _say(level: LogLevel, text: str, **fields: object) -> None:
    told = {key: value for key, value in fields.items() if value is not None}
    decisions.log(logging.getLevelName(level.upper()), "%s", text, extra={"fields": told})
