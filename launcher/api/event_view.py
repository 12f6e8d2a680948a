"""The scheduler's events and effects as plain data, and which backends they are about.

One reading for all of them: a field is called what it is called in `core.events` and
`core.effects`; moments are timestamps, durations end in `_ms`, and what is for operators only
is left out for others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum, IntEnum
from typing import Final

from launcher.api.answers import milliseconds, timestamp
from launcher.core.effects import Admit, Decided, Reject
from launcher.core.events import Abandoned, Arrived, Released, SpecsChanged
from launcher.core.types import BackendId, TicketId
from launcher.telemetry.decisions import sentence
from launcher.telemetry.journal import Entry

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
#: For nobody: what permitted requests did, by the hundreds.
UNTOLD: Final = frozenset({"log"})


def describe(entry: Entry, shift: float, *, details: bool) -> dict[str, object]:
    """One entry. `shift` is what makes a time on the core's clock one in seconds since 1970."""
    return {
        "at": timestamp(entry.now + shift),
        "event": plain(entry.event, shift, details=details),
        "effects": [plain(one, shift, details=details) for one in entry.effects],
    }


def plain(what: object, shift: float, *, details: bool) -> dict[str, object]:
    """An event or an effect, with its `type` in snake case."""
    told = {"type": _shape(what)[0], **_fields(what, shift, details)}
    if isinstance(what, Decided):
        told["text"] = sentence(what)
    return told


def _fields(what: object, shift: float, details: bool) -> dict[str, object]:
    told: dict[str, object] = {}
    for name in _shape(what)[1]:
        if name in UNTOLD or (name in PRIVATE and not details):
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
    """What its type is called, and its fields."""
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
        """Take note of an entry; whether it is about that backend."""
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
