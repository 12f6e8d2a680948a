"""What happens, as it happens: `/api/events` (every event of the scheduler and what it made of it,
as server-sent events) and `/api/backends/{id}/logs` (what a backend prints, as plain text).

Each event has an id that a client gives back as `Last-Event-ID` to go on where it was. A client
that can't go on there, since the launcher was restarted or the event is no longer kept, is told
so by an event `reset`: what it knows has to be asked for anew.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from typing import Annotated, Final

import orjson
from aiohttp import web

from launcher.api.answers import milliseconds, timestamp
from launcher.api.endpoint import Context, Control, EndpointTable, Request, Stream
from launcher.api.shapes import Flag, Limits, shape
from launcher.core.effects import Admit, Decided, Reject
from launcher.core.events import Abandoned, Arrived, PermitUsed, Released, SpecsChanged
from launcher.core.types import BackendId, TicketId
from launcher.errors import LauncherError
from launcher.telemetry.decisions import sentence
from launcher.telemetry.journal import Entry, Journal

ENDPOINTS = EndpointTable()

#: Seconds between two signs of life.
HEARTBEAT: Final = 15.0
#: Seconds that events are collected for, so that a burst goes out in few pieces.
PACE: Final = 0.05
#: So many are written without giving others a turn.
AT_ONCE: Final = 100
#: What a client is told to wait before it comes back. Milliseconds.
RETRY: Final = 2000


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class EventsQuery:
    """Which events are wanted."""

    backend: str | None = None
    """Only those that concern this backend."""


@ENDPOINTS.add(
    "GET", "/api/events", need="observe", tag="page", query=EventsQuery,
    produces="text/event-stream",
)  # fmt: skip
async def follow_events(context: Context, request: Request) -> Stream:
    """Every event of the scheduler and what it made of it, as they happen (server-sent events).

    Goes on behind `Last-Event-ID`; where it can't, an event `reset` says so. `?backend=` what
    concerns that one.
    """
    name = request.query_as(EventsQuery).backend
    concerns = None if name is None else Concerns(find_backend(context.control, name))
    after, reset = _begin(context.journal, request.last_event_id)
    return Stream(
        _events(context, after, reset, concerns, request.details),
        "text/event-stream",
        {"Cache-Control": "no-store"},
    )


def find_backend(control: Control, name: str) -> BackendId:
    """Return the backend of that name. Raise `unknown_backend`."""
    known = control.snapshot().backends
    if name in known:
        return BackendId(name)
    raise LauncherError(
        "unknown_backend", f"No backend of that name. Known: {', '.join(known) or 'none'}."
    )


def _begin(journal: Journal, last: str) -> tuple[int, str | None]:
    """Return the number to go on behind, and why that isn't where the client was."""
    if not last:
        return journal.last, None
    run, _, number = last.partition("-")
    if run != journal.run:
        return journal.last, "restarted"
    after = int(number) if number.isascii() and number.isdigit() and len(number) < 16 else -1
    if journal.after(after, 0) is None:
        return journal.last, "gap"
    return after, None


