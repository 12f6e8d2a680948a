"""The scheduler's state, and the verbs that change it: tickets are entered and crossed out,
leases begin and end, backends are started, drained and stopped, and the effects of that noted.

Verbs don't decide. They are called by the scheduler (what an event means) and by `placement`
(who gets a place).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from launcher.core.backend import Backend, OpenPermit
from launcher.core.binding import choose, leased, refusal, removed
from launcher.core.demand import Demand
from launcher.core.effects import (
    Abort,
    Action,
    Admit,
    Adopt,
    AskBusy,
    Decided,
    Effect,
    Expired,
    Forget,
    Reject,
    Replace,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.events import PermitUsed
from launcher.core.lifecycle import Cause, move
from launcher.core.policy import Policy, Urgency
from launcher.core.queue import Queued
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

#: Seconds that a start may overrun its deadline before the scheduler itself ends it.
START_MARGIN = 5.0
#: The least time in which something found running has to become ready.
ADOPT_FLOOR = 30.0
#: Seconds between two questions whether a backend still has work of its own.
ASK_INTERVAL = 10.0
#: Seconds after which cut exchanges that didn't let go no longer stop a stop.
CUT_GRACE = 5.0
FIRST_BACKOFF = 1.0
LAST_BACKOFF = 300.0
#: Drains that end when nobody wants the place any more, and until whose beginning arrivals are
#: still served.
SOFT = frozenset({StopReason.IDLE, StopReason.EVICTED, StopReason.SURPLUS})


class SchedulerState:
    """Backends, tickets and capacity, and the effects of the event being handled."""

    def __init__(self, capacity: Needs, policy: Policy) -> None:
        self.policy = policy
        self.demand = Demand(policy)
        self.capacity: dict[str, int] = dict(capacity)
        self.leases = LeaseTable(self.capacity)
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
        self.surplus = False
        """Residents occupied more than there is when permits were reviewed last."""
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
        self, action: Action, backend: Backend, why: str, now: float, cost: float | None = None
    ) -> None:
        """Say why; before the effects that it explains."""
        wanted_by = backend.wanted_by
        wanting = backend if wanted_by is None else self.backends.get(wanted_by, backend)
        self.effects.append(
            Decided(
                action=action,
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
            self.effects.append(Admit(ticket.id, backend.id, cold, until))
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
        self.effects.append(Admit(ticket.id, backend.id, cold))

    def _hold(self, backend: Backend, ticket: TicketId, now: float) -> None:
        """The ticket is in flight, and holds its backend."""
        if not backend.holding:
            backend.arrival_stats.began(now)
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
                backend.arrival_stats.arrived(one)
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
        """Admit to those who wait for it as many as it takes: while it is ready to anybody,
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
        self.decided(Action.REJECT, backend, failure.code, now)
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
            backend.arrival_stats.fell_idle(now)
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
                backend.arrival_stats.fell_idle(now)
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

    # -- verbs

    def _move(self, backend: Backend, cause: Cause, now: float) -> None:
        backend.state = move(backend.state, cause)
        backend.epoch += 1
        backend.since = now
        self.demand.changed(backend)
        if backend.resident:
            self.residents[backend.id] = backend
        else:
            self.residents.pop(backend.id, None)
        self.review_claim(backend)

    def start(self, backend: Backend, why: str, now: float) -> None:
        """Begin a start; its needs are taken from now on."""
        self.decided(Action.START, backend, why, now, backend.expected_start)
        backend.paid = bool(backend.pays)
        self._move(backend, Cause.START, now)
        placement = backend.placement = backend.spec.placements[0]
        backend.adopted = False
        backend.retry_at = None
        backend.restart_at = -math.inf
        backend.deadline = now + backend.spec.start_timeout
        self.effects.append(Start(backend.id, backend.epoch, placement, backend.deadline))

    def adopt(self, backend: Backend, instance: str | None, running_for: float, now: float) -> None:
        """Somebody else started it (or an earlier launcher): it becomes ready by its probe."""
        replaced = backend.state in (BackendState.READY, BackendState.DRAINING)
        self._forget_drain(backend)
        self.decided(Action.START, backend, "restarted" if replaced else "found running", now)
        self._move(backend, Cause.REPLACED if replaced else Cause.ADOPT, now)
        self._mute(backend)
        backend.placement = backend.spec.placements[0]
        backend.adopted = True
        backend.instance = instance
        backend.retry_at = None
        left = backend.spec.start_timeout - running_for
        backend.deadline = now + max(left, min(ADOPT_FLOOR, backend.spec.start_timeout))
        self.effects.append(Adopt(backend.id, backend.epoch, backend.deadline))

    def ready(self, backend: Backend, instance: str, now: float) -> None:
        """It may receive requests: whoever waits for it is granted in the same breath, so that
        it carries its waiters' tickets before anybody can think of evicting it."""
        if not backend.adopted:
            backend.started_in(now - backend.since)
        self._move(backend, Cause.READY, now)
        backend.instance = instance
        backend.ready_at = backend.resident_from = now
        backend.ready_from = backend.queue.arrivals
        backend.deadline = math.inf
        self.serve(backend, now)

    def evict(
        self, victim: Backend, wanting: Backend, price: float, urgency: Urgency, now: float
    ) -> None:
        """It drains for somebody else, or goes on doing so for another. For an operator's order
        only those are served to the end who are served already."""
        if urgency is Urgency.ORDERED:
            victim.drain_from = 0
        if victim.wanted_by == wanting.id and victim.state is BackendState.DRAINING:
            return
        victim.wanted_by, victim.price = wanting.id, price
        if victim.state is BackendState.READY:
            why = "evicted"
            if victim.held(now):
                why = "ordered" if urgency is Urgency.ORDERED else "overdue"
            self.drain(victim, StopReason.EVICTED, now, why)
        else:
            victim.drain_reason = StopReason.EVICTED

    def drain(
        self, backend: Backend, reason: StopReason, now: float, why: str | None = None
    ) -> None:
        """Serve what runs and who came before, queue what comes, then stop; `settle` sees to
        the end of it."""
        if backend.state is BackendState.READY:
            self._move(backend, Cause.DRAIN, now)
            backend.drain_from = min(backend.drain_from, backend.queue.arrivals)
            if backend.in_flight or backend.spec.asks_busy:
                self.decided(Action.DRAIN, backend, why or reason.value, now, backend.price)
        elif backend.state is not BackendState.DRAINING:
            return
        if backend.drain_reason is None or reason not in SOFT:
            backend.drain_reason = reason
        self.settle(backend, now)

    def undrain(self, backend: Backend, now: float, why: str = "no longer wanted") -> None:
        """Nobody wants its place any more: it goes on."""
        self._move(backend, Cause.UNDRAIN, now)
        self._forget_drain(backend)
        self.decided(Action.UNDRAIN, backend, why, now)
        self.serve(backend, now)

    def settle(self, backend: Backend, now: float) -> None:
        """Stop a draining backend once nothing holds it: ask whether it has work of its own,
        cut what is left of silent tunnels, and wait for those to let go."""
        if self.closed or backend.state is not BackendState.DRAINING:
            return
        soft = backend.drain_reason in SOFT
        overrun = backend.cut_at is not None and now >= backend.cut_at + CUT_GRACE
        if backend.holding and not overrun:
            return
        if soft and backend.spec.asks_busy and backend.clear_epoch != backend.epoch:
            if backend.asked_epoch != backend.epoch and not (backend.busy and now < backend.ask_at):
                backend.asked_epoch = backend.epoch
                self.effects.append(AskBusy(backend.id, backend.epoch))
            return
        if backend.in_flight and not overrun:
            if backend.cut_at is None:
                self.cut(backend, "The connection was silent and its backend is needed.", now)
            return
        self.stop(backend, backend.drain_reason or StopReason.EVICTED, now)

    def cut(self, backend: Backend, message: str, now: float) -> None:
        """End every exchange on it; each will release its ticket."""
        backend.cut_at = now
        self.effects.append(Abort(backend.id, "backend_stopped", message))

    def stop(self, backend: Backend, reason: StopReason, now: float) -> None:
        """Begin a stop; its needs stay taken until that is confirmed. For whom it was made to go
        has paid for the place from here on."""
        self.decided(Action.STOP, backend, reason.value, now, backend.price)
        wanting = None if backend.wanted_by is None else self.backends.get(backend.wanted_by)
        if wanting is not None and wanting.wants_place:
            self.claim(wanting, backend)
        self._move(backend, Cause.STOP, now)
        self._forget_drain(backend)
        backend.stop_reason = reason
        backend.deadline = math.inf
        backend.stop_backoff = 0.0
        self.effects.append(Stop(backend.id, backend.epoch, reason))

    def stop_as_told(self, backend: Backend, now: float) -> None:
        """An operator wants it stopped, after what runs."""
        backend.stop_due = False
        message = f"{backend.id} was stopped by an operator."
        self.reject_queue(backend, Failure("backend_stopped", message), now)
        if backend.state is BackendState.STARTING:
            self.stop(backend, StopReason.OPERATOR, now)
        else:
            self.drain(backend, StopReason.OPERATOR, now)

    def retry_stop(self, backend: Backend, now: float) -> None:
        """A stop that failed is tried again."""
        since = backend.since
        self._move(backend, Cause.RETRY_STOP, now)
        backend.since = since
        backend.stop_retry_at = None
        self.effects.append(
            Stop(backend.id, backend.epoch, backend.stop_reason or StopReason.EVICTED)
        )

    def stop_failed(self, backend: Backend, failure: Failure, now: float) -> None:
        """It keeps its needs; the stop is tried again, after 1 s at first, 5 min at last."""
        backend.stop_failure = failure
        backend.stop_backoff = grow(backend.stop_backoff)
        backend.stop_retry_at = now + backend.stop_backoff

    def stopped(self, backend: Backend, now: float) -> None:
        """A stop is confirmed: its needs are free."""
        failed = backend.failed_start
        if backend.stop_failure is None and not failed:
            backend.stopped_in(now - backend.since)
        self._move(backend, Cause.GAVE_UP if failed else Cause.STOPPED, now)
        self._forget_run(backend, now)

    def died(self, backend: Backend, now: float) -> None:
        """It no longer runs, and not by our doing. One that is leased is started again without
        anybody's asking: not over and over."""
        if backend.holds:
            lived = now - backend.ready_at
            backend.backoff = grow(0.0 if lived > LAST_BACKOFF else backend.backoff)
            backend.restart_at = now + backend.backoff
        self._move(backend, Cause.DIED, now)
        self._forget_run(backend, now)

    def _mute(self, backend: Backend) -> None:
        """What ran on it ran on something that is gone: its tickets may take their time to
        notice, but hold nothing of what is started next."""
        backend.silent.update(backend.in_flight)
        backend.mute.update(backend.in_flight)

    def start_failed(self, backend: Backend, failure: Failure, now: float) -> None:
        """Tell all who wait why, back off, and stop what may be left of the start. What was
        only found running says nothing of how a start would go: those who wait get one."""
        if not backend.adopted:
            backend.failure = failure
            backend.failed_start = True
            # To look for something that isn't there costs nothing, unless others went for it, and
            # it may be made any moment. Nobody looks for a leased one but we.
            missing = failure.code == "backend_missing" and not (backend.holds or backend.paid)
            backend.backoff = FIRST_BACKOFF if missing else grow(backend.backoff)
            backend.retry_at = now + backend.backoff
            self.reject_queue(backend, failure, now, backend.backoff)
        self.stop(backend, StopReason.FAILED_START, now)

    def replace(self, backend: Backend) -> None:
        """Nothing runs of what it was: nobody knows yet whether what it is now runs, and what
        was learned of the old one says nothing of it."""
        backend.replaced = False
        backend.estimates, backend.spreads = backend.spec.estimates, {}
        backend.failure = backend.retry_at = None
        backend.backoff = 0.0
        backend.known = False
        self.unseen[backend.id] = backend
        self.effects.append(Replace(backend.id))

    def _forget_drain(self, backend: Backend) -> None:
        backend.drain_reason = backend.wanted_by = backend.price = None
        backend.drain_from = math.inf
        backend.cut_at = None
        backend.asked_epoch = backend.clear_epoch = -1

    def _forget_run(self, backend: Backend, now: float) -> None:
        self._forget_drain(backend)
        self._mute(backend)
        backend.instance = backend.placement = backend.stop_reason = None
        backend.stop_failure = backend.stop_retry_at = None
        backend.stop_backoff = 0.0
        backend.failed_start = backend.busy = False
        if backend.replaced:
            self.replace(backend)
        if backend.removed:
            self.reject_queue(backend, removed(backend), now)
            if not backend.in_flight:
                self.forget(backend)


