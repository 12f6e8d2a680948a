"""The records of switches and leases, and how they are kept in the state file.

Times are seconds since 1970: a record outlives the clock that the core runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Generic, TypeVar

import orjson

from launcher.core.types import BackendId, Failure, Needs
from launcher.state.store import StateStore, StateTable


class SwitchState(Enum):
    """The state of a switch."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class LeaseState(Enum):
    """The state of a lease; those after `active` say why it ended."""

    PENDING = "pending"
    ACTIVE = "active"
    RELEASED = "released"
    EXPIRED = "expired"
    BROKEN = "broken"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a switch."""

    name: str
    """`drain a`, `stop a`, `start b`, `restore a`."""
    began_at: float
    ended_at: float | None = None
    ok: bool | None = None
    """None while it goes on."""
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """One switch, from its request to its end."""

    id: int
    route: str
    asked_at: float
    by: str | None = None
    """Who asked, where that is known."""
    force: bool = False
    """Break the leases that leave no room for it."""
    state: SwitchState = SwitchState.QUEUED
    backend: BackendId | None = None
    """The backend of the route that became resident."""
    before: tuple[BackendId, ...] = ()
    """What was resident when its turn came, the last used first."""
    stopped: tuple[BackendId, ...] = ()
    """Of those, what was stopped for it."""
    broke: tuple[int, ...] = ()
    """The leases that were broken for it."""
    restoring: bool = False
    """The target has failed: what was resident before is started again."""
    steps: tuple[Step, ...] = ()
    started_at: float | None = None
    finished_at: float | None = None
    error: Failure | None = None
    """Why the target isn't resident."""
    restore_error: Failure | None = None
    """Why what was resident before isn't resident again."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in (SwitchState.QUEUED, SwitchState.RUNNING)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One lease, from its request to its end."""

    id: int
    """The fencing token: it only counts up."""
    routes: tuple[str, ...]
    """Whose backends are held; empty for capacity that is reserved."""
    asked_at: float
    ttl: float | None
    """Seconds from the grant; None: a pin, which has no end of its own."""
    needs: Needs = ()
    """What is reserved, where no route is held."""
    note: str = ""
    by: str | None = None
    """Who holds it, where that is known."""
    mode: str | None = None
    waited_for: bool = False
    """Somebody waits for it on a connection: while it is pending it ends with that."""
    replaces: int | None = None
    """The lease that ends when this one is granted, and not before."""
    state: LeaseState = LeaseState.PENDING
    granted_at: float | None = None
    expires_at: float | None = None
    """None: not granted, or a pin."""
    ended_at: float | None = None
    ended_by: str | None = None
    """Who or what ended it before its time: `switch 12`, `lease 8`, a caller's name."""
    error: Failure | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in (LeaseState.PENDING, LeaseState.ACTIVE)


def _text(record: SwitchRecord | LeaseRecord) -> tuple[str]:
    return (orjson.dumps(record).decode(),)


def _failure(found: Mapping[str, Any] | None) -> Failure | None:
    return None if found is None else Failure(**found)


def _known(kind: type[SwitchRecord | LeaseRecord], text: str) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no record")
    return {name: value for name, value in found.items() if name in names}


def _switch(id: int, text: str) -> SwitchRecord:
    found = _known(SwitchRecord, text)
    found["state"] = SwitchState(found["state"])
    for name in ("before", "stopped", "broke"):
        found[name] = tuple(found[name])
    found["steps"] = tuple(Step(**one) for one in found["steps"])
    found["error"] = _failure(found["error"])
    found["restore_error"] = _failure(found["restore_error"])
    return SwitchRecord(**(found | {"id": id}))


def _lease(id: int, text: str) -> LeaseRecord:
    found = _known(LeaseRecord, text)
    found["state"] = LeaseState(found["state"])
    found["routes"] = tuple(found["routes"])
    found["needs"] = tuple((str(name), int(units)) for name, units in found["needs"])
    found["error"] = _failure(found["error"])
    return LeaseRecord(**(found | {"id": id}))


SWITCHES: StateTable[int, SwitchRecord] = StateTable("switches", ("id", "record"), _text, _switch)
LEASES: StateTable[int, LeaseRecord] = StateTable("leases", ("id", "record"), _text, _lease)
COUNTERS: StateTable[str, int] = StateTable(
    "counters", ("name", "value"), lambda n: (n,), lambda _, value: int(value)
)
DRAINS: StateTable[str, str] = StateTable(
    "drains", ("route",), lambda _: (), lambda route: str(route)
)
HOME: StateTable[str, float] = StateTable(
    "home", ("route", "since"), lambda since: (since,), lambda _, since: float(since)
)

#: The tables of the state file that are read here.
TABLES = (SWITCHES, LEASES, COUNTERS, DRAINS, HOME)

#: How many records that are over are kept.
MAX_FINISHED = 100

R = TypeVar("R", bound=SwitchRecord | LeaseRecord)


class RecordLog(Generic[R]):
    """Records by number, of which every change is kept, and the last MAX_FINISHED that are over.

    Numbers are never reused: where an earlier file may have been lost, they continue from the
    clock's seconds, which are beyond any number that was given out.
    """

    def __init__(
        self, table: StateTable[int, R], store: StateStore, wall: Callable[[], float]
    ) -> None:
        self._table = table
        self._store = store
        self._records: dict[int, R] = store.loaded(table)
        last = store.loaded(COUNTERS).get(table.name, 0)
        self._last = max(last, *self._records, int(wall()) if store.lost else 0, 0)

    def __repr__(self) -> str:
        return f"<RecordLog {self._table.name} last={self._last}>"

    def next_id(self) -> int:
        """Return a new number."""
        self._last += 1
        self._store.put(COUNTERS, self._table.name, self._last)
        return self._last

    def was_issued(self, id: int) -> bool:
        """Whether a record has, or had, that number."""
        return 0 < id <= self._last

    def put(self, record: R) -> R:
        """Save a record, new or changed; return it."""
        self._records[record.id] = record
        self._store.put(self._table, record.id, record)
        if record.over:
            for id in [one.id for one in self._records.values() if one.over][:-MAX_FINISHED]:
                del self._records[id]
                self._store.drop(self._table, id)
        return record

    def get(self, id: int) -> R | None:
        """Return a record, None where it isn't kept."""
        return self._records.get(id)

    def all(self) -> list[R]:
        """Return all records, the oldest first."""
        return [self._records[id] for id in sorted(self._records)]

    def open(self) -> list[R]:
        """Return those that aren't over, the oldest first."""
        return [one for one in self.all() if not one.over]

    async def durable(self) -> None:
        """Wait until all changes are on the disk, if it can be written."""
        await self._store.durable()
