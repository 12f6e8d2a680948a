"""The log: one line per decision and per exchange, to stderr, as JSON or for people.

What is said here waits for a thread (`log_writer`) that makes and writes the lines
(`log_lines`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from launcher.core.effects import Abort, Action, Decided, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.printable import seconds
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
from launcher.telemetry.log_lines import (
    EXCHANGES,
    Ended,
    Lines,
    Redact,
    as_json,
    for_people,
    in_colour,
)
from launcher.telemetry.log_writer import QueueingHandler, Writer
from launcher.telemetry.record import ExchangeRecord

LogFormat = Literal["auto", "json", "human"]
LogLevel = Literal["debug", "info", "warning", "error"]

#: Seconds that the end of the process waits for the last lines to be written.
FLUSH_TIMEOUT = 3.0

decisions = logging.getLogger("launcher.decisions")
exchanges = logging.getLogger(EXCHANGES)

#: The refusal of those who may not wake a backend: health checks, every few seconds for as
#: long as it isn't up, which is its right.
_ORDINARY_REFUSAL = "not_resident"

_writers: list[Writer] = []
"""Of the blocks that are `configured`, the innermost last."""


@contextmanager
def configured(
    *,
    log_format: LogFormat = "auto",
    level: LogLevel = "info",
    redact: Redact | None = None,
    fd: int = 2,
) -> Iterator[Writer]:
    """Log to a file descriptor for as long as the block lasts; its end writes what is left.

    `auto` is human on a terminal and JSON elsewhere. `redact` takes configured secrets out
    of every text. Other people's loggers (aiohttp, asyncio) speak from `warning` on.
    """
    human = log_format == "human" or (log_format == "auto" and os.isatty(fd))
    words = in_colour if _wants_colour(fd) else for_people
    writer = Writer(fd, Lines(words if human else as_json, redact))
    handler = QueueingHandler(writer)
    root, own = logging.getLogger(), logging.getLogger("launcher")
    before = root.level, own.level
    own.setLevel(level.upper())
    root.setLevel(max(own.level, logging.WARNING))
    root.addHandler(handler)
    _writers.append(writer)
    writer.start()
    try:
        yield writer
    finally:
        _writers.remove(writer)
        root.removeHandler(handler)
        root.setLevel(before[0])
        own.setLevel(before[1])
        writer.finish(FLUSH_TIMEOUT)


def _wants_colour(fd: int) -> bool:
    return os.isatty(fd) and "NO_COLOR" not in os.environ


def log_exchange(record: ExchangeRecord) -> None:
    """One line per exchange, where a log is configured. A failure of ours is a warning, what
    was refused for a backend that it may not wake is for debugging. There is one for each
    request, and a LogRecord costs as much as all the rest of the line."""
    level = logging.WARNING if record.status >= 500 else logging.INFO
    if record.code == _ORDINARY_REFUSAL:
        level = logging.DEBUG
    if _writers and exchanges.isEnabledFor(level):
        _writers[-1].put(Ended(time.time(), level, record))


def log_fact(fact: Fact) -> None:
    """One line per decision, and per outcome of one. Grants only at debug level."""
    match fact:
        case Granted():
            if decisions.isEnabledFor(logging.DEBUG):
                waited = seconds(fact.waited)
                _say("debug", f"granted {fact.backend} after {waited}", backend=fact.backend)
        case GrantedAtOnce():
            if decisions.isEnabledFor(logging.DEBUG):
                text = f"granted {fact.backend} to {fact.count} requests at once"
                _say("debug", text, backend=fact.backend)
        case Decided():
            _decided(fact)
        case StartBegan() | StopBegan() | Loading():
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
    if fact.action is Action.REJECT:
        return  # the Reject that it explains knows better words
    _say(
        "info",
        sentence(fact),
        backend=fact.backend,
        decision=fact.action.value,
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
