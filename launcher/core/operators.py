"""What operators do to the scheduler's world: stop, drain, renew, configure, end.

Each function notes what one event means, and says whether places may have to be given anew.
"""

from __future__ import annotations

from launcher.core import refusal
from launcher.core.backend import Backend
from launcher.core.events import SpecsChanged
from launcher.core.types import BackendId, BackendSpec, BackendState, Failure, StopReason, TicketId
from launcher.core.world import World

_UP = (BackendState.READY, BackendState.DRAINING)
#: Drains that the configuration brought about.
_CONFIGURED = (StopReason.REMOVED, StopReason.REPLACED)


def stop_requested(world: World, id: BackendId, force: bool, now: float) -> bool:
    """After what runs; a lease is waited for as well, and the backend serves on until then.
    With `force` leases are broken and exchanges cut."""
    backend = world.backends[id]
    if backend.holds and not force:
        backend.stop_due = True
        return False
    if force:
        world.break_leases(backend, now)
        if backend.state in _UP:
            world.cut(backend, f"{id} was stopped by an operator.", now)
    world.stop_as_told(backend, now)
    return True


def renewed(world: World, ticket: TicketId, until: float) -> bool:
    """A lease ends at another time. Raises KeyError for one that isn't in force."""
    backend = world.tickets[ticket]
    if ticket not in backend.holds:
        raise KeyError(ticket)
    world.leases.set(backend, ticket, until)
    return True


def drained(world: World, ids: tuple[BackendId, ...] | None, on: bool) -> bool:
    """New tickets are refused, or taken again. Raises KeyError for one that isn't configured."""
    if ids is None:
        world.drain_new = on
    for backend in [world.backends[id] for id in (world.backends if ids is None else ids)]:
        backend.drained = on
    return False


def closed(world: World, now: float) -> bool:
    """The launcher shuts down."""
    world.closed = True
    for backend in world.backends.values():
        failure = Failure("draining", "The launcher is shutting down.")
        world.reject_queue(backend, failure, now)
    return False


def specs_changed(world: World, event: SpecsChanged, now: float) -> bool:
    """The configuration is another."""
    if event.capacity is not None:
        world.capacity.clear()
        world.capacity.update(event.capacity)
    for spec in event.added:
        _add(world, spec, now)
    for spec in event.changed:
        _change(world, world.backends[spec.id], spec, now)
    for spec in event.replaced:
        _replace(world, world.backends[spec.id], spec, now)
    for id in event.removed:
        _remove(world, world.backends[id], now)
    world.backends = dict(sorted(world.backends.items()))
    world.review_leases()
    for spec in event.changed:
        world.serve(world.backends[spec.id], now)
    return True


def _add(world: World, spec: BackendSpec, now: float) -> None:
    again = world.backends.get(spec.id)
    if again is None:
        new = Backend(
            spec, spec.estimates, epoch=world.first_epoch, since=now, drained=world.drain_new
        )
        world.backends[spec.id] = world.unseen[spec.id] = new
        return
    _change(world, again, spec, now)


def _change(world: World, backend: Backend, spec: BackendSpec, now: float) -> None:
    """It is to be what it is, with another spec: had it been removed or replaced before, what
    runs stays."""
    backend.spec = spec
    backend.removed = backend.replaced = False
    if backend.resident:
        # What runs is what was meant all along: what it is said to need counts at once.
        backend.placement = spec.placements[0]
    world.demand.changed(backend)
    going = backend.state is BackendState.DRAINING and backend.drain_reason in _CONFIGURED
    if going and backend.cut_at is None:
        world.undrain(backend, now, "configured")


def _replace(world: World, backend: Backend, spec: BackendSpec, now: float) -> None:
    backend.spec, backend.removed = spec, False
    world.demand.changed(backend)
    if not backend.resident:
        world.replace(backend)
        return
    backend.replaced = True
    if backend.state is BackendState.STARTING:
        world.stop(backend, StopReason.REPLACED, now)
    else:
        world.drain(backend, StopReason.REPLACED, now)


def _remove(world: World, backend: Backend, now: float) -> None:
    world.break_leases(backend, now)
    backend.removed = True
    world.reject_queue(backend, refusal.removed(backend), now)
    if backend.state in _UP:
        world.drain(backend, StopReason.REMOVED, now)
    elif not backend.resident and not backend.in_flight:
        world.forget(backend)