async def _events(
    context: Context, after: int, reset: str | None, concerns: Concerns | None, details: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events behind the number `after`, and those to come."""
    journal = context.journal
    if concerns is not None:
        # Which backends a ticket is for was told when it arrived.
        for entry in journal.entries()[: after - journal.last or None]:
            concerns.learn(entry)
    # Where the client is now; an id without data makes no event of it (HTML, 9.2.6).
    first = f"retry: {RETRY}\n\nid: {journal.run}-{after}\n"
    if reset is not None:
        first += f'event: reset\ndata: {{"reason":"{reset}"}}\n'
    yield f"{first}\n".encode()
    while True:
        entries = journal.after(after, AT_ONCE)
        if entries is None:
            return  # it reads too slowly; when it comes back it is told so
        if not entries:
            if journal.closed:
                return
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await journal.wait_after(after)
            except TimeoutError:
                yield b":\n\n"
            continue
        numbered = enumerate(entries, after + 1)
        after += len(entries)
        shift = context.wall() - context.control.snapshot().now
        if written := _written(journal.run, numbered, concerns, shift, details):
            yield written
        await asyncio.sleep(0 if len(entries) == AT_ONCE else PACE)


def _written(
    run: str,
    numbered: Iterable[tuple[int, Entry]],
    concerns: Concerns | None,
    shift: float,
    details: bool,
) -> bytes:
    return b"".join(
        b"id: %b-%d\ndata: %b\n\n"
        % (run.encode(), number, orjson.dumps(describe(entry, shift, details=details)))
        for number, entry in numbered
        if concerns is None or concerns.learn(entry)
    )


# -- events and effects as plain data
#
# One reading for all of them: a field is called what it is called in `core.events` and
# `core.effects`; moments are timestamps, durations end in `_ms`, and what is for operators only
# is left out for others.

#: Fields that are times on the core's clock.
MOMENTS: Final = frozenset({"at", "deadline", "until"})
#: Fields that are seconds.
DURATIONS: Final = frozenset(
    {
        "ages",
        "cost",
        "idle_timeout",
        "linger",
        "max_wait",
        "retry_after",
        "running_for",
        "service",
        "start",
        "start_guess",
        "start_timeout",
        "stop",
        "stop_guess",
        "ttl",
        "waited",
    }
)
#: Tables of names and units, held as pairs.
TABLES: Final = frozenset({"needs", "capacity"})
#: For operators only: exit codes, a backend's last lines.
PRIVATE: Final = frozenset({"detail"})
#: Fields that are only counted.
COUNTED: Final = frozenset({"log"})


def describe(entry: Entry, shift: float, *, details: bool) -> dict[str, object]:
    """Return an entry as plain data. `shift`, added to a time on the core's clock, makes it one in
    seconds since 1970."""
    return {
        "at": timestamp(entry.now + shift),
        "event": plain(entry.event, shift, details=details),
        "effects": [plain(one, shift, details=details) for one in entry.effects],
    }


def plain(what: object, shift: float, *, details: bool) -> dict[str, object]:
    """Return an event or an effect as plain data, with its `type` in snake case."""
    told = {"type": _shape(what)[0], **_fields(what, shift, details)}
    if isinstance(what, Decided):
        told["text"] = sentence(what)
    return told


def _fields(what: object, shift: float, details: bool) -> dict[str, object]:
    told: dict[str, object] = {}
    if isinstance(what, PermitUsed):
        told |= {"entered": what.entered, "left": len(what.log) - what.entered}
    for name in _shape(what)[1]:
        if name in COUNTED or (name in PRIVATE and not details):
            continue
        value = getattr(what, name)
        if name in MOMENTS:
            told[name] = timestamp(value + shift) if _known(value) else None
        elif name in DURATIONS:
            told[f"{name}_ms"] = milliseconds(value) if _known(value) else None
        elif name in TABLES:
            told[name] = None if value is None else dict(value)
        else:
            told[name] = _value(value, shift, details)
    return told


def _value(value: object, shift: float, details: bool) -> object:
    match value:
        case IntEnum():
            return value.name.lower()
        case Enum():
            return value.value
        case tuple():
            return [_value(one, shift, details) for one in value]
        case _ if is_dataclass(value):
            return _fields(value, shift, details)
        case _:
            return value


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _shape(what: object) -> tuple[str, tuple[str, ...]]:
    """Return the name of its type in snake case, and the names of its fields."""
    kind = type(what)
    found = _SHAPES.get(kind)
    if found is None:
        assert is_dataclass(kind)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        found = _SHAPES[kind] = (name, tuple(field.name for field in fields(kind)))
    return found


_SHAPES: dict[type, tuple[str, tuple[str, ...]]] = {}


class Concerns:
    """Tells what is about one backend. A ticket that comes to its end is only a number: whose
    it is was told when it arrived, so it has to be shown all that happens, in order."""

    def __init__(self, backend: BackendId) -> None:
        self._backend = backend
        self._tickets: set[TicketId] = set()

    def learn(self, entry: Entry) -> bool:
        """Take note of an entry; return whether it is about that backend."""
        event = entry.event
        about = False
        if isinstance(event, Arrived):
            about = self._backend in event.ticket.backends
            if about:
                self._tickets.add(event.ticket.id)
        elif isinstance(ticket := getattr(event, "ticket", None), int):
            about = ticket in self._tickets
            if isinstance(event, Released | Abandoned):
                self._tickets.discard(TicketId(ticket))
        else:
            about = self._backend in _backends(event)
        for effect in entry.effects:
            if self._backend in _backends(effect):
                about = True
            elif isinstance(effect, Admit):
                self._tickets.discard(effect.ticket)  # another of its backends serves it
            if isinstance(effect, Reject):
                self._tickets.discard(effect.ticket)
        return about


def _backends(what: object) -> Iterator[str]:
    if isinstance(what, SpecsChanged):
        yield from (one.id for one in (*what.added, *what.changed, *what.replaced))
        yield from what.removed
        return
    for name in ("backend", "wanted_by"):
        found = getattr(what, name, None)
        if found is not None:
            yield found
    yield from getattr(what, "pays", ())
    yield from getattr(what, "backends", ())


# -- what backends print

#: The most that a process' output is kept of; an engine keeps more.
MOST_LINES = 10_000


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """Which lines are wanted."""

    tail: Annotated[int, Limits(ge=0, le=MOST_LINES)] = 200
    """So many of the last lines."""
    follow: Flag = False
    """Also those to come, until the caller leaves."""


@ENDPOINTS.add(
    "GET", "/api/backends/{id}/logs", need="admin", tag="status", query=LogsQuery,
    answers={200: str}, produces="text/plain",
)  # fmt: skip
async def get_backend_logs(context: Context, request: Request) -> web.Response | Stream:
    """What the backend printed since its last start, redacted; with `?follow=1` also what it
    prints from then on, over restarts.

    `?tail=` so many of the last lines (200).
    """
    # For admins only, since a backend prints whatever it likes.
    backend = find_backend(context.control, request.args["id"])
    query = request.query_as(LogsQuery)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    content_type = "text/plain; charset=utf-8"
    if query.follow:
        return Stream(_lines(context, backend, query.tail), content_type, headers)
    lines = await context.output.tail(backend, query.tail)
    return web.Response(body=_text(lines), headers={"Content-Type": content_type, **headers})


async def _lines(context: Context, backend: BackendId, tail: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(context.output.follow(backend, tail)) as batches:
        async for lines in batches:
            yield _text(lines)


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
