"""What a line of the log looks like: JSON, or text for people. Pure.

Header values, keys and queries never come this far; configured secrets are taken out here, and
what a client chose (its path) is escaped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

from launcher.printable import printable, seconds
from launcher.telemetry.record import ExchangeRecord

Redact = Callable[[str], str]
Fields = dict[str, object]

#: The logger of exchanges, as lines name it and as levels are set for it.
EXCHANGES: Final = "launcher.exchanges"


class Ended(NamedTuple):
    """An exchange is over: what there is one of for each request, and so no more than this."""

    at: float
    """Unix time."""
    level: int
    record: ExchangeRecord


Said = logging.LogRecord | Ended
"""What a line is made of."""


class Line(NamedTuple):
    """What both kinds of lines show."""

    at: float
    level: str
    logger: str
    message: str
    fields: Fields
    exception: str


class Lines:
    """Makes lines, without the configured secrets."""

    def __init__(self, show: Callable[[Line], str], redact: Redact | None = None) -> None:
        self._show = show
        self._redact = redact

    def __call__(self, said: Said) -> str:
        """The text of one line, without its end."""
        if isinstance(said, Ended):
            level = logging.getLevelName(said.level)
            fields = exchange_fields(said.record)
            line = Line(said.at, level, EXCHANGES, "exchange", fields, "")
        else:
            line = Line(
                said.created,
                said.levelname,
                said.name,
                said.getMessage(),
                getattr(said, "fields", {}),
                said.exc_text or "",
            )
        return self._show(line if self._redact is None else _redacted(line, self._redact))


def _redacted(line: Line, redact: Redact) -> Line:
    """The line with the secrets taken out of its message, fields and traceback."""
    texts = [line.message, line.exception]
    for value in line.fields.values():
        texts += _texts(value)
    together = "\n".join(texts)
    if redact(together) == together:  # as in nearly every line: one look at all of it will do
        return line

    def clean(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [clean(one) for one in value]
        return redact(value) if isinstance(value, str) else value

    return line._replace(
        message=redact(line.message),
        fields={key: clean(value) for key, value in line.fields.items()},
        exception=redact(line.exception),
    )


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in _texts(one)]
    return []


def as_json(line: Line) -> str:
    """One JSON object: time, level, logger, message, and the line's fields."""
    shown: Fields = {
        "time": datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds"),
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


def for_people(line: Line) -> str:
    """Local time, level, message; details that are worth a line of their own below it."""
    return _in_words(line, "")


def in_colour(line: Line) -> str:
    """The same, warnings and errors in colours of a terminal."""
    return _in_words(line, _COLOURS.get(line.level, ""))


_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


def _in_words(line: Line, colour: str) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line.at))
    level = f"{colour}{line.level:<7}\x1b[0m" if colour else f"{line.level:<7}"
    message = _sentence(line.fields) if line.logger == EXCHANGES else line.message
    lines = [f"{at}.{int(line.at % 1 * 1000):03d} {level} {printable(message)}"]
    detail = line.fields.get("detail")
    for text in (detail if isinstance(detail, str) else "", line.exception):
        lines += [f"    {printable(one)}" for one in text.splitlines()]
    return "\n".join(lines)


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
        ("key", record.key),
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
    notes = [str(fields[key]) for key in ("backend", "model", "key", "code") if key in fields]
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
