"""Leases: who holds which backends, for how long, and what remains of that over a restart.

A lease is tickets at the gate that hold their backends (`Hold`); when one ends by time is the
core's to say. This room gives it a number, remembers it, and asks again after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from launcher import tasks
from launcher.config import LauncherConfig
from launcher.control.book import Book, Store
from launcher.control.clock import Clocks
from launcher.control.finding import check_there, find_route
from launcher.control.gate import Gate
from launcher.control.holders import Holders, reserved, why
from launcher.control.records import LEASES, LeaseRecord, LeaseState
from launcher.control.terms import check_needs, check_term
from launcher.core.types import BackendId, Failure, Hold, Needs
from launcher.errors import LauncherError
from launcher.runtime.admission import Admission, Ask

log = logging.getLogger(__name__)

Ended = Callable[[LeaseRecord], None]
"""Told of each lease that has ended."""


@dataclass(slots=True, eq=False)
class _Live:
    """A lease that isn't over."""

    record: LeaseRecord
    places: dict[BackendId, Admission] = field(default_factory=dict)
    """Its tickets, by the first backend that each may have."""
    asking: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """It was granted or has ended."""
    borrowed: set[BackendId] = field(default_factory=set)
    """Of those, what the lease that it replaces gave it."""
    reserves: bool = False
    """The backend that stands for what it reserves is there."""
    lent: bool = False
    """Another lease is about to take its place: it holds nothing meanwhile."""


