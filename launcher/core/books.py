"""The scheduler's books: who stands where, who waits for what, and the effects of the event
being handled. Tickets are entered and crossed out here; what is done to backends is `world`'s.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import replace

from launcher.core.backend import Backend, OpenPermit
from launcher.core.binding import choose
from launcher.core.demand import Demand
from launcher.core.effects import Decided, Deed, Effect, Expired, Forget, Grant, Reject, WakeAt
from launcher.core.events import PermitUsed
from launcher.core.leases import Leases
from launcher.core.policy import Policy
from launcher.core.queue import Queued
from launcher.core.refusal import leased, refusal
from launcher.core.types import (
    BackendId,
    BackendState,
    Failure,
    Needs,
    Snapshot,
    StopReason,
    Ticket,
    TicketId,
)

#: Drains that end when nobody wants the place any more, and until whose beginning arrivals are
#: still served.
SOFT = frozenset({StopReason.IDLE, StopReason.EVICTED, StopReason.SURPLUS})


class Books:
    """Backends, tickets and capacity, and the effects of the event being handled."""

    def __init__(self, capacity: Needs, policy: Policy) -> None:
        self.policy = policy
        self.demand = Demand(policy)
        self.capacity: dict[str, int] = dict(capacity)
        self.leases = Leases(self.capacity)
        self.backends: dict[BackendId, Backend] = {}
        self.residents: dict[BackendId, Backend] = {}
        self.queues: dict[BackendId, Backend] = {}
        """Those that somebody waits for."""
        self.unseen: dict[BackendId, Backend] = {}
        """Those of which nobody has said yet whether they run."""
        self.tickets: dict[TicketId, Backend] = {}
        self.elsewhere: dict[BackendId, dict[TicketId, Ticket]] = {}
        """Queued tickets that another backend than the one they wait for may serve as well."""
        self.deadlines: list[tuple[float, TicketId]] = []
        self.lingering = False
        """Some resident keeps its place, idle, for so long as few enough wait for it."""
        self.again = False
        """Something that the pass went by is another since it began: which backend a ticket waits
        for, whom leases leave no place."""
        self.closed = False
        self.drain_new = False
        """Backends that are added refuse new tickets from the beginning."""
        self.first_epoch = 0
        """Of a backend that is added: beyond that of any that had its name before."""
        self.claims = 0
        """How many there have been."""
        self.permitted: dict[BackendId, Backend] = {}
        """Those whose permit is open."""
        self.permits = 0
        """How many there have been."""
        self.permit_key: tuple[object, ...] = ()
        """What all permits depended on when they were reviewed last."""
        self.touched: dict[BackendId, Backend] = {}
        """Whose room, queue or state may be another since permits were reviewed."""
        self.prewarmed = False
        self.wake = math.inf
        """The time last asked for with WakeAt."""
        self.effects: list[Effect] = []

    # -- looking

    def usage(self) -> dict[str, int]:
        """Units of each resource that residents occupy."""
        used: dict[str, int] = {}
        for backend in self.residents.values():
            add(used, backend.needs)
        return used

    def snapshot(self, now: float) -> Snapshot:
        """Everything at one moment."""
        return Snapshot(
            now=now,
            capacity=tuple(sorted(self.capacity.items())),
            used=tuple(sorted(self.usage().items())),
            backends={id: backend.snapshot(now) for id, backend in self.backends.items()},
            closed=self.closed,
        )

    # -- telling

    def decided(
        self, deed: Deed, backend: Backend, why: str, now: float, cost: float | None = None
    ) -> None:
        """Say why; before the effects that it explains."""
        wanted_by = backend.wanted_by
        wanting = backend if wanted_by is None else self.backends.get(wanted_by, backend)
        self.effects.append(
            Decided(
                deed=deed,
                backend=backend.id,
                why=why,
                wanted_by=wanted_by,
                pays=backend.pays,
                cost=cost,
                waiting=len(wanting.queue),
                waited=wanting.oldest_wait(now),
            )
        )

    # -- tickets

    def enqueue(self, backend: Backend, ticket: Ticket, since: float) -> None:
        """The ticket waits for this backend."""
        backend.queue.put(ticket, since)
        for id in _others(backend, ticket):
            self.elsewhere.setdefault(id, {})[ticket.id] = ticket
            if id in self.backends:
                self.touched[id] = self.backends[id]
        self.demand.changed(backend)
        self.touched[backend.id] = backend
        self.queues[backend.id] = backend
        self.tickets[ticket.id] = backend
        if ticket.deadline < math.inf:
            self.next_deadline()  # forgets those of the departed, however seldom anybody asks
            heapq.heappush(self.deadlines, (ticket.deadline, ticket.id))

    def _dequeue(self, backend: Backend, ticket: TicketId) -> Queued:
        queued = backend.queue.take(ticket)
        for id in _others(backend, queued.ticket):
            self.elsewhere[id].pop(ticket)
            if not self.elsewhere[id]:
                del self.elsewhere[id]
                if id in self.backends:
                    self.touched[id] = self.backends[id]
        self.demand.changed(backend)
        self.touched[backend.id] = backend
        if not backend.queue:
            self.queues.pop(backend.id, None)
        self.review_claim(backend)
        return queued

    def grant(self, backend: Backend, ticket: Ticket, now: float, *, cold: bool) -> None:
        """It counts as in flight, or as leased, from here on, whenever its waiter wakes."""
        if ticket.hold is not None:
            self.tickets[ticket.id] = backend
            hold = ticket.hold
            until = now + hold.ttl if hold.until is None else hold.until
            self.leases.set(backend, ticket.id, until)
            self.effects.append(Grant(ticket.id, backend.id, cold, until))
            self.review_leases()
            return
        if ticket.urgent:
            backend.resident_from = now
        if ticket.quiet:
            self.tickets[ticket.id] = backend
            backend.in_flight[ticket.id] = now
            backend.silent.add(ticket.id)
            backend.mute.add(ticket.id)
        else:
            self._hold(backend, ticket.id, now)
        self.effects.append(Grant(ticket.id, backend.id, cold))

    def _hold(self, backend: Backend, ticket: TicketId, now: float) -> None:
        """The ticket is in flight, and holds its backend."""
        if not backend.holding:
            backend.habits.began(now)
        backend.in_flight[ticket] = now
        self.tickets[ticket] = backend
        self.touched[backend.id] = backend

    def fold(self, used: PermitUsed) -> Backend:
        """Take in what was done under a permit: it leaves what the same arrivals and releases
        would have left, had each been an event."""
        backend = self.backends[used.backend]
        permit = backend.permit
        if permit is None or permit.number != used.permit:
            permit = OpenPermit(used.permit, 0, False)  # it was taken back: nobody enters
        times = []
        for one in used.log:
            if isinstance(one, tuple):
                now, number, ok = one
                permit.left += 1
                time = self._let_go(backend, ticket_under(permit.number, number), ok, now)
                if time is not None:
                    times.append(time)
            else:
                permit.entered += 1
                backend.habits.arrived(one)
                self._hold(backend, ticket_under(permit.number, permit.entered), one)
        backend.served_in(times)
        self._forget_removed(backend)
        return backend

    def first_rival(self, backend: Backend) -> float:
        """When the first came of those who wait for its place."""
        names = {name for name, _ in backend.needs}
        up = (BackendState.READY, BackendState.STARTING)
        return min(
            (
                other.queue.oldest
                for other in self.queues.values()
                if other is not backend
                and other.state not in up
                and not other.blocked
                and not names.isdisjoint(name for name, _ in other.needs)
            ),
            default=math.inf,
        )

    def serve(self, backend: Backend, now: float) -> None:
        """Grant to those who wait for it as many as it takes: while it is ready to anybody,
        while it drains to those who came before that."""
        until = math.inf
        if backend.state is BackendState.DRAINING and backend.drain_reason in SOFT:
            until = backend.drain_from
        elif backend.state is not BackendState.READY:
            return
        if backend.queue.leases and backend.state is BackendState.READY:
            for one in list(backend.queue.leases.values()):
                self._dequeue(backend, one.ticket.id)
                self.grant(backend, one.ticket, now, cold=one.number <= backend.ready_from)
        first = self.first_rival(backend) if self.policy.strict else math.inf
        while backend.room:
            queued = backend.queue.first(now, until)
            if queued is None or (queued.since > first and not queued.ticket.urgent):
                break
            self._dequeue(backend, queued.ticket.id)
            self.grant(backend, queued.ticket, now, cold=queued.number <= backend.ready_from)
        while backend.state is BackendState.READY and backend.room and not backend.queue:
            ticket = next(iter(self.elsewhere.get(backend.id, {}).values()), None)
            if ticket is None:
                return
            queued = self._dequeue(self.tickets[ticket.id], ticket.id)
            self.grant(backend, ticket, now, cold=queued.since < backend.ready_at)

    def reject(
        self,
        backend: Backend,
        ticket: TicketId,
        failure: Failure,
        now: float,
        retry_after: float | None = None,
    ) -> None:
        """End a ticket, queued or new."""
        self.decided(Deed.REJECT, backend, failure.code, now)
        if ticket in backend.queue:
            self._dequeue(backend, ticket)
        self.tickets.pop(ticket, None)
        self.effects.append(
            Reject(ticket, backend.id, failure.code, failure.message, retry_after, failure.detail)
        )

    def reject_queue(
        self,
        backend: Backend,
        failure: Failure,
        now: float,
        retry_after: float | None = None,
    ) -> None:
        """Nobody who waits for it will be served by it; but perhaps by another."""
        for id in list(backend.queue):
            if not self._rebind(backend, id, now):
                self.reject(backend, id, failure, now, retry_after)

    def reject_leased(
        self, backend: Backend, ticket: TicketId, now: float, coming: Sequence[Backend] = ()
    ) -> None:
        """End a ticket, queued or new, since leases keep its place; those `coming` as well."""
        failure = leased(backend, self.leases.in_the_way(backend, coming))
        wait = self.leases.free_at(backend) - now
        self.reject(backend, ticket, failure, now, wait if 0 < wait < math.inf else None)

    def rebind_blocked(self, backend: Backend, id: TicketId, now: float) -> bool:
        """Let a ticket whose place leases keep wait for another of its backends, if there is one
        that they leave a place."""
        others = (self.backends.get(other) for other in backend.queue[id].ticket.backends)
        if all(other is None or other.blocked or refusal(other, now) for other in others):
            return False
        return self._rebind(backend, id, now)

    def _rebind(self, backend: Backend, id: TicketId, now: float) -> bool:
        """Let a ticket wait for another of its backends that would take it; this one is out of
        the question from now on."""
        queued = backend.queue[id]
        rest = tuple(other for other in queued.ticket.backends if other != backend.id)
        choice = [self.backends[other] for other in rest if other in self.backends]
        choice = [
            other
            for other in choice
            if refusal(other, now) is None
            and not (queued.ticket.hold is not None and self.leases.in_the_way(other))
        ]
        if not choice or self.closed:
            return False
        self._dequeue(backend, id)
        other = choose(choice, now)
        self.enqueue(other, replace(queued.ticket, backends=rest), queued.since)
        self.serve(other, now)
        self.again = True
        return True

    def abandon(self, ticket: TicketId, now: float) -> Backend:
        """A queued ticket left. Raises KeyError where it isn't queued."""
        backend = self.tickets[ticket]
        lease = self._dequeue(backend, ticket).ticket.hold
        del self.tickets[ticket]
        if not backend.holding and not backend.queue and lease is None:
            backend.habits.fell_idle(now)
        return backend

    def release(self, ticket: TicketId, ok: bool, now: float) -> Backend:
        """A granted ticket is done. Raises KeyError for one that isn't in flight."""
        backend = self.tickets[ticket]
        time = self._let_go(backend, ticket, ok, now)
        if time is not None:
            backend.served_in((time,))
        self._forget_removed(backend)
        return backend

    def _let_go(self, backend: Backend, ticket: TicketId, ok: bool, now: float) -> float | None:
        """The ticket is no longer in flight. Return the seconds that its exchange took, where
        that says something about the backend."""
        granted = backend.in_flight.pop(ticket)
        del self.tickets[ticket]
        self.touched[backend.id] = backend
        silent = ticket in backend.silent
        backend.silent.discard(ticket)
        if not silent:
            backend.last_used = now
            if not backend.holding and not backend.queue:
                backend.habits.fell_idle(now)
        if ticket in backend.mute:
            backend.mute.discard(ticket)
        elif ok:
            backend.backoff = 0.0
            backend.failure = None
        return now - granted if ok and not silent else None

    def _forget_removed(self, backend: Backend) -> None:
        """Forget a backend that was removed once nothing of it is left."""
        if backend.removed and not backend.in_flight and not backend.resident:
            self.forget(backend)

    # -- leases

    def expire(self, now: float) -> None:
        """End the leases whose time has come."""
        for backend, ticket in self.leases.over(now):
            self.end_lease(backend, ticket, now)
            self.effects.append(Expired(ticket, backend.id))

    def break_leases(self, backend: Backend, now: float) -> None:
        """End all leases of a backend before their time."""
        for ticket in list(backend.holds):
            self.end_lease(backend, ticket, now)
            self.effects.append(Expired(ticket, backend.id, broken=True))

    def end_lease(self, backend: Backend, ticket: TicketId, now: float) -> None:
        """A lease is over; to have been leased is to have been of use."""
        self.leases.end(backend, ticket)
        del self.tickets[ticket]
        backend.last_used = now
        if backend.state not in (BackendState.STARTING, BackendState.READY):
            backend.stop_due = False
        self.review_leases()

    def review_leases(self) -> None:
        """Leases, needs or the capacity are others: note anew whom leases leave no place."""
        for backend in self.backends.values():
            others = () if backend.holds else self.leases.in_the_way(backend)
            before = backend.blocked
            backend.blocked_by = tuple(other.id for other in others)
            if backend.blocked is not before:
                self.again = True
                self.demand.changed(backend)
            self.review_claim(backend)

    # -- claims

    def claim(self, backend: Backend, victim: Backend) -> None:
        """The victim is told to stop for it: the place is its own, from the first of them on."""
        if not backend.pays:
            self.claims += 1
            backend.claim = self.claims
            self.demand.changed(backend)
        if victim.id not in backend.pays:
            backend.pays = (*backend.pays, victim.id)

    def unclaim(self, backend: Backend) -> None:
        """It has what it paid for, gave up, or lost it: it stands among the others again."""
        if backend.pays:
            backend.pays = ()
            self.demand.changed(backend)

    def review_claim(self, backend: Backend) -> None:
        """Who wants no place any more has no claim on one."""
        if not backend.wants_place:
            self.unclaim(backend)

    # -- time

    def next_deadline(self) -> float:
        """The earliest deadline of a queued ticket."""
        heap = self.deadlines
        while heap:
            at, ticket = heap[0]
            backend = self.tickets.get(ticket)
            if backend is not None and ticket in backend.queue:
                return at
            heapq.heappop(heap)
        return math.inf

    def wake_by(self, at: float, now: float) -> None:
        """Ask for a Tick at `at`, unless an earlier one is on its way."""
        if at < self.wake:
            self.wake = max(at, now)
            self.effects.append(WakeAt(self.wake))

    # -- backends

    def forget(self, backend: Backend) -> None:
        """It is no longer configured, and nothing of it is left."""
        self.backends.pop(backend.id, None)
        self.first_epoch = max(self.first_epoch, backend.epoch + 1)
        self.unseen.pop(backend.id, None)
        self.effects.append(Forget(backend.id))


def ticket_under(permit: int, number: int) -> TicketId:
    """Return the ticket of the one who entered as that number: below 0, so that it is nobody
    else's."""
    return TicketId(-((permit << 48) + number))


def _others(backend: Backend, ticket: Ticket) -> tuple[BackendId, ...]:
    """Which may serve it as well as the one that it waits for. A lease was found to fit beside
    the others on the one that it was bound to."""
    if len(ticket.backends) == 1 or ticket.hold is not None:
        return ()
    return tuple(id for id in ticket.backends if id != backend.id)


def add(usage: dict[str, int], needs: Needs, sign: int = 1) -> None:
    """Add needs to a usage, or take them out with `sign=-1`."""
    for name, n in needs:
        usage[name] = usage.get(name, 0) + sign * n
