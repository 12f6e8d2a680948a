"""What each event means. `handle(event, now)` decides, returns effects, and does nothing else.

Plain state, no I/O, no clock: time is an argument, a timer is the effect WakeAt, its expiry
the event Tick. The same events give the same effects; ties break on sorted ids.
"""

from __future__ import annotations

import copy
import heapq
import math

from launcher.core import binding, permits
from launcher.core.backend import Backend
from launcher.core.binding import drained, not_resident, refusal, removed, stuck
from launcher.core.dry_run import DryRun, Step
from launcher.core.effects import Effect, Inspect
from launcher.core.events import (
    Abandoned,
    Arrived,
    Busy,
    Closed,
    Drained,
    Event,
    Hung,
    Launched,
    Observed,
    PermitUsed,
    Reachable,
    Released,
    Renewed,
    Silenced,
    SpecsChanged,
    Started,
    StartFailed,
    StopFailed,
    Stopped,
    StopRequested,
    Tick,
)
from launcher.core.forecast import Forecasts
from launcher.core.placement import over, place
from launcher.core.policy import Bounded, Policy
from launcher.core.state import ASK_INTERVAL, SOFT, START_MARGIN, SchedulerState
from launcher.core.types import (
    BackendId,
    BackendSpec,
    BackendState,
    Failure,
    Needs,
    OnLease,
    Snapshot,
    StopReason,
    Ticket,
    TicketId,
    Wake,
)

_UP = (BackendState.READY, BackendState.DRAINING)
#: Changes nothing but who holds one backend or waits for it, unless places are given anew.
_TRAFFIC = (Arrived, Released, Abandoned, PermitUsed)
#: Drains that the configuration brought about.
_CONFIGURED = (StopReason.REMOVED, StopReason.REPLACED)
_HERE = (BackendState.READY, BackendState.STARTING)


class Scheduler:
    """Decides who is resident and who is served. One event at a time."""

    def __init__(self, capacity: Needs, policy: Policy | None = None) -> None:
        self._state = SchedulerState(capacity, policy or Bounded())

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in one event at `now` (seconds, never going back) and say what is to be done.

        Raises KeyError for a ticket that doesn't stand where the event says: an unpaired
        release is a bug of the caller's and not to be hidden.
        """
        sched = self._state
        sched.effects = []
        if isinstance(event, PermitUsed) and not event.decide:
            sched.fold(event)
            return []
        again = self._take(event, now)
        if now >= sched.leases.next_end and not sched.closed:
            sched.expire(now)
            again = True
        every = again or not isinstance(event, _TRAFFIC)
        while again and not sched.closed:
            sched.again = False
            place(sched, now)
            again = sched.again
        return [*permits.review(sched, now, every=every), *sched.effects]

    def snapshot(self, now: float) -> Snapshot:
        """Everything at one moment."""
        return self._state.snapshot(now)

    def plan(self, ticket: Ticket, now: float) -> list[Step]:
        """What would come of the arrival of `ticket`, step by step, without its coming."""
        again = copy.deepcopy(self)
        return DryRun(again, again._state, now).run(ticket)

    def forecasts(self, now: float) -> Forecasts:
        """What those who wait have to expect; good for a moment."""
        return Forecasts(self._state, now)

    def epoch(self, backend: BackendId) -> int:
        """The epoch that an observation beginning now has to carry."""
        return self._state.backends[backend].epoch

    def state(self, backend: BackendId) -> BackendState:
        """Where a backend stands. Raises KeyError for one that isn't configured."""
        return self._state.backends[backend].state

    def _take(self, event: Event, now: float) -> bool:
        """Note what happened; True where places may have to be given anew."""
        sched = self._state
        match event:
            case Arrived(ticket):
                return self._arrived(ticket, now)
            case Released(ticket_id, ok):
                return self._released(ticket_id, ok, now)
            case PermitUsed():
                return self._left(sched.fold(event), now)
            case Abandoned(ticket_id):
                return self._abandoned(ticket_id, now)
            case Silenced():
                return self._silenced(event, now)
            case Started() | StartFailed() | Stopped() | StopFailed():
                return self._outcome(event, now)
            case Observed():
                return self._observed(event, now)
            case Reachable():
                return self._reachable(event, now)
            case Busy():
                return self._busy(event, now)
            case Hung(id, epoch):
                return self._hung(id, epoch, now)
            case SpecsChanged():
                return _specs_changed(sched, event, now)
            case StopRequested(id, force):
                return _stop_requested(sched, id, force, now)
            case Renewed(ticket_id, until):
                return _renewed(sched, ticket_id, until)
            case Drained(ids, on):
                return _drained(sched, ids, on)
            case Launched():
                return False
            case Closed():
                return _closed(sched, now)
            case Tick():
                return self._tick(now)

    # -- tickets

    def _arrived(self, ticket: Ticket, now: float) -> bool:
        sched = self._state
        backend = binding.choose([sched.backends[id] for id in ticket.backends], now)
        if sched.closed:
            failure = Failure("draining", "The launcher is shutting down.")
            sched.reject(backend, ticket.id, failure, now)
            return False
        if ticket.urgent or ticket.hold is not None:
            return self._ordered(backend, ticket, now)
        if ticket.operator:
            backend.stop_due = False
        state = backend.state
        if state is BackendState.READY and not backend.drained:
            if ticket.quiet:
                sched.grant(backend, ticket, now, cold=False)
                return False
            if self._serves(backend, now):
                backend.arrival_stats.arrived(now)
                sched.grant(backend, ticket, now, cold=False)
                return False
        if ticket.quiet or not self._may_wait(backend, ticket):
            refused = drained(backend) if backend.drained else not_resident(backend)
            sched.reject(backend, ticket.id, refused, now)
            return False
        if backend.blocked and ticket.on_lease is OnLease.REJECT and state not in _HERE:
            sched.reject_leased(backend, ticket.id, now)
            return False
        return self._enqueue(backend, ticket, now)

    def _ordered(self, backend: Backend, ticket: Ticket, now: float) -> bool:
        """What an operator ordered: a switch, a lease. Nobody waits for the end of a lease here:
        those granted, and those that wait themselves, leave it a place, or it is refused."""
        sched, hold = self._state, ticket.hold
        coming = [other for other in sched.queues.values() if other.queue.leases]
        choice = [
            other
            for other in map(sched.backends.__getitem__, ticket.backends)
            if (hold is None and other.state in _HERE) or not sched.leases.in_the_way(other, coming)
        ]
        if not choice:
            sched.reject_leased(backend, ticket.id, now, coming)
            return False
        backend = binding.choose(choice, now)
        backend.stop_due = False
        if hold is not None and hold.until is not None and not backend.removed:
            if backend.drain_reason in SOFT:
                sched.undrain(backend, now, "leased")
            sched.grant(backend, ticket, now, cold=False)
            return True
        here = backend.state is BackendState.READY and not backend.drained
        if here and (hold is not None or backend.room):
            sched.grant(backend, ticket, now, cold=False)
            return hold is not None
        return self._enqueue(backend, ticket, now)

    def _enqueue(self, backend: Backend, ticket: Ticket, now: float) -> bool:
        """It waits, where it may."""
        sched, state = self._state, backend.state
        ordered = ticket.urgent or ticket.hold is not None
        if ticket.operator or ticket.urgent:
            backend.retry_at = None
        refused = refusal(backend, now, ordered=ordered)
        if refused is not None:
            failure, retry_after = refused
            sched.reject(backend, ticket.id, failure, now, retry_after)
            return bool(backend.holds)  # which may be started at once, if that was in its way
        if ticket.hold is None:
            backend.arrival_stats.arrived(now)
        queue = backend.queue
        # One more for a backend that others wait for in vain already changes nothing now.
        news = ordered or not queue.pressing or ticket.priority < queue.rank(now)
        sched.enqueue(backend, ticket, now)
        sched.wake_by(min(ticket.deadline, now + ticket.max_wait), now)
        if state is BackendState.STARTING or (state is BackendState.READY and not backend.room):
            return False
        return news or sched.lingering or state is not BackendState.STOPPED

    def _serves(self, backend: Backend, now: float) -> bool:
        """Whether one that is ready serves a new ticket at once."""
        return backend.room and (
            not self._state.policy.strict or self._state.first_rival(backend) >= now
        )

    def _may_wait(self, backend: Backend, ticket: Ticket) -> bool:
        """Whether a ticket that isn't to wake it may wait: it is up or coming up anyway, or
        (`if-idle`) may turn out to have a free place."""
        if ticket.wake is Wake.ALWAYS or backend.queue.pressing:
            return True
        if backend.state in (BackendState.STARTING, BackendState.READY):
            return True
        return ticket.wake is Wake.IF_IDLE and not backend.resident

    def _released(self, ticket: TicketId, ok: bool, now: float) -> bool:
        """Whether a release matters to anyone but itself."""
        sched = self._state
        backend = sched.tickets[ticket]
        if ticket in backend.holds:
            sched.end_lease(backend, ticket, now)
            return True
        sched.release(ticket, ok, now)
        return self._left(backend, now)

    def _left(self, backend: Backend, now: float) -> bool:
        """Whether it matters to anyone that one has left a backend."""
        sched = self._state
        # A residency that overdue tickets of its own prolonged may be over now.
        prolonged = backend.queue.overdue_at() <= now
        if backend.queue or sched.elsewhere:
            sched.serve(backend, now)
        if backend.holding and backend.state in _UP:
            return prolonged and backend.queue.overdue_at() > now
        if sched.queues or backend.state is not BackendState.READY or backend.busy:
            return True
        if over(sched):
            return True
        sched.wake_by(backend.idle_stop_at, now)
        return False

    def _abandoned(self, ticket: TicketId, now: float) -> bool:
        sched = self._state
        ordered = sched.tickets[ticket].queue.order is not None
        backend = sched.abandon(ticket, now)
        # Only a drain may have been for its sake alone, or a residency prolonged.
        return (
            ordered
            or not backend.queue.pressing
            or backend.state is BackendState.READY
            or any(b.state is BackendState.DRAINING for b in sched.residents.values())
        )

    def _silenced(self, event: Silenced, now: float) -> bool:
        backend = self._state.tickets[event.ticket]
        if event.ticket not in backend.in_flight or event.ticket in backend.mute:
            return False
        if event.silent:
            backend.silent.add(event.ticket)
            self._state.serve(backend, now)
        else:
            backend.silent.discard(event.ticket)
        backend.last_used = now
        return True

    # -- outcomes

    def _outcome(self, event: Started | StartFailed | Stopped | StopFailed, now: float) -> bool:
        sched = self._state
        backend = sched.backends.get(event.backend)
        if backend is None or event.epoch != backend.epoch:
            return False
        match event:
            case Started(instance=instance):
                sched.ready(backend, instance, now)
                if backend.removed:
                    sched.drain(backend, StopReason.REMOVED, now)
            case StartFailed(failure=failure):
                sched.start_failed(backend, failure, now)
            case Stopped():
                sched.stopped(backend, now)
            case StopFailed(failure=failure):
                sched.stop_failed(backend, failure, now)
                sched.reject_queue(backend, stuck(backend), now)
        return True

    def _observed(self, event: Observed, now: float) -> bool:
        sched = self._state
        backend = sched.backends.get(event.backend)
        if backend is None:
            return False
        if event.epoch != backend.epoch:
            sched.effects.append(Inspect(backend.id))
            return False
        first = not backend.known
        backend.known = True
        sched.unseen.pop(backend.id, None)
        if backend.state in _UP:
            if not event.running:
                sched.died(backend, now)
                return True
            if event.instance != backend.instance:
                sched.adopt(backend, event.instance, event.running_for, now)
                return True
        elif not backend.resident and event.running and not sched.closed:
            sched.adopt(backend, event.instance, event.running_for, now)
            return True
        elif backend.stop_retry_at is not None and not event.running:
            # Its stop had failed, and it ended all the same: by somebody's hand, or at last.
            sched.stopped(backend, now)
            return True
        return first

    def _reachable(self, event: Reachable, now: float) -> bool:
        """While an engine is away, what is up there serves on and keeps its place: nobody could
        stop it, so nothing that needs its place is waited for. Stops that failed meanwhile are
        tried again as soon as it is back."""
        sched = self._state
        for id in event.backends:
            backend = sched.backends.get(id)
            if backend is None:
                continue
            was_away, backend.unreachable = backend.unreachable is not None, None
            if event.reachable:
                if was_away and backend.stop_retry_at is not None:
                    backend.stop_retry_at = now
            else:
                backend.unreachable = event.failure or Failure(
                    "docker_unavailable", f"What holds {id} doesn't answer."
                )
                if backend.state not in _UP and backend.state is not BackendState.STARTING:
                    sched.reject_queue(backend, backend.unreachable, now)
                elif backend.drain_reason in SOFT and backend.cut_at is None:
                    sched.undrain(backend, now)
        return True

    def _busy(self, event: Busy, now: float) -> bool:
        backend = self._state.backends.get(event.backend)
        if backend is None or event.epoch != backend.epoch:
            return False
        backend.asked_epoch = -1
        backend.busy = event.busy
        if event.busy:
            backend.ask_at = now + ASK_INTERVAL
            backend.last_used = now
            if backend.drain_reason is StopReason.IDLE:
                self._state.undrain(backend, now)
        else:
            backend.clear_epoch = backend.epoch
            self._state.settle(backend, now)
        return True

    def _hung(self, id: BackendId, epoch: int, now: float) -> bool:
        sched = self._state
        backend = sched.backends.get(id)
        if backend is None or epoch != backend.epoch or backend.state not in _UP:
            return False
        sched.cut(backend, f"{id} no longer answers and is started anew.", now)
        sched.drain(backend, StopReason.HUNG, now)
        return True

    # -- time

    def _tick(self, now: float) -> bool:
        sched = self._state
        sched.wake = math.inf
        while sched.deadlines and sched.deadlines[0][0] <= now:
            _, ticket = heapq.heappop(sched.deadlines)
            waiting = sched.tickets.get(ticket)
            if waiting is not None and ticket in waiting.queue:
                waited = now - waiting.queue[ticket].since
                message = f"Waited {waited:.0f} s for {waiting.id}, which is {waiting.state.value}."
                sched.reject(waiting, ticket, Failure("queue_timeout", message), now)
        for backend in () if sched.closed else list(sched.residents.values()):
            if backend.state is BackendState.STARTING and now >= backend.deadline + START_MARGIN:
                message = f"{backend.id} was not ready within {backend.spec.start_timeout:.0f} s."
                sched.start_failed(backend, Failure("start_timeout", message), now)
            elif backend.stop_retry_at is not None and now >= backend.stop_retry_at:
                sched.retry_stop(backend, now)
            elif backend.state is BackendState.READY and now >= backend.idle_stop_at:
                sched.drain(backend, StopReason.IDLE, now)
            elif backend.state is BackendState.DRAINING:
                sched.settle(backend, now)
        return True


# -- what operators do


def _stop_requested(sched: SchedulerState, id: BackendId, force: bool, now: float) -> bool:
    """After what runs; a lease is waited for as well, and the backend serves on until then.
    With `force` leases are broken and exchanges cut."""
    backend = sched.backends[id]
    if backend.holds and not force:
        backend.stop_due = True
        return False
    if force:
        sched.break_leases(backend, now)
        if backend.state in _UP:
            sched.cut(backend, f"{id} was stopped by an operator.", now)
    sched.stop_as_told(backend, now)
    return True


def _renewed(sched: SchedulerState, ticket: TicketId, until: float) -> bool:
    """A lease ends at another time. Raises KeyError for one that isn't in force."""
    backend = sched.tickets[ticket]
    if ticket not in backend.holds:
        raise KeyError(ticket)
    sched.leases.set(backend, ticket, until)
    return True


def _drained(sched: SchedulerState, ids: tuple[BackendId, ...] | None, on: bool) -> bool:
    """New tickets are refused, or taken again. Raises KeyError for one that isn't configured."""
    if ids is None:
        sched.drain_new = on
    for backend in [sched.backends[id] for id in (sched.backends if ids is None else ids)]:
        backend.drained = on
    return False


def _closed(sched: SchedulerState, now: float) -> bool:
    """The launcher shuts down."""
    sched.closed = True
    for backend in sched.backends.values():
        failure = Failure("draining", "The launcher is shutting down.")
        sched.reject_queue(backend, failure, now)
    return False


def _specs_changed(sched: SchedulerState, event: SpecsChanged, now: float) -> bool:
    """The configuration is another."""
    if event.capacity is not None:
        sched.capacity.clear()
        sched.capacity.update(event.capacity)
    for spec in event.added:
        _add(sched, spec, now)
    for spec in event.changed:
        _change(sched, sched.backends[spec.id], spec, now)
    for spec in event.replaced:
        _replace(sched, sched.backends[spec.id], spec, now)
    for id in event.removed:
        _remove(sched, sched.backends[id], now)
    sched.backends = dict(sorted(sched.backends.items()))
    sched.review_leases()
    for spec in event.changed:
        sched.serve(sched.backends[spec.id], now)
    return True


def _add(sched: SchedulerState, spec: BackendSpec, now: float) -> None:
    again = sched.backends.get(spec.id)
    if again is None:
        new = Backend(
            spec, spec.estimates, epoch=sched.first_epoch, since=now, drained=sched.drain_new
        )
        sched.backends[spec.id] = sched.unseen[spec.id] = new
        return
    _change(sched, again, spec, now)


def _change(sched: SchedulerState, backend: Backend, spec: BackendSpec, now: float) -> None:
    """It is to be what it is, with another spec: had it been removed or replaced before, what
    runs stays."""
    backend.spec = spec
    backend.removed = backend.replaced = False
    if backend.resident:
        # What runs is what was meant all along: what it is said to need counts at once.
        backend.placement = spec.placements[0]
    sched.demand.changed(backend)
    going = backend.state is BackendState.DRAINING and backend.drain_reason in _CONFIGURED
    if going and backend.cut_at is None:
        sched.undrain(backend, now, "configured")


def _replace(sched: SchedulerState, backend: Backend, spec: BackendSpec, now: float) -> None:
    backend.spec, backend.removed = spec, False
    sched.demand.changed(backend)
    if not backend.resident:
        sched.replace(backend)
        return
    backend.replaced = True
    if backend.state is BackendState.STARTING:
        sched.stop(backend, StopReason.REPLACED, now)
    else:
        sched.drain(backend, StopReason.REPLACED, now)


def _remove(sched: SchedulerState, backend: Backend, now: float) -> None:
    sched.break_leases(backend, now)
    backend.removed = True
    sched.reject_queue(backend, removed(backend), now)
    if backend.state in _UP:
        sched.drain(backend, StopReason.REMOVED, now)
    elif not backend.resident and not backend.in_flight:
        sched.forget(backend)