class Leases:
    """Every lease there is. Methods return at once, but for `settled` and `durable`."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: Gate,
        store: Store,
        clocks: Clocks,
        on_end: Ended = lambda record: None,
    ) -> None:
        self._config = config
        self._gate = gate
        self._clocks = clocks
        self._on_end = on_end
        self._book: Book[LeaseRecord] = Book(LEASES, store, clocks.wall)
        self._live: dict[int, _Live] = {}
        self._closing = False
        self.holders = Holders(config, gate, clocks, self._book.open, self._granted_to)

    def __repr__(self) -> str:
        return f"<Leases {sorted(self._live)}>"

    # -- life

    def open(self) -> None:
        """Go on with what an earlier run left: those in force keep their end, those that were
        waited for on a connection are gone with it."""
        for record in self._book.open():
            live = self._live[record.id] = _Live(record)
            if record.state is LeaseState.PENDING and record.waited_for:
                self._end(live, LeaseState.RELEASED, by="a restart of the launcher")
            elif record.state is LeaseState.ACTIVE and self.holders.remaining(record) == 0:
                self._end(live, LeaseState.EXPIRED, at=record.expires_at)
            else:
                self._begin(live)

    async def close(self) -> None:
        """Let go of the tickets. The leases stay in force: the next run goes on with them."""
        self._closing = True
        await tasks.cancel(*(live.asking for live in self._live.values()))
        for live in self._live.values():
            self._let_go(live)
            live.settled.set()

    def reconfigure(self, config: LauncherConfig) -> None:
        """Another configuration holds from now on. What is held stays held."""
        self._config = self.holders.config = config

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
        """Ask for the backends of `routes`, or for `needs` to be reserved; `ttl` in seconds,
        None for ever. What comes of it is seen when it has `settled`.

        Raises `unknown_route`, `invalid_request`; and `leased` where it would replace a lease,
        but others than that one are in its way.
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
            others = self.holders.in_the_way_of_lease(record)
            others = [one for one in others if one.id != replaces.id]
            if others:
                raise self.holders.leased(others)
        record = self._book.put(replace(record, id=self._book.next_id()))
        live = self._live[record.id] = _Live(record)
        self._begin(live)
        return record

    async def check_there(self, routes: Iterable[str]) -> None:
        """Before they are taken: see `finding.check_there`. Raises `unknown_route` as well."""
        for name in routes:
            await check_there(self._gate, find_route(self._config, name))

    def refusal(self, record: LeaseRecord) -> LauncherError:
        """Why one that wasn't granted wasn't, as it is answered."""
        if record.error is None:
            return LauncherError("stale_lease", f"Lease {record.id} has ended: {why(record)}.")
        return self.holders.refusal(record.error, self.holders.in_the_way_of_lease(record))

    async def settled(self, id: int) -> LeaseRecord:
        """The record, when the lease was granted or has ended. Raises `draining` where the
        launcher ends before."""
        live = self._live.get(id)
        if live is not None:
            await live.settled.wait()
        record = self.get(id)
        if record.state is LeaseState.PENDING:
            raise LauncherError("draining", "The launcher is shutting down.")
        return record

    async def durable(self) -> None:
        """Wait until all that was changed is on the disk, as far as that is to be had."""
        await self._book.durable()

    # -- what is

    def get(self, id: int) -> LeaseRecord:
        """A lease. Raises `unknown_lease` for a number that was never given out (or so long
        ago that nothing is known of it)."""
        record = self._book.get(id)
        if record is None:
            raise LauncherError("unknown_lease", f"There is no lease {id}.")
        return record

    def open_ones(self) -> list[LeaseRecord]:
        """Those that are pending or in force, the oldest first."""
        return self._book.open()

    # -- changing

    def renew(self, id: int, ttl: float | None) -> LeaseRecord:
        """It ends `ttl` seconds from now (None: as long as it was taken for).

        Raises `unknown_lease`, `stale_lease` and `invalid_request`; and `lease_pending` before
        it is granted.
        """
        if ttl is not None:
            check_term(self._config, ttl)
        live = self._live.get(id)
        if live is None:
            ended = self._book.get(id)
            if ended is None and not self._book.was_issued(id):
                raise LauncherError("unknown_lease", f"There never was a lease {id}.")
            how = "long ago" if ended is None else why(ended)
            raise LauncherError("stale_lease", f"Lease {id} has ended: {how}.")
        record = live.record
        if record.state is LeaseState.PENDING or live.lent:
            raise LauncherError("lease_pending", f"Lease {id} isn't granted yet.")
        wanted = record.ttl if ttl is None else ttl
        until = self._until(wanted)
        live.record = self._book.put(
            replace(record, ttl=wanted, expires_at=self._clocks.wall_at(until))
        )
        for place in list(live.places.values()):
            if id not in self._live:
                break  # so short a time has passed already
            place.renew(until)
        return live.record

    def release(self, id: int, by: str | None = None) -> LeaseRecord:
        """It ends now. One that has ended stays as it ended. Raises `unknown_lease`."""
        live = self._live.get(id)
        if live is not None:
            self._end(live, LeaseState.RELEASED, by=by)
        return self.get(id)

    def break_one(self, id: int, by: str) -> None:
        """It ends now, against its holder's will."""
        live = self._live.get(id)
        if live is not None:
            log.warning("lease %d is broken by %s", id, by)
            self._end(live, LeaseState.BROKEN, by=by)

    # -- from asking to holding

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
            self._gate.reserve(reserved(live.record.id), live.record.needs, held=held)
            live.reserves = True
        for ask in asks:
            if ask.backends[0] not in live.places:
                place = live.places[ask.backends[0]] = self._gate.admit(ask)
                place.__enter__()
        for id, place in live.places.items():
            place.on_expired = partial(self._expired, live, id)
        live.asking = tasks.spawn(self._granted(live), name=f"lease {live.record.id}")

    def _asks(self, record: LeaseRecord) -> list[Ask]:
        active = record.state is LeaseState.ACTIVE
        until = self._clocks.core_at(record.expires_at) if active else None
        groups = [find_route(self._config, name).backends for name in record.routes]
        if record.needs:
            groups.append((reserved(record.id),))
        # Several begin together, when the last of them is granted.
        ttl = record.ttl if record.ttl is not None and len(groups) == 1 else math.inf
        return [
            Ask(group, max_wait=0.0, urgent=True, operator=True, hold=Hold(ttl, until))
            for group in groups
        ]

    async def _granted(self, live: _Live) -> None:
        """Wait for all the tickets; it is in force then."""
        try:
            for place in list(live.places.values()):
                await place.granted()
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
        live.record = self._book.put(
            replace(
                live.record,
                state=LeaseState.ACTIVE,
                granted_at=self._clocks.wall(),
                expires_at=self._clocks.wall_at(until),
            )
        )
        for place in list(live.places.values()):
            place.renew(until)
        log.info("%s is granted", self.holders.named(live.record))
        replaced = self._live.get(live.record.replaces or 0)
        if replaced is not None:
            self._end(replaced, LeaseState.RELEASED, by=f"lease {live.record.id}")

    def _refused(self, live: _Live, error: LauncherError) -> None:
        if error.code == "leased":
            error = self.holders.leased(self.holders.in_the_way_of_lease(live.record))
        failure = Failure(error.code, error.message, error.detail)
        pending = live.record.state is LeaseState.PENDING
        self._end(live, LeaseState.FAILED if pending else LeaseState.BROKEN, error=failure)

    @property
    def _ending(self) -> bool:
        """What fails from now on fails because the launcher ends."""
        return self._closing or self._gate.snapshot().closed

    # -- replacing another, and giving back

    def _borrow(self, live: _Live, wanted: set[BackendId]) -> None:
        """Take the place of the lease that it replaces. Of the backends that both hold the
        tickets go over; of the others they are let go, and asked for again if this one fails."""
        old = self._live.get(live.record.replaces or 0)
        if old is None or live.record.state is not LeaseState.PENDING:
            return
        old.lent = True
        if old.asking is not None:
            old.asking.cancel()
        for id in wanted & old.places.keys():
            place = live.places[id] = old.places.pop(id)
            live.borrowed.add(id)
            place.renew(math.inf)
        self._let_go(old)

    def _give_back(self, live: _Live) -> None:
        """The lease that it was to replace goes on, with the end that it had."""
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
            place = old.places[id] = live.places.pop(id)
            place.renew(until)
        self._let_go(live)
        self._begin(old)

    # -- ending

    def _expired(self, live: _Live, id: BackendId) -> None:
        """The core ended a ticket of it: with it, the lease is over; so is the one that the
        ticket was borrowed from, which would have no way back."""
        if not live.places[id].broken:
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
            self._gate.unreserve(reserved(live.record.id))
        live.record = self._book.put(
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
        places = list(live.places.values())
        live.places.clear()
        for place in places:
            place.on_expired = None
            place.__exit__(None, None, None)

    # -- looking

    def _granted_to(self, id: int) -> dict[BackendId, BackendId]:
        live = self._live.get(id)
        places = {} if live is None else live.places
        return {id: one.grant.backend for id, one in places.items() if one.grant is not None}

    def _until(self, ttl: float | None) -> float:
        return math.inf if ttl is None else self._clocks.now() + ttl
