"""The scheduler's state and the verbs that change it: each keeps the books and emits effects.

Verbs don't decide. They are called by the scheduler (what an event means) and by `placing`
(who gets a place).
"""

from __future__ import annotations

import heapq
import math

from launcher.core.backend import SOFT, Backend
from launcher.core.effects import (
    Abort,
    Adopt,
    AskBusy,
    Decided,
    Deed,
    Effect,
    Grant,
    Reject,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.lifecycle import Cause, move
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


class World:
    """Backends, tickets and capacity, and the effects of the event being handled."""

    def __init__(self, capacity: Needs) -> None:
        self.capacity: dict[str, int] = dict(capacity)
        self.backends: dict[BackendId, Backend] = {}
        self.residents: dict[BackendId, Backend] = {}
        self.queues: dict[BackendId, Backend] = {}
        """Those that somebody waits for."""
        self.unseen: dict[BackendId, Backend] = {}
        """Those of which nobody has said yet whether they run."""
        self.tickets: dict[TicketId, Backend] = {}
        self.deadlines: list[tuple[float, TicketId]] = []
        self.closed = False
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

    # -- the lifecycle

    def _move(self, backend: Backend, cause: Cause, now: float) -> None:
        backend.state = move(backend.state, cause)
        backend.epoch += 1
        backend.since = now
        if backend.resident:
            self.residents[backend.id] = backend
        else:
            self.residents.pop(backend.id, None)

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

    def start(self, backend: Backend, why: str, now: float) -> None:
        """Begin a start; its needs are taken from now on."""
        self.decided(Deed.START, backend, why, now, backend.expected_start)
        backend.pays = ()
        self._move(backend, Cause.START, now)
        placement = backend.placement = backend.spec.placements[0]
        backend.adopted = False
        backend.retry_at = None
        backend.deadline = now + backend.spec.start_timeout
        self.effects.append(Start(backend.id, backend.epoch, placement, backend.deadline))

    def adopt(self, backend: Backend, instance: str | None, running_for: float, now: float) -> None:
        """Somebody else started it (or an earlier launcher): it becomes ready by its probe."""
        replaced = backend.state in (BackendState.READY, BackendState.DRAINING)
        self._forget_drain(backend)
        self.decided(Deed.START, backend, "restarted" if replaced else "found running", now)
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
            backend.measured(start=now - backend.since)
        self._move(backend, Cause.READY, now)
        backend.instance = instance
        backend.ready_at = now
        backend.ready_from = backend.queue.arrivals
        backend.deadline = math.inf
        self.serve(backend, now)

    def evict(
        self, victim: Backend, wanting: Backend, price: float, urgent: bool, now: float
    ) -> None:
        """It drains for somebody else, or goes on doing so for another."""
        if victim.wanted_by == wanting.id and victim.state is BackendState.DRAINING:
            return
        self._no_longer_wanted(victim)
        wanting.pays = (*wanting.pays, victim.id)
        victim.wanted_by, victim.price = wanting.id, price
        if victim.state is BackendState.READY:
            self.drain(victim, StopReason.EVICTED, now, "overdue" if urgent else "evicted")
        else:
            victim.drain_reason = StopReason.EVICTED

    def drain(
        self, backend: Backend, reason: StopReason, now: float, why: str | None = None
    ) -> None:
        """Serve what runs and who came before, queue what comes, then stop; `settle` sees to
        the end of it."""
        if backend.state is BackendState.READY:
            self._move(backend, Cause.DRAIN, now)
            backend.drain_from = backend.queue.arrivals
            if backend.in_flight or backend.spec.asks_busy:
                self.decided(Deed.DRAIN, backend, why or reason.value, now, backend.price)
        elif backend.state is not BackendState.DRAINING:
            return
        if backend.drain_reason is None or reason not in SOFT:
            backend.drain_reason = reason
        self.settle(backend, now)

    def undrain(self, backend: Backend, now: float) -> None:
        """Nobody wants its place any more: it goes on."""
        self._move(backend, Cause.UNDRAIN, now)
        self._no_longer_wanted(backend)
        self._forget_drain(backend)
        self.decided(Deed.UNDRAIN, backend, "no longer wanted", now)
        self.serve(backend, now)

    def _no_longer_wanted(self, victim: Backend) -> None:
        wanting = None if victim.wanted_by is None else self.backends.get(victim.wanted_by)
        if wanting is not None:
            wanting.pays = tuple(id for id in wanting.pays if id != victim.id)

    def settle(self, backend: Backend, now: float) -> None:
        """Stop a draining backend once nothing holds it: ask whether it has work of its own,
        cut what is left of silent tunnels, and wait for those to let go."""
        if self.closed or backend.state is not BackendState.DRAINING:
            return
        soft = backend.drain_reason in SOFT
        overrun = backend.cut_at is not None and now >= backend.cut_at + CUT_GRACE
        if (backend.holding or backend.promised) and not overrun:
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
        """Begin a stop; its needs stay taken until that is confirmed."""
        self.decided(Deed.STOP, backend, reason.value, now, backend.price)
        self._move(backend, Cause.STOP, now)
        self._forget_drain(backend)
        backend.stop_reason = reason
        backend.deadline = math.inf
        backend.stop_backoff = 0.0
        self.effects.append(Stop(backend.id, backend.epoch, reason))

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
            backend.measured(stop=now - backend.since)
        self._move(backend, Cause.GAVE_UP if failed else Cause.STOPPED, now)
        self._forget_run(backend, now)

    def died(self, backend: Backend, now: float) -> None:
        """It no longer runs, and not by our doing."""
        self._move(backend, Cause.DIED, now)
        self._forget_run(backend, now)

    def _mute(self, backend: Backend) -> None:
        """What ran on it ran on something that is gone: its tickets may take their time to
        notice, but hold nothing of what is started next."""
        backend.silent.update(backend.in_flight)
        backend.mute.update(backend.in_flight)

    def start_failed(self, backend: Backend, failure: Failure, now: float) -> None:
        """Tell all who wait why, back off, and stop what may be left of the start."""
        backend.failure = failure
        backend.failed_start = True
        backend.backoff = grow(backend.backoff)
        backend.retry_at = now + backend.backoff
        self.reject_queue(backend, failure, now, backend.backoff)
        self.stop(backend, StopReason.FAILED_START, now)

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
        if backend.removed:
            self.reject_queue(
                backend, Failure("backend_stopped", f"{backend.id} is no longer configured."), now
            )
            if not backend.in_flight:
                self.forget(backend)

    def forget(self, backend: Backend) -> None:
        """It is no longer configured, and nothing of it is left."""
        self.backends.pop(backend.id, None)
        self.unseen.pop(backend.id, None)

    # -- tickets

    def enqueue(self, backend: Backend, ticket: Ticket, now: float) -> None:
        """The ticket waits for this backend."""
        backend.queue.put(ticket, now)
        self.queues[backend.id] = backend
        self.tickets[ticket.id] = backend
        if ticket.deadline < math.inf:
            heapq.heappush(self.deadlines, (ticket.deadline, ticket.id))

    def _dequeue(self, backend: Backend, ticket: TicketId) -> None:
        backend.queue.take(ticket)
        if not backend.queue:
            self.queues.pop(backend.id, None)

    def grant(self, backend: Backend, ticket: Ticket, now: float, *, cold: bool) -> None:
        """It counts as in flight from here on, whenever its waiter wakes."""
        if ticket.quiet:
            backend.silent.add(ticket.id)
            backend.mute.add(ticket.id)
        elif not backend.holding:
            backend.habits.began(now)
        backend.in_flight[ticket.id] = now
        self.tickets[ticket.id] = backend
        self.effects.append(Grant(ticket.id, backend.id, cold))

    def serve(self, backend: Backend, now: float) -> None:
        """Grant to those who wait for it as many as it takes: while it is ready to anybody,
        while it drains to those who came before that."""
        until = math.inf
        if backend.state is BackendState.DRAINING and backend.drain_reason in SOFT:
            until = backend.drain_from
        elif backend.state is not BackendState.READY:
            return
        while backend.room:
            queued = backend.queue.first(now, until)
            if queued is None:
                return
            self._dequeue(backend, queued.ticket.id)
            self.grant(backend, queued.ticket, now, cold=queued.number <= backend.ready_from)

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
        """Nobody who waits for it will be served."""
        for ticket in list(backend.queue):
            self.reject(backend, ticket, failure, now, retry_after)

    def abandon(self, ticket: TicketId, now: float) -> None:
        """A queued ticket left. Raises KeyError where it isn't queued."""
        backend = self.tickets[ticket]
        self._dequeue(backend, ticket)
        del self.tickets[ticket]
        if not backend.holding and not backend.queue:
            backend.habits.fell_idle(now)

    def release(self, ticket: TicketId, ok: bool, now: float) -> Backend:
        """A granted ticket is done. Raises KeyError for one that isn't in flight."""
        backend = self.tickets[ticket]
        granted = backend.in_flight.pop(ticket)
        del self.tickets[ticket]
        silent = ticket in backend.silent
        backend.silent.discard(ticket)
        if not silent:
            backend.last_used = now
            if not backend.holding and not backend.queue:
                backend.habits.fell_idle(now)
            if ok:
                backend.measured(service=now - granted)
        if ticket in backend.mute:
            backend.mute.discard(ticket)
        elif ok:
            backend.backoff = 0.0
            backend.failure = None
        if backend.removed and not backend.in_flight and not backend.resident:
            self.forget(backend)
        return backend

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


def add(usage: dict[str, int], needs: Needs, sign: int = 1) -> None:
    """Add needs to a usage, or take them out with `sign=-1`."""
    for name, n in needs:
        usage[name] = usage.get(name, 0) + sign * n


def grow(backoff: float) -> float:
    """The next back-off: 1 s, doubling, 5 min at most."""
    return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF
