"""The log: one line per decision and per exchange, to stderr, as JSON or for people.

Lines are made where they are logged, those of exchanges in batches, so up to a tenth of a second
after those of decisions; a thread writes them.
Header values, keys and queries never come this far; configured secrets are taken out here, and
what a client chose (its path) is escaped.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import orjson

from launcher.config.redact import Redactor
from launcher.core.effects import Abort, Action, Decided, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.printable import printable, seconds
from launcher.telemetry.decisions import sentence
from launcher.telemetry.facts import (
    Fact,
    Granted,
    GrantedAtOnce,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.record import ExchangeRecord

LogFormat = Literal["auto", "json", "human"]
LogLevel = Literal["debug", "info", "warning", "error"]
Fields = dict[str, object]

#: Seconds that the end of the process waits for the last lines to be written.
FLUSH_TIMEOUT = 3.0
#: Lines that may wait for a slow reader; those beyond it are counted and dropped.
MAX_WAITING = 10_000
#: Seconds after a write in which the next lines gather, so that the thread isn't woken for each.
GATHERING: Final = 0.02
#: The beginnings of so many lines of exchanges are remembered, none for a longer path.
REMEMBERED: Final = 2000
LONGEST_PATH: Final = 256

decisions = logging.getLogger("launcher.decisions")
exchanges = logging.getLogger("launcher.exchanges")

#: The refusal of those who may not wake a backend: health checks, every few seconds for as
#: long as it isn't up, which is its right.
_ORDINARY_REFUSAL = "not_resident"

_handlers: list[_LogHandler] = []
"""Of the blocks that are `configured`, the innermost last."""


@contextmanager
def configured(
    *,
    log_format: LogFormat = "auto",
    level: LogLevel = "info",
    redactor: Redactor | None = None,
    fd: int = 2,
) -> Iterator[Writer]:
    """Log to a file descriptor for as long as the block lasts; its end writes what is left.

    `auto` is human on a terminal and JSON elsewhere. `redactor` takes configured secrets out
    of every text. Other people's loggers (aiohttp, asyncio) are logged from `warning` on.
    """
    human = log_format == "human" or (log_format == "auto" and os.isatty(fd))
    format_type = HumanFormat if human else JsonFormat
    colour = os.isatty(fd) and "NO_COLOR" not in os.environ
    handler = _LogHandler(fd, format_type(redactor or Redactor(), colour=colour))
    root, own = logging.getLogger(), logging.getLogger("launcher")
    before = root.level, own.level
    own.setLevel(level.upper())
    root.setLevel(max(own.level, logging.WARNING))
    root.addHandler(handler)
    _handlers.append(handler)
    handler.writer.start()
    try:
        yield handler.writer
    finally:
        _handlers.remove(handler)
        root.removeHandler(handler)
        root.setLevel(before[0])
        own.setLevel(before[1])
        handler.writer.finish(FLUSH_TIMEOUT)


def log_exchanges(records: Sequence[ExchangeRecord]) -> None:
    """Log one line per exchange that has ended, where a log is configured. A failure of ours is
    a warning; what was refused for a backend that it may not wake is for debugging."""
    if _handlers:
        _handlers[-1].exchanges(records)


# -- what lines look like -----------------------------------------------------------------


class Line(NamedTuple):
    """What a line shows of anything but an exchange."""

    at: float
    """Seconds since 1970."""
    level: str
    logger: str
    message: str
    fields: Fields
    exception: str


class _Format(ABC):
    """Makes lines, without the configured secrets."""

    def __init__(self, redactor: Redactor, *, colour: bool = False) -> None:
        self._redactor = redactor
        self._colour = colour

    def record(self, record: logging.LogRecord) -> bytes:
        """Return the line of what a logger was given."""
        exception = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        line = Line(
            record.created,
            record.levelname,
            record.name,
            record.getMessage(),
            getattr(record, "fields", {}),
            exception,
        )
        text = self.line(_redacted(line, self._redactor.text))
        return text.encode("utf-8", "backslashreplace") + b"\n"

    @abstractmethod
    def line(self, line: Line) -> str:
        """Return its text, without the end of the line."""

    @abstractmethod
    def exchanges(self, records: Sequence[ExchangeRecord], least: int) -> tuple[bytes, int]:
        """Return the lines of the exchanges whose level is `least` or above, and their number."""


class JsonFormat(_Format):
    """One JSON object per line."""

    def __init__(self, redactor: Redactor, *, colour: bool = False) -> None:
        super().__init__(redactor, colour=colour)
        self._heads: dict[tuple[object, ...], tuple[int, bytes]] = {}
        """From all that comes before the numbers to the level and the text of it. The same
        few dozen come back for hours, and only here a text could hold a secret."""
        self._keys: dict[str, bytes] = {}
        """From a key's name to its part of the line."""
        self._forget()
        self._second, self._time = -1, b""

    def line(self, line: Line) -> str:
        """Return time, level, logger, message, and the line's fields."""
        at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
        shown: Fields = {
            "time": at,
            "level": line.level.lower(),
            "logger": line.logger,
            "message": line.message,
            **line.fields,
        }
        if line.exception:
            shown["exception"] = line.exception
        try:
            return orjson.dumps(shown, default=str).decode()
        except orjson.JSONEncodeError:  # a lone surrogate: undecodable bytes of a file name
            clean = {key: printable(str(value)) for key, value in shown.items()}
            return orjson.dumps(clean).decode()

    def exchanges(self, records: Sequence[ExchangeRecord], least: int) -> tuple[bytes, int]:
        """Return the lines of the exchanges whose level is `least` or above, and their number."""
        if self._version != self._redactor.version:
            self._forget()
        heads, keys, lines = self._heads, self._keys, []
        for one in records:
            # Taken apart in one step, which is quicker than ten look-ups of a field.
            (at, _, _, _, _, _, _, _, _, _, cold,
             queued, _, first_byte, duration, received, sent, retried, key) = one  # fmt: skip
            level, head = heads.get(one[1:10]) or self._head(one)
            if level < least:
                continue
            second = int(at)
            if second != self._second:
                self._second = second
                day = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._time = day.encode()
            part = keys[key] if key in keys else self._key(key)
            more = _rarer(one) if cold or retried or queued >= 1e-6 else b""
            millis = int((at - second) * 1000)
            lines.append(
                _LINE % (self._time, millis, head, duration, received, sent, part, more)
                if first_byte < 0.0
                else _ANSWERED
                % (self._time, millis, head, duration, first_byte, received, sent, part, more)
            )
        return b"".join(lines), len(lines)

    def _forget(self) -> None:
        self._heads.clear()
        self._keys.clear()
        self._keys[""] = b""
        self._version = self._redactor.version

    def _head(self, record: ExchangeRecord) -> tuple[int, bytes]:
        """Return the level of a record, and its line from the time to the first number."""
        level = _level(record)
        texts = {
            "method": record.method,
            "path": record.path,
            "peer": record.peer,
            "route": record.route,
            "backend": record.backend,
            "model": record.model,
            "code": record.code,
            "outcome": record.outcome,
        }
        redact = self._redactor.text
        fields: Fields = {
            "level": logging.getLevelName(level).lower(),
            "logger": exchanges.name,
            "message": "exchange",
            **{key: printable(redact(text)) for key, text in texts.items() if text},
            "status": record.status,
        }
        text = orjson.dumps(fields)
        head = level, b'+00:00",%b,"duration":' % text[1:-1]
        if len(record.path) <= LONGEST_PATH:
            if len(self._heads) >= REMEMBERED:
                self._heads.clear()
            self._heads[record[1:10]] = head
        return head

    def _key(self, name: str) -> bytes:
        shown = orjson.dumps(printable(self._redactor.text(name)))
        self._keys[name] = part = b',"key":%b' % shown
        return part


#: An exchange as a line of JSON; the second one has a first byte.
_LINE: Final = b'{"time":"%b.%03d%b%.6f,"request_bytes":%d,"response_bytes":%d%b%b}\n'
_ANSWERED: Final = (
    b'{"time":"%b.%03d%b%.6f,"first_byte":%.6f,"request_bytes":%d,"response_bytes":%d%b%b}\n'
)


def _rarer(record: ExchangeRecord) -> bytes:
    """Return the end of the line of an exchange that had to wait, or was sent twice."""
    fields: Fields = {
        "cold": record.cold,
        "queued": round(record.queued, 6),
        "starting": round(record.starting, 6),
        "retried": record.retried,
    }
    shown = orjson.dumps({key: value for key, value in fields.items() if value})
    return b",%b" % shown[1:-1]


class HumanFormat(_Format):
    """Local time, level, message; details that are worth a line of their own below it. On a
    terminal warnings and errors have colours."""

    def line(self, line: Line) -> str:
        """Return one line of text, or several."""
        at = time.strftime("%H:%M:%S", time.localtime(line.at))
        colour = _COLOURS.get(line.level, "") if self._colour else ""
        level = f"{colour}{line.level:<7}\x1b[0m" if colour else f"{line.level:<7}"
        lines = [f"{at}.{int(line.at % 1 * 1000):03d} {level} {printable(line.message)}"]
        detail = line.fields.get("detail")
        for text in (detail if isinstance(detail, str) else "", line.exception):
            lines += [f"    {printable(one)}" for one in text.splitlines()]
        return "\n".join(lines)

    def exchanges(self, records: Sequence[ExchangeRecord], least: int) -> tuple[bytes, int]:
        """Return the lines of the exchanges whose level is `least` or above, and their number."""
        lines = []
        for one in records:
            if (level := _level(one)) >= least:
                message = self._redactor.text(_sentence(one))
                name = logging.getLevelName(level)
                lines.append(self.line(Line(one.at, name, exchanges.name, message, {}, "")))
        return "".join(f"{line}\n" for line in lines).encode(), len(lines)


_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


def _level(record: ExchangeRecord) -> int:
    if record.code == _ORDINARY_REFUSAL:
        return logging.DEBUG
    return logging.WARNING if record.status >= 500 else logging.INFO


def _sentence(record: ExchangeRecord) -> str:
    """Return an exchange as one line for people."""
    notes = [one for one in (record.backend, record.model, record.key, record.code) if one]
    if record.cold:
        notes.append("cold")
    if record.queued:
        notes.append(f"waited {seconds(record.queued)}")
    if record.retried:
        notes.append("sent twice")
    if record.outcome not in ("ok", "error"):
        notes.append(record.outcome.replace("_", " "))
    behind = f"  ({', '.join(notes)})" if notes else ""
    taken = seconds(record.duration)
    return f"{record.method} {record.path} → {record.status} in {taken}{behind}"


def _redacted(line: Line, redact: Callable[[str], str]) -> Line:
    """Return the line with the secrets taken out of its message, fields and traceback."""

    def clean(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [clean(one) for one in value]
        return redact(value) if isinstance(value, str) else value

    return line._replace(
        message=redact(line.message),
        fields={key: clean(value) for key, value in line.fields.items()},
        exception=redact(line.exception),
    )


# -- how they are written -----------------------------------------------------------------


class _LogHandler(logging.Handler):
    """Makes the line of what loggers are given, and hands it to the writer."""

    def __init__(self, fd: int, form: _Format) -> None:
        super().__init__()
        self._format = form
        self.writer = Writer(fd, self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        """Write its line; one that can't be made must not be an error where it was logged."""
        try:
            data = self._format.record(record)
        except Exception:  # noqa: BLE001 - whatever the text of an argument raised
            data = self._notice(f"a line of {record.name} could not be made")
        self.writer.put(data, 1)

    def exchanges(self, records: Sequence[ExchangeRecord]) -> None:
        """Write the lines of these."""
        least = exchanges.getEffectiveLevel()
        data, count = self._format.exchanges(records, least)
        if count:
            self.writer.put(data, count)

    def _notice(self, text: str) -> bytes:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        return self._format.record(record)


class Writer:
    """A thread that writes lines to a descriptor, unbuffered: a broken pipe leaves nothing to
    fail at exit.

    Whoever logs is never kept waiting by a terminal, a pipe or a disk. A reader that is stuck or
    a disk that is full costs lines; they are counted, and a line that `notice` makes says so when
    there is room again. Only to a reader that has left nothing is written any more.
    """

    def __init__(self, fd: int, notice: Callable[[str], bytes]) -> None:
        self._fd = fd
        self._notice = notice
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._dropped = 0
        self._ending = False
        self._error: OSError | None = None
        """Why the last write failed, where it did."""
        self._broken_line = False
        """The last write failed in the middle of a line."""
        self._gone = False
        # A daemon: nobody waits for a stuck reader for ever.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __repr__(self) -> str:
        return f"<Writer to {self._fd}: {self._waiting} waiting, {self._dropped} dropped>"

    @property
    def waiting(self) -> int:
        """How many lines wait to be written, those that are being written included."""
        return self._waiting

    @property
    def dropped(self) -> int:
        """How many lines were dropped, since that was last written."""
        return self._dropped

    def put(self, data: bytes, count: int) -> None:
        """Write these lines, `count` of them, soon; return at once. Callable on any thread."""
        with self._changed:
            if self._gone or self._waiting + count > MAX_WAITING:
                self._dropped += count
                return
            self._pieces.append(data)
            self._waiting += count
            self._changed.notify()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def finish(self, timeout: float) -> None:
        """Write what waits, but give up after `timeout` seconds."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout)

    # -- on the thread

    def _run(self) -> None:
        while not self._gone:
            with self._changed:
                self._changed.wait_for(self._has_work)
                pieces, self._pieces = self._pieces, []
                count = self._waiting
                lost, self._dropped = self._dropped, 0
                ending = self._ending
            self._write_lines(b"".join(pieces), count, lost)
            if ending:
                return
            time.sleep(GATHERING)

    def _has_work(self) -> bool:
        # After a failure only new lines are worth another attempt.
        return bool(self._pieces) or self._ending or (self._dropped > 0 and self._error is None)

    def _write_lines(self, lines: bytes, count: int, lost: int) -> None:
        """Write `count` lines, and that so many were lost after them."""
        data = lines
        if lost:
            why = self._error.strerror if self._error is not None else "the reader is too slow"
            data += self._notice(f"{lost} log lines were dropped: {why}")
        if self._broken_line:
            data = b"\n" + data
        rest = self._write(data)
        if len(rest) < len(data):
            self._broken_line = bool(rest) and not data[: -len(rest)].endswith(b"\n")
        with self._changed:
            self._waiting -= count
            if rest:
                # Some of them may have more than one line end.
                self._dropped += min(count, rest.count(b"\n")) + lost

    def _write(self, data: bytes) -> bytes:
        """Return what could not be written."""
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    # Somebody who shares the terminal made it non-blocking.
                    select.select([], [self._fd], [])
        except OSError as error:
            self._error = error
            self._gone = error.errno in _GONE
        else:
            self._error = None
        return bytes(rest)


#: Errors of a descriptor that nothing can be written to any more.
_GONE: Final = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)


# -- facts --------------------------------------------------------------------------------


def log_fact(fact: Fact) -> None:
    """Log one line per decision, and per outcome of one; grants at debug level only."""
    match fact:
        case Granted():
            if decisions.isEnabledFor(logging.DEBUG):
                waited = seconds(fact.waited)
                _log("debug", f"granted {fact.backend} after {waited}", backend=fact.backend)
        case GrantedAtOnce():
            if decisions.isEnabledFor(logging.DEBUG):
                text = f"granted {fact.backend} to {fact.count} requests at once"
                _log("debug", text, backend=fact.backend)
        case Decided():
            _decided(fact)
        case StartBegan() | StopBegan() | Loading():
            pass  # what was decided has just been logged
        case StartEnded():
            _start_ended(fact)
        case StopEnded():
            taken = round(fact.seconds, 3)
            text = f"{fact.backend} stopped after {seconds(taken)}"
            _log("info", text, backend=fact.backend, seconds=taken)
        case StopStuck(backend=backend, failure=failure):
            text = f"{backend} does not stop: {failure.message}"
            _log("error", text, backend=backend, code=failure.code, detail=failure.detail)
        case Reject():
            text = f"rejected a request for {fact.backend}: {fact.message}"
            level: LogLevel = "debug" if fact.code == _ORDINARY_REFUSAL else "warning"
            _log(level, text, backend=fact.backend, decision="reject", code=fact.code)
        case Abort():
            text = f"cutting the exchanges of {fact.backend}: {fact.message}"
            _log("warning", text, backend=fact.backend, decision="abort", code=fact.code)
        case _:
            _log_other(fact)


def _log_other(fact: Hung | Reachable | StopRequested | Closed | PrewarmSkipped) -> None:
    match fact:
        case PrewarmSkipped():
            text = f"{fact.backend} is not prewarmed: it doesn't fit beside those before it"
            _log("warning", text, backend=fact.backend)
        case Hung():
            text = f"{fact.backend} hangs: it failed its liveness probes"
            _log("warning", text, backend=fact.backend)
        case StopRequested():
            how = "at once" if fact.force else "after what runs"
            text = f"an operator wants {fact.backend} stopped, {how}"
            _log("info", text, backend=fact.backend)
        case Reachable(reachable=True):
            _log("info", "the driver answers again", backends=list(fact.backends))
        case Reachable():
            why = fact.failure.message if fact.failure is not None else "it does not answer"
            text = f"a driver is away; what runs is served on: {why}"
            _log("warning", text, backends=list(fact.backends))
        case Closed():
            _log("info", "shutting down: nothing starts or stops any more")


def _decided(fact: Decided) -> None:
    if fact.action is Action.REJECT:
        return  # the Reject that it explains has more to say
    _log(
        "info",
        sentence(fact),
        backend=fact.backend,
        decision=fact.action.value,
        reason=fact.why,
        wanted_by=fact.wanted_by,
        pays=list(fact.pays) or None,
        cost=None if fact.cost is None else round(fact.cost, 3),
        waiting=fact.waiting or None,
        waited=None if fact.waited is None else round(fact.waited, 3),
    )


def _start_ended(fact: StartEnded) -> None:
    taken = round(fact.seconds, 3)
    if fact.outcome == "ready":
        text = f"{fact.backend} is ready after {seconds(taken)}"
        _log("info", text, backend=fact.backend, seconds=taken)
    elif fact.failure is None:
        text = f"the start of {fact.backend} was called off after {seconds(taken)}"
        _log("info", text, backend=fact.backend, seconds=taken)
    else:
        _log(
            "error",
            f"{fact.backend} failed to start after {seconds(taken)}: {fact.failure.message}",
            backend=fact.backend,
            seconds=taken,
            code=fact.failure.code,
            detail=fact.failure.detail,
        )


def _log(level: LogLevel, text: str, **fields: object) -> None:
    known = {key: value for key, value in fields.items() if value is not None}
    decisions.log(logging.getLevelName(level.upper()), "%s", text, extra={"fields": known})
