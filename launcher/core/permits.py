"""Which backends may be used without asking: those about whose next request nothing is to be
decided. `review` compares what was published with what holds now.

A permit is open while its backend is ready and takes requests, has room, and nobody waits for
it or for its place. What changes that is an event, and the same call takes the permit back.
"""

from __future__ import annotations

from typing import Final

from launcher.core.backend import Backend, OpenPermit
from launcher.core.effects import Effect, PermitClosed, PermitOpened
from launcher.core.placement import over
from launcher.core.state import World
from launcher.core.types import BackendState

#: The limit of a permit where a backend has none: more than anybody will have open.
UNLIMITED: Final = 1 << 29


def review(world: World, now: float, *, every: bool) -> list[Effect]:
    """Open, change and close permits after an event, and return the effects of that. Look at
    those only that the event touched, unless it may have changed `every` one."""
    world.demand.review(now)
    contended = world.demand.wanted
    key = (bool(world.queues), world.wake, contended, world.closed)
    if every or key != world.permit_key:
        world.permit_key = key
        backends = [*world.permitted.values()]
        backends += [b for id, b in world.residents.items() if id not in world.permitted]
    else:
        backends = [*world.touched.values()]
    world.touched.clear()
    effects: list[Effect] = []
    crowded: bool | None = None
    for backend in backends:
        permit = backend.permit
        limit = _limit(world, backend, contended, now)
        if not limit:
            if permit is not None:
                effects.append(close(world, backend, permit))
            continue
        if crowded is None:
            crowded = bool(world.queues) or bool(over(world))
        # When it falls idle a place may change hands; else it is enough that a Tick comes no
        # later than its idle stop is due.
        report = crowded or backend.busy or now + backend.spec.idle_timeout < world.wake
        if permit is None:
            world.permits += 1
            permit = backend.permit = OpenPermit(world.permits, limit, report)
            world.permitted[backend.id] = backend
        elif (permit.limit, permit.report_idle) != (limit, report):
            permit.limit, permit.report_idle = limit, report
        else:
            continue
        effects.append(PermitOpened(backend.id, permit.number, limit, report))
    return effects


def close(world: World, backend: Backend, permit: OpenPermit) -> PermitClosed:
    """Take the permit of a backend back."""
    backend.permit = None
    del world.permitted[backend.id]
    return PermitClosed(backend.id, permit.number)


def _limit(world: World, backend: Backend, contended: frozenset[str], now: float) -> int:
    """How many may use it under a permit at a time; 0: it is not to be open."""
    if (
        backend.state is not BackendState.READY
        or backend.drained
        or backend.queue
        or backend.id in world.elsewhere
        or world.closed
        or world.wake <= now
    ):
        return 0
    for name, _ in backend.needs:
        if name in contended:
            return 0
    most = backend.spec.max_in_flight
    if most is None:
        return UNLIMITED
    room = most - backend.holding
    permit = backend.permit
    if permit is None:
        return max(0, room)
    return room + permit.holders if room >= 0 else 0
