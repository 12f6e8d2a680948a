"""Leases: who holds which backends, for how long, and what remains of that over a restart.

A lease is tickets that hold their backends (`Hold`); the core ends them when their time is up.
Here a lease gets a number, is written down, and asks again after a restart. Which leases leave
no room for something is computed here too, to name them, and to find what `force` must break.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from launcher import tasks
from launcher.config import LauncherConfig
from launcher.control.base import Clocks, OperatorGate, check_exists, find_route
from launcher.control.records import LEASES, LeaseRecord, LeaseState, RecordLog
from launcher.core.types import BackendId, Failure, Hold, Needs
from launcher.errors import LauncherError
from launcher.printable import seconds, timestamp
from launcher.runtime.admission import Admission, Ask
from launcher.state.store import StateStore

log = logging.getLogger(__name__)

#: Seconds after which to ask again where nobody knows when a lease ends.
ASK_AGAIN = 60.0

Claim = Mapping[BackendId, Needs]
"""Backends that are to be resident together, and what each occupies."""

Ended = Callable[[LeaseRecord], None]
"""Called with each lease that has ended."""


@dataclass(slots=True, eq=False)
class _Live:
    """A lease that isn't over."""

    record: LeaseRecord
    tickets: dict[BackendId, Admission] = field(default_factory=dict)
    """Its tickets, by the first backend of each."""
    asking: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it was granted or has ended."""
    borrowed: set[BackendId] = field(default_factory=set)
    """The tickets among them that come from the lease that it replaces."""
    reserves: bool = False
    """The backend that stands for what it reserves exists."""
    lent: bool = False
    """Another lease is about to replace it: it holds nothing meanwhile."""


class LeaseRegistry:
    """Every lease. Methods return at once, except `settled` and `durable`."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: OperatorGate,
        store: StateStore,
        clocks: Clocks,
        on_end: Ended = lambda record: None,
    ) -> None:
        self._config = config
        self._gate = gate
        self._clocks = clocks
        self._on_end = on_end
        self._records: RecordLog[LeaseRecord] = RecordLog(LEASES, store, clocks.wall)
        self._live: dict[int, _Live] = {}
        self._closing = False

    def __repr__(self) -> str:
        return f"<LeaseRegistry {sorted(self._live)}>"

    # -- life

    def open(self) -> None:
        """Continue the leases of an earlier run: those in force keep their end, those that
        somebody waited for on a connection are gone with it."""
        for record in self._records.open():
            live = self._live[record.id] = _Live(record)
            if record.state is LeaseState.PENDING and record.waited_for:
                self._end(live, LeaseState.RELEASED, by="a restart of the launcher")
            elif record.state is LeaseState.ACTIVE and self.remaining(record) == 0:
                self._end(live, LeaseState.EXPIRED, at=record.expires_at)
            else:
                self._begin(live)

    async def close(self) -> None:
        """Release the tickets. The leases stay in force: the next run continues them."""
        self._closing = True
        await tasks.cancel(*(live.asking for live in self._live.values()))
        for live in self._live.values():
            self._let_go(live)
            live.settled.set()

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on. What is held stays held."""
        self._config = config

    # -- asking

    def take(
        self,
        *,
        routes: tuple[str, ...] = (),
        needs: Needs | None = None,
        ttl: float | None,
        note: str = "",
        by: str | None = None,
        mode: str | None = None,
        waited_for: bool = False,
        replaces: LeaseRecord | None = None,
    ) -> LeaseRecord:
        """Ask for the backends of `routes`, or for `needs` to be reserved. `ttl` is in seconds,
        None without an end. `settled` waits for the outcome.

        Raises `unknown_route`, `invalid_request`; and `leased` where it would replace a lease,
        but others than that one leave it no room.
        """
        for name in routes:
            find_route(self._config, name)
        if ttl is not None:
            check_term(self._config, ttl)
        if needs is not None:
            check_needs(self._config, needs)
        record = LeaseRecord(
            id=0, routes=routes, needs=needs or (), ttl=ttl, note=note, by=by, mode=mode,
            asked_at=self._clocks.wall(), waited_for=waited_for,
            replaces=None if replaces is None else replaces.id,
        )  # fmt: skip
        if replaces is not None:
            others = self.blocking_lease(record)
            others = [one for one in others if one.id != replaces.id]
            if others:
                raise self.leased_error(others)
        record = self._records.put(replace(record, id=self._records.next_id()))
        live = self._live[record.id] = _Live(record)
        self._begin(live)
        return record

    async def check_exists(self, routes: Iterable[str]) -> None:
        """See `base.check_exists`. Raises `unknown_route` as well."""
        for name in routes:
            await check_exists(self._gate, find_route(self._config, name))

    def refusal(self, record: LeaseRecord) -> LauncherError:
        """Return the error for a lease that wasn't granted."""
        if record.error is None:
            return LauncherError("stale_lease", f"Lease {record.id} has ended: {why(record)}.")
        return self.as_error(record.error, self.blocking_lease(record))

    async def settled(self, id: int) -> LeaseRecord:
        """Wait until the lease is granted or has ended; return its record. Raises `draining` where
        the launcher ends before."""
        live = self._live.get(id)
        if live is not None:
            await live.settled.wait()
        record = self.get(id)
        if record.state is LeaseState.PENDING:
            raise LauncherError("draining", "The launcher is shutting down.")
        return record

    async def durable(self) -> None:
        """Wait until all changes are on the disk, if it can be written."""
        await self._records.durable()

    # -- reading

    def get(self, id: int) -> LeaseRecord:
        """Return a lease. Raises `unknown_lease` for a number that was never given out, or whose
        record isn't kept any more."""
        record = self._records.get(id)
        if record is None:
            raise LauncherError("unknown_lease", f"There is no lease {id}.")
        return record

    def open_ones(self) -> list[LeaseRecord]:
        """Return the leases that are pending or in force, the oldest first."""
        return self._records.open()

    # -- changing

    def renew(self, id: int, ttl: float | None) -> LeaseRecord:
        """Make it end `ttl` seconds from now (None: as many as it was taken for).

        Raises `unknown_lease`, `stale_lease` and `invalid_request`; and `lease_pending` before
        it is granted.
        """
        if ttl is not None:
            check_term(self._config, ttl)
        live = self._live.get(id)
        if live is None:
            ended = self._records.get(id)
            if ended is None and not self._records.was_issued(id):
                raise LauncherError("unknown_lease", f"There never was a lease {id}.")
            how = "long ago" if ended is None else why(ended)
            raise LauncherError("stale_lease", f"Lease {id} has ended: {how}.")
        record = live.record
        if record.state is LeaseState.PENDING or live.lent:
            raise LauncherError("lease_pending", f"Lease {id} isn't granted yet.")
        wanted = record.ttl if ttl is None else ttl
        until = self._until(wanted)
        live.record = self._records.put(
            replace(record, ttl=wanted, expires_at=self._clocks.wall_at(until))
        )
        for ticket in list(live.tickets.values()):
            if id not in self._live:
                break  # it has expired already
            ticket.renew(until)
        return live.record

    def release(self, id: int, by: str | None = None) -> LeaseRecord:
        """End it now; one that has ended is left as it is. Raises `unknown_lease`."""
        live = self._live.get(id)
        if live is not None:
            self._end(live, LeaseState.RELEASED, by=by)
        return self.get(id)

    def break_lease(self, id: int, by: str) -> None:
        """End it now, against its holder's will."""
        live = self._live.get(id)
        if live is not None:
            log.warning("lease %d is broken by %s", id, by)
            self._end(live, LeaseState.BROKEN, by=by)

    # -- from the request to the grant

    def _begin(self, live: _Live) -> None:
        """Ask for the tickets that it doesn't have."""
        try:
            asks = self._asks(live.record)
        except LauncherError as error:
            self._refused(live, error)
            return
        self._borrow(live, {ask.backends[0] for ask in asks})
        if live.record.needs:
            held = live.record.state is LeaseState.ACTIVE
            self._gate.reserve(reservation_id(live.record.id), live.record.needs, held=held)
            live.reserves = True
        for ask in asks:
            if ask.backends[0] not in live.tickets:
                ticket = live.tickets[ask.backends[0]] = self._gate.admit(ask)
                ticket.__enter__()
        for id, ticket in live.tickets.items():
            ticket.on_expired = partial(self._expired, live, id)
        live.asking = tasks.spawn(self._granted(live), name=f"lease {live.record.id}")

    def _asks(self, record: LeaseRecord) -> list[Ask]:
        active = record.state is LeaseState.ACTIVE
        until = self._clocks.core_at(record.expires_at) if active else None
        groups = [find_route(self._config, name).backends for name in record.routes]
        if record.needs:
            groups.append((reservation_id(record.id),))
        # Several begin together, when the last of them is granted.
        ttl = record.ttl if record.ttl is not None and len(groups) == 1 else math.inf
        return [
            Ask(group, max_wait=0.0, urgent=True, operator=True, hold=Hold(ttl, until))
            for group in groups
        ]

    async def _granted(self, live: _Live) -> None:
        """Wait for all tickets, then put the lease in force."""
        try:
            for ticket in list(live.tickets.values()):
                await ticket.granted()
        except LauncherError as error:
            if self._ending:
                live.settled.set()
            else:
                self._refused(live, error)
            return
        if live.record.state is LeaseState.PENDING:
            self._in_force(live)
        live.settled.set()

    def _in_force(self, live: _Live) -> None:
        until = self._until(live.record.ttl)
        live.record = self._records.put(
            replace(
                live.record,
                state=LeaseState.ACTIVE,
                granted_at=self._clocks.wall(),
                expires_at=self._clocks.wall_at(until),
            )
        )
        for ticket in list(live.tickets.values()):
            ticket.renew(until)
        log.info("%s is granted", self.describe(live.record))
        replaced = self._live.get(live.record.replaces or 0)
        if replaced is not None:
            self._end(replaced, LeaseState.RELEASED, by=f"lease {live.record.id}")

    def _refused(self, live: _Live, error: LauncherError) -> None:
        if error.code == "leased":
            error = self.leased_error(self.blocking_lease(live.record))
        failure = Failure(error.code, error.message, error.detail)
        pending = live.record.state is LeaseState.PENDING
        self._end(live, LeaseState.FAILED if pending else LeaseState.BROKEN, error=failure)

    @property
    def _ending(self) -> bool:
        """Whether the launcher ends: failures from now on say nothing about the lease."""
        return self._closing or self._gate.snapshot().closed

    # -- replacing another, and giving back

    def _borrow(self, live: _Live, wanted: set[BackendId]) -> None:
        """Take over the tickets of the lease that it replaces for backends that both hold; its
        other tickets are released, and asked for again if this one fails."""
        old = self._live.get(live.record.replaces or 0)
        if old is None or live.record.state is not LeaseState.PENDING:
            return
        old.lent = True
        if old.asking is not None:
            old.asking.cancel()
        for id in wanted & old.tickets.keys():
            ticket = live.tickets[id] = old.tickets.pop(id)
            live.borrowed.add(id)
            ticket.renew(math.inf)
        self._let_go(old)

    def _give_back(self, live: _Live) -> None:
        """Continue the lease that it was to replace, with the end that it had."""
        old = self._live.get(live.record.replaces or 0)
        if old is None or not old.lent:
            return
        old.lent = False
        until = self._clocks.core_at(old.record.expires_at)
        if until <= self._clocks.now():
            self._let_go(live)
            self._end(old, LeaseState.EXPIRED, at=old.record.expires_at)
            return
        for id in live.borrowed:
            ticket = old.tickets[id] = live.tickets.pop(id)
            ticket.renew(until)
        self._let_go(live)
        self._begin(old)

    # -- ending

    def _expired(self, live: _Live, id: BackendId) -> None:
        """End the lease, a ticket of which the core has ended; and the one that this ticket was
        borrowed from, which could not get it back."""
        if not live.tickets[id].broken:
            self._end(live, LeaseState.EXPIRED)
            return
        by = "a forced stop or a change of routes.toml"
        lender = self._live.get(live.record.replaces or 0)
        if lender is not None and id in live.borrowed:
            self._end(lender, LeaseState.BROKEN, by=by)
        self._end(live, LeaseState.BROKEN, by=by)

    def _end(
        self,
        live: _Live,
        state: LeaseState,
        *,
        by: str | None = None,
        error: Failure | None = None,
        at: float | None = None,
    ) -> None:
        del self._live[live.record.id]
        if live.asking is not None and live.asking is not asyncio.current_task():
            live.asking.cancel()
        self._give_back(live)
        self._let_go(live)
        if live.reserves:
            self._gate.unreserve(reservation_id(live.record.id))
        live.record = self._records.put(
            replace(
                live.record,
                state=state,
                ended_at=self._clocks.wall() if at is None else at,
                ended_by=by,
                error=error,
            )
        )
        log.info("lease %d has ended: %s", live.record.id, why(live.record))
        live.settled.set()
        self._on_end(live.record)

    def _let_go(self, live: _Live) -> None:
        tickets = list(live.tickets.values())
        live.tickets.clear()
        for ticket in tickets:
            ticket.on_expired = None
            ticket.__exit__(None, None, None)

    # -- conflicts

    def backends_of(self, record: LeaseRecord) -> tuple[BackendId, ...]:
        """Return the backends that it holds, or would."""
        granted = self._granted_to(record.id)
        return tuple(granted.get(id, id) for id in self._wanted(record))

    def blocking(self, backends: Iterable[BackendId]) -> list[LeaseRecord]:
        """Return the leases that leave no room for all of these backends together."""
        known = self._gate.snapshot().backends
        return self._blocking({id: known[id].needs for id in backends if id in known})

    def blocking_lease(self, record: LeaseRecord) -> list[LeaseRecord]:
        """Return the other leases that leave no room for this one."""
        found = self._blocking(self._claim(record))
        return [one for one in found if one.id != record.id]

    def leased_error(self, holders: list[LeaseRecord]) -> LauncherError:
        """Return the error `leased`, which names these leases and says when they end."""
        named = "; ".join(self.describe(one) for one in holders) or "Another lease"
        return LauncherError(
            "leased",
            f"{named} holds the place. Wait for its end, release it, or switch with `force`.",
            retry_after=self._retry_after(holders),
        )

    def as_error(
        self, failure: Failure, holders: Iterable[LeaseRecord], message: str | None = None
    ) -> LauncherError:
        """Return the failure as an error, `message` in place of its own; where these leases are
        the reason, with the time after which to ask again."""
        retry_after = self._retry_after(holders) if failure.code == "leased" else None
        return LauncherError(
            failure.code,
            message or failure.message,
            detail=failure.detail,
            retry_after=retry_after,
        )

    def remaining(self, record: LeaseRecord) -> float | None:
        """Return the seconds until it ends; None for a pin and for one that isn't in force."""
        if record.state is not LeaseState.ACTIVE or record.expires_at is None:
            return None
        return max(0.0, record.expires_at - self._clocks.wall())

    def describe(self, record: LeaseRecord) -> str:
        """Return a description for people: number, routes, holder, end."""
        what = ", ".join(record.routes) or "reserved capacity"
        whose = "".join(f", {word}" for word in (record.by, record.note) if word)
        if record.state is not LeaseState.ACTIVE:
            until = "not granted yet"
        elif record.expires_at is None:
            until = "pinned"
        else:
            until = f"until {timestamp(record.expires_at)}"
        return f"Lease {record.id} ({what}{whose}, {until})"

    def _retry_after(self, holders: Iterable[LeaseRecord]) -> float:
        """Return the seconds until the first of them ends, or ASK_AGAIN where none has a known
        end (pins, and leases that aren't granted yet)."""
        ends = (self.remaining(one) for one in holders)
        return min((end for end in ends if end is not None), default=ASK_AGAIN)

    def _blocking(self, wanted: Claim) -> list[LeaseRecord]:
        records = {record.id: record for record in self._records.open()}
        held = [
            Claimed(record.id, self._claim(record), record.expires_at or math.inf)
            for record in records.values()
        ]
        return [records[id] for id in must_end(self._gate.snapshot().capacity, wanted, held)]

    def _claim(self, record: LeaseRecord) -> Claim:
        if record.needs:
            return {reservation_id(record.id): record.needs}
        known = self._gate.snapshot().backends
        return {id: known[id].needs for id in self.backends_of(record) if id in known}

    def _wanted(self, record: LeaseRecord) -> list[BackendId]:
        if record.needs:
            return [reservation_id(record.id)]
        first = {route.name: route.backends[0] for route in self._config.routes}
        return [first[name] for name in record.routes if name in first]

    def _granted_to(self, id: int) -> dict[BackendId, BackendId]:
        live = self._live.get(id)
        tickets = {} if live is None else live.tickets
        return {id: one.grant.backend for id, one in tickets.items() if one.grant is not None}

    def _until(self, ttl: float | None) -> float:
        return math.inf if ttl is None else self._clocks.now() + ttl


