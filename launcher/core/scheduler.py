"""What each event means. `handle(event, now)` decides, returns effects, and does nothing else.

Plain state, no I/O, no clock: time is an argument, a timer is the effect WakeAt, its expiry
the event Tick. The same events give the same effects; ties break on sorted ids.
"""

from __future__ import annotations

import heapq
import math

from launcher.core import placing
from launcher.core.backend import Backend
from launcher.core.effects import Effect, Inspect
from launcher.core.events import (
    Abandoned,
    Arrived,
    Busy,
    Closed,
    Event,
    Hung,
    Observed,
    Reachable,
    Released,
    Silenced,
    SpecsChanged,
    Started,
    StartFailed,
    StopFailed,
    Stopped,
    StopRequested,
    Tick,
)
from launcher.core.types import (
    BackendId,
    BackendState,
    Failure,
    Needs,
    Snapshot,
    StopReason,
    Ticket,
)
from launcher.core.world import ASK_INTERVAL, SOFT, START_MARGIN, World

_UP = (BackendState.READY, BackendState.DRAINING)


class Scheduler:
    """Decides who is resident and who is served. One event at a time."""

    def __init__(self, capacity: Needs) -> None:
        self._world = World(capacity)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in one event at `now` (seconds, never going back) and say what is to be done.

        Raises KeyError for a ticket that doesn't stand where the event says: an unpaired
        release is a bug of the caller's and not to be hidden.
        """
        world = self._world
        world.effects = []
        if self._take(event, now) and not world.closed:
            placing.place(world, now)
        return world.effects

    def snapshot(self, now: float) -> Snapshot:
        """Everything at one moment."""
        return self._world.snapshot(now)

    def epoch(self, backend: BackendId) -> int:
        """The epoch that an observation beginning now has to carry."""
        return self._world.backends[backend].epoch

    def state(self, backend: BackendId) -> BackendState:
        """Where a backend stands. Raises KeyError for one that isn't configured."""
        return self._world.backends[backend].state

    def _take(self, event: Event, now: float) -> bool:
        """Note what happened; True where places may have to be given anew."""
        match event:
            case Arrived(ticket):
                return self._arrived(ticket, now)
            case Released(ticket_id, ok):
                return self._released(self._world.release(ticket_id, ok, now), now)
            case Abandoned(ticket_id):
                self._world.abandon(ticket_id)
                return True
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
            case StopRequested(id, force):
                return self._stop_requested(id, force, now)
            case SpecsChanged():
                return self._specs(event, now)
            case Closed():
                return self._close()
            case Tick():
                return self._tick(now)

    # -- tickets

    def _arrived(self, ticket: Ticket, now: float) -> bool:
        world = self._world
        backend = self._bind(ticket, now)
        if world.closed:
            world.reject(backend, ticket.id, Failure("draining", "The launcher is shutting down."))
            return False
        state = backend.state
        if state is BackendState.READY:
            world.grant(backend, ticket, now, cold=False)
            return False
        if ticket.quiet:
            message = f"{backend.id} is {state.value}, and this kind of request doesn't start it."
            world.reject(backend, ticket.id, Failure("not_resident", message))
            return False
        if ticket.operator:
            backend.retry_at = None
        refusal = self._refusal(backend, now)
        if refusal is not None:
            world.reject(backend, ticket.id, *refusal)
            return False
        world.enqueue(backend, ticket, now)
        return True

    def _bind(self, ticket: Ticket, now: float) -> Backend:
        """Of the ticket's backends the one to serve it: ready, else starting, else the first
        that would take it, else the first."""
        if len(ticket.backends) == 1:
            return self._world.backends[ticket.backends[0]]
        choice = [self._world.backends[id] for id in ticket.backends]
        for state in (BackendState.READY, BackendState.STARTING):
            for backend in choice:
                if backend.state is state:
                    return backend
        for backend in choice:
            if self._refusal(backend, now) is None:
                return backend
        return choice[0]

    def _refusal(self, backend: Backend, now: float) -> tuple[Failure, float | None] | None:
        """Why a ticket can't even wait for this backend now, and after how long it may."""
        if len(backend.queue) >= backend.spec.max_queue:
            message = f"{len(backend.queue)} requests wait for {backend.id} already."
            return Failure("queue_full", message), None
        if backend.retry_at is not None and now < backend.retry_at and backend.failure is not None:
            return backend.failure, backend.retry_at - now
        if backend.unreachable is not None and backend.state not in _UP:
            return backend.unreachable, None
        if backend.stop_failure is not None:
            return stuck(backend), None
        return None

    def _released(self, backend: Backend, now: float) -> bool:
        """Whether a release matters to anyone but itself."""
        world = self._world
        if backend.holding and backend.state is BackendState.READY:
            return False
        if world.waiting or backend.state is not BackendState.READY or backend.busy:
            return True
        if placing.over(world):
            return True
        world.wake_by(backend.idle_stop_at, now)
        return False

    def _silenced(self, event: Silenced, now: float) -> bool:
        backend = self._world.tickets[event.ticket]
        if event.ticket not in backend.in_flight or event.ticket in backend.mute:
            return False
        if event.silent:
            backend.silent.add(event.ticket)
        else:
            backend.silent.discard(event.ticket)
        backend.last_used = now
        return True

    # -- outcomes

    def _outcome(self, event: Started | StartFailed | Stopped | StopFailed, now: float) -> bool:
        world = self._world
        backend = world.backends.get(event.backend)
        if backend is None or event.epoch != backend.epoch:
            return False
        match event:
            case Started(instance=instance):
                world.ready(backend, instance, now)
                if backend.removed:
                    world.drain(backend, StopReason.REMOVED, now)
            case StartFailed(failure=failure):
                world.start_failed(backend, failure, now)
            case Stopped():
                world.stopped(backend, now)
            case StopFailed(failure=failure):
                world.stop_failed(backend, failure, now)
                world.reject_queue(backend, stuck(backend))
        return True

    def _observed(self, event: Observed, now: float) -> bool:
        world = self._world
        backend = world.backends.get(event.backend)
        if backend is None:
            return False
        if event.epoch != backend.epoch:
            world.effects.append(Inspect(backend.id))
            return False
        first = not backend.known
        backend.known = True
        if backend.state in _UP:
            if not event.running:
                world.died(backend, now)
                return True
            if event.instance != backend.instance:
                world.adopt(backend, event.instance, event.running_for, now)
                return True
        elif not backend.resident and event.running and not world.closed:
            world.adopt(backend, event.instance, event.running_for, now)
            return True
        elif backend.stop_retry_at is not None and not event.running:
            # Its stop had failed, and it ended all the same: by somebody's hand, or at last.
            world.stopped(backend, now)
            return True
        return first

    def _reachable(self, event: Reachable, now: float) -> bool:
        """While an engine is away, what is up there serves on and keeps its place: nobody could
        stop it, so nothing that needs its place is waited for. Stops that failed meanwhile are
        tried again as soon as it is back."""
        world = self._world
        for id in event.backends:
            backend = world.backends.get(id)
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
                    world.reject_queue(backend, backend.unreachable)
                elif backend.drain_reason in SOFT and backend.cut_at is None:
                    world.undrain(backend, now)
        return True

    def _busy(self, event: Busy, now: float) -> bool:
        backend = self._world.backends.get(event.backend)
        if backend is None or event.epoch != backend.epoch:
            return False
        backend.asked_epoch = -1
        backend.busy = event.busy
        if event.busy:
            backend.ask_at = now + ASK_INTERVAL
            backend.last_used = now
            if backend.drain_reason is StopReason.IDLE:
                self._world.undrain(backend, now)
        else:
            backend.clear_epoch = backend.epoch
            self._world.settle(backend, now)
        return True

    def _hung(self, id: BackendId, epoch: int, now: float) -> bool:
        world = self._world
        backend = world.backends.get(id)
        if backend is None or epoch != backend.epoch or backend.state not in _UP:
            return False
        world.cut(backend, f"{id} no longer answers and is started anew.", now)
        world.drain(backend, StopReason.HUNG, now)
        return True

    # -- operators

    def _stop_requested(self, id: BackendId, force: bool, now: float) -> bool:
        world = self._world
        backend = world.backends[id]
        message = f"{id} was stopped by an operator."
        world.reject_queue(backend, Failure("backend_stopped", message))
        if backend.state is BackendState.STARTING:
            world.stop(backend, StopReason.OPERATOR, now)
        elif backend.state in _UP:
            if force:
                world.cut(backend, message, now)
            world.drain(backend, StopReason.OPERATOR, now)
        return True

    def _specs(self, event: SpecsChanged, now: float) -> bool:
        world = self._world
        for spec in event.added:
            again = world.backends.get(spec.id)
            if again is None:
                world.backends[spec.id] = Backend(spec, spec.estimates, since=now)
            else:
                again.spec, again.removed = spec, False
        for spec in event.changed:
            world.backends[spec.id].spec = spec
        for id in event.removed:
            backend = world.backends[id]
            backend.removed = True
            world.reject_queue(
                backend, Failure("backend_stopped", f"{id} is no longer configured.")
            )
            if backend.state in _UP:
                world.drain(backend, StopReason.REMOVED, now)
            elif not backend.resident and not backend.in_flight:
                del world.backends[id]
        world.backends = dict(sorted(world.backends.items()))
        return True

    def _close(self) -> bool:
        world = self._world
        world.closed = True
        for backend in world.backends.values():
            world.reject_queue(backend, Failure("draining", "The launcher is shutting down."))
        return False

    # -- time

    def _tick(self, now: float) -> bool:
        world = self._world
        world.wake = math.inf
        while world.deadlines and world.deadlines[0][0] <= now:
            _, ticket = heapq.heappop(world.deadlines)
            waiting = world.tickets.get(ticket)
            if waiting is not None and ticket in waiting.queue:
                waited = now - waiting.queue[ticket].since
                message = f"Waited {waited:.0f} s for {waiting.id}, which is {waiting.state.value}."
                world.reject(waiting, ticket, Failure("queue_timeout", message))
        for backend in world.backends.values():
            if world.closed:
                break
            if backend.state is BackendState.STARTING and now >= backend.deadline + START_MARGIN:
                message = f"{backend.id} was not ready within {backend.spec.start_timeout:.0f} s."
                world.start_failed(backend, Failure("start_timeout", message), now)
            elif backend.stop_retry_at is not None and now >= backend.stop_retry_at:
                world.retry_stop(backend, now)
            elif backend.state is BackendState.READY and now >= backend.idle_stop_at:
                world.drain(backend, StopReason.IDLE, now)
            elif backend.state is BackendState.DRAINING:
                world.settle(backend, now)
        return True


def stuck(backend: Backend) -> Failure:
    """What those are told who wait for a backend that doesn't stop."""
    failure = backend.stop_failure
    why = failure.message if failure is not None else "it doesn't stop"
    return Failure(
        "backend_stop_failed",
        f"{backend.id} has to stop first and doesn't: {why}",
        failure.detail if failure is not None else None,
    )