class LeaseTable:
    """The leases in force. Times are absolute, on the core's clock; `inf` is a pin's end."""

    def __init__(self, capacity: Mapping[str, int]) -> None:
        self._capacity = capacity
        self._leased: dict[BackendId, Backend] = {}
        self.next_end = math.inf
        """When the first of them ends."""

    def __repr__(self) -> str:
        return f"<LeaseTable on {', '.join(sorted(self._leased))}>"

    def __len__(self) -> int:
        """How many backends are leased."""
        return len(self._leased)

    def __iter__(self) -> Iterator[Backend]:
        """The leased backends, by id."""
        return iter([self._leased[id] for id in sorted(self._leased)])

    def set(self, backend: Backend, ticket: TicketId, until: float) -> None:
        """A lease begins, or ends at another time than was said before."""
        backend.holds[ticket] = until
        self._leased[backend.id] = backend
        self._look_ahead()

    def end(self, backend: Backend, ticket: TicketId) -> None:
        """A lease is over. Raises KeyError where there is none."""
        del backend.holds[ticket]
        if not backend.holds:
            del self._leased[backend.id]
        self._look_ahead()

    def over(self, now: float) -> list[tuple[Backend, TicketId]]:
        """Those whose time has come, the earliest first."""
        if now < self.next_end:
            return []
        found = [
            (until, ticket, backend)
            for backend in self._leased.values()
            for ticket, until in backend.holds.items()
            if until <= now
        ]
        return [(backend, ticket) for _, ticket, backend in sorted(found, key=lambda f: f[:2])]

    def in_the_way(self, backend: Backend, coming: Iterable[Backend] = ()) -> list[Backend]:
        """Whose leases leave `backend` no place; empty where it fits beside all of them, and
        where it would not fit alone either. `coming`: others to be reckoned as leased."""
        others = {one.id: one for one in (*coming, *self) if one is not backend}
        wanted = backend.wanted_needs
        if not others or not fits({}, wanted, self._capacity):
            return []
        used = _sum(others.values())
        if fits(used, wanted, self._capacity):
            return []
        short = {n for n, units in wanted if used.get(n, 0) + units > self._capacity.get(n, 0)}
        names = sorted(others)
        return [others[id] for id in names if any(n in short for n, _ in others[id].wanted_needs)]

    def free_at(self, backend: Backend) -> float:
        """When enough leases of others will have ended for it to fit beside the rest."""
        others = sorted(
            (one for one in self._leased.values() if one is not backend),
            key=lambda one: (one.leased_until, one.id),
        )
        at = -math.inf
        while others and not fits(_sum(others), backend.wanted_needs, self._capacity):
            at = others.pop(0).leased_until
        return at

    def _look_ahead(self) -> None:
        self.next_end = min(
            (min(backend.holds.values()) for backend in self._leased.values()), default=math.inf
        )


def _sum(backends: Iterable[Backend]) -> dict[str, int]:
    used: dict[str, int] = {}
    for one in backends:
        for name, units in one.wanted_needs:
            used[name] = used.get(name, 0) + units
    return used


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


def fits(usage: Mapping[str, int], needs: Needs, capacity: Mapping[str, int]) -> bool:
    """Whether `needs` go beside `usage` without any resource of theirs above the capacity."""
    return all(usage.get(name, 0) + n <= capacity.get(name, 0) for name, n in needs)


def add(usage: dict[str, int], needs: Needs, sign: int = 1) -> None:
    """Add needs to a usage, or take them out with `sign=-1`."""
    for name, n in needs:
        usage[name] = usage.get(name, 0) + sign * n


def grow(backoff: float) -> float:
    """The next back-off: 1 s, doubling, 5 min at most."""
    return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF
