"""The same traffic through permits and through plain events, side by side.

`Twins` looks like a scheduler. What may use a permit does, now and then; a second scheduler
gets all of it as events. After every event both must have decided the same, and once the first
was told what was done under its permits, both must know the same.
"""

from __future__ import annotations

from collections.abc import Set
from random import Random
from typing import Any

from launcher.core import events as ev
from launcher.core.effects import Abort, Admit, Effect, PermitClosed, PermitOpened
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, BackendState, Needs, Snapshot, Ticket, TicketId
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Grant as Granted
from launcher.runtime.permits import Permit, Permits


class Exchange:
    """Who uses a permit."""

    def __init__(self, permit: Permit) -> None:
        self.permit = permit
        self.cuts = 0

    def cut(self, error: LauncherError) -> None:
        self.cuts += 1


class Twins:
    """A scheduler whose permits are used, and one that is told everything."""

    def __init__(self, capacity: Needs, rng: Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.permitted = Scheduler(capacity)
        self.plain = Scheduler(capacity)
        self.exchanges: dict[TicketId, Exchange] = {}
        self.permits = Permits(self._grant, lambda: None, self._report)
        self.reported: list[Effect] = []
        self.counts = dict.fromkeys(("entered", "reported", "folded", "ended late", "cut"), 0)

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        self.now = now
        theirs = _decisions(self.plain.handle(event, now))
        match event:
            case ev.Arrived(ticket) if (permit := self._permit_for(ticket)) is not None:
                exchange = self.exchanges[ticket.id] = Exchange(permit)
                permit.enter(exchange, now)
                self.counts["entered"] += 1
                assert theirs == [Admit(ticket.id, permit.backend, cold=False)]
                self._compare_sometimes()
                return theirs
            case ev.Released(id, ok) if id in self.exchanges:
                exchange = self.exchanges.pop(id)
                self.reported = []
                self.counts["ended late"] += exchange.permit.number not in {
                    one.number for one in self.permits.open.values()
                }
                exchange.permit.leave(exchange, now, ok)
                ours = _decisions(self.reported)
            case _:
                self._fold()
                ours = _decisions(self._carry_out(self.permitted.handle(event, now)))
        assert ours == theirs, f"after {event}: {ours} under permits, {theirs} without"
        self._compare_sometimes()
        return theirs

    def snapshot(self, now: float) -> Snapshot:
        return self.plain.snapshot(now)

    def epoch(self, backend: BackendId) -> int:
        assert self.permitted.epoch(backend) == self.plain.epoch(backend)
        return self.plain.epoch(backend)

    def state(self, backend: BackendId) -> BackendState:
        return self.plain.state(backend)

    def compare(self) -> None:
        """What both know is the same, to the last digit."""
        self._fold()
        assert _known(self.permitted, self.now) == _known(self.plain, self.now)
        for permit in self.permits.open.values():
            if not permit.room:
                continue
            ticket = Ticket(TicketId(0), (permit.backend,))
            step = self.plain.plan(ticket, self.now)[0].effect
            assert step == Admit(TicketId(0), permit.backend, cold=False), "it grants too much"

    def _compare_sometimes(self) -> None:
        if self.rng.random() < 0.2:
            self.compare()

    def _permit_for(self, ticket: Ticket) -> Permit | None:
        special = ticket.quiet or ticket.operator or ticket.urgent or ticket.hold is not None
        permit = self.permits.open.get(ticket.backends[0])
        if special or len(ticket.backends) > 1 or permit is None or not permit.room:
            return None
        return permit if self.rng.random() < 0.8 else None

    def _fold(self) -> None:
        for used in self.permits.noted():
            self.counts["folded"] += 1
            assert self.permitted.handle(used, self.now) == []

    def _report(self, permit: Permit) -> None:
        self.counts["reported"] += 1
        used = self.permits.reported(permit)
        self._fold()
        self.reported += self._carry_out(self.permitted.handle(used, self.now))

    def _carry_out(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case PermitOpened():
                    self.permits.opened(effect)
                case PermitClosed():
                    self.permits.closed(effect)
                case Abort(backend):
                    before = [one for one in self.exchanges.values() if not one.cuts]
                    self.permits.abort(effect)
                    for exchange in self.exchanges.values():
                        assert exchange.cuts <= 1
                        assert exchange.cuts or exchange.permit.backend != backend
                    self.counts["cut"] += sum(one.cuts for one in before)
                case _:
                    pass
        return effects

    def _grant(self, backend: BackendId) -> Granted:
        return Granted(backend, self.permitted.epoch(backend), Endpoint(), False, 0.0, 0.0)

    def in_flight(self) -> Set[TicketId]:
        return self.exchanges.keys()


def _decisions(effects: list[Effect]) -> list[Effect]:
    return [one for one in effects if not isinstance(one, PermitOpened | PermitClosed)]


def _known(scheduler: Scheduler, now: float) -> dict[str, Any]:
    """All that decisions and forecasts are made from."""
    backends = {}
    for id, one in scheduler._state.backends.items():
        kept = {name: getattr(one, name) for name in type(one).__slots__}
        arrival_stats = kept.pop("arrival_stats")
        kept["arrival_stats"] = {
            name: getattr(arrival_stats, name) for name in type(arrival_stats).__slots__
        }
        kept["queue"] = list(kept["queue"])
        kept["in_flight"] = sorted(kept["in_flight"].values())
        kept["silent"], kept["mute"] = len(kept["silent"]), len(kept["mute"])
        del kept["permit"]
        backends[id] = kept
    return {
        "backends": backends,
        "snapshot": scheduler.snapshot(now),
        "forecasts": scheduler.forecasts(now).of_new(),
        "wake": scheduler._state.wake,
    }