def reservation_id(lease: int) -> BackendId:
    """Return the id of the backend that stands for what a lease reserves."""
    return BackendId(f"reserved-{lease}")


def why(record: LeaseRecord) -> str:
    """Return how a lease stands, or why it ended."""
    text = record.state.value
    if record.ended_by is not None:
        text += f" by {record.ended_by}"
    if record.error is not None:
        text += f" ({record.error.message.rstrip('.')})"
    return text


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a lease holds."""

    lease: int
    claim: Claim
    until: float
    """Seconds, on any clock; `inf` for a pin."""


def fits(capacity: Needs, claims: Sequence[Claim]) -> bool:
    """Whether all claims can be resident together; a backend in several of them counts once."""
    free = dict(capacity)
    together: dict[BackendId, Needs] = {}
    for claim in claims:
        together.update(claim)
    for needs in together.values():
        for name, units in needs:
            free[name] = free.get(name, 0) - units
    return all(units >= 0 for units in free.values())


def must_end(capacity: Needs, wanted: Claim, leases: Sequence[Claimed]) -> list[int]:
    """Return the leases that must end for `wanted` to fit: as few as possible, those first that
    end first anyway. Empty also where nothing would help."""
    if fits(capacity, [wanted, *(one.claim for one in leases)]):
        return []
    order = sorted(leases, key=lambda one: (one.until, one.lease))
    gone: list[Claimed] = []
    for one in order:
        gone.append(one)
        if fits(capacity, [wanted, *(rest.claim for rest in order if rest not in gone)]):
            break
    else:
        return []
    for one in list(gone):
        staying = [rest.claim for rest in order if rest is one or rest not in gone]
        if fits(capacity, [wanted, *staying]):
            gone.remove(one)
    return [one.lease for one in gone]


def check_term(config: LauncherConfig, ttl: float) -> None:
    """Raise `invalid_request` where a lease may not last for so many seconds."""
    if not 0 < ttl <= config.max_lease:
        raise LauncherError(
            "invalid_request",
            f"A lease lasts longer than 0 s and at most {seconds(config.max_lease)} "
            "(`max_lease`); it can be renewed, and admins may pin.",
            param="ttl",
        )


def check_needs(config: LauncherConfig, wanted: Needs) -> None:
    """Raise `invalid_request` for needs that can never be reserved."""
    capacity = dict(config.capacity)
    told = ", ".join(f"{name} = {units}" for name, units in config.capacity) or "nothing"
    if not wanted:
        raise LauncherError(
            "invalid_request", f"Say what is needed; the capacity is {told}.", param="needs"
        )
    for name, units in wanted:
        if not 0 < units <= capacity.get(name, 0):
            raise LauncherError(
                "invalid_request",
                f"{name} = {units} can never be had: the capacity is {told}.",
                param="needs",
            )
