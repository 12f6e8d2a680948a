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
from launcher.core.state import SchedulerState
from launcher.core.types import BackendState

#: The limit of a permit where a backend has none: more than anybody will have open.
UNLIMITED: Final = 1 << 29


def review(sched: SchedulerState, now: float, *, every: bool) -> list[Effect]:
    """Open, change and close permits after an event, and return the effects of that. Look at
    those only that the event touched, unless it may have changed `every` one."""
    sched.demand.review(now)
    contended = sched.demand.wanted
    key = (bool(sched.queues), sched.wake, contended, sched.closed)
    if every or key != sched.permit_key:
        sched.permit_key = key
        sched.surplus = bool(over(sched))
        backends = [*sched.permitted.values()]
        backends += [b for id, b in sched.residents.items() if id not in sched.permitted]
    else:
        backends = [*sched.touched.values()]
    sched.touched.clear()
    effects: list[Effect] = []
    crowded = sched.surplus or bool(sched.queues)
    for backend in backends:
        permit = backend.permit
        limit = _limit(sched, backend, contended, now)
        if not limit:
            if permit is not None:
                effects.append(_close(sched, backend, permit))
            continue
        # When it falls idle a place may change hands; else it is enough that a Tick comes no
        # later than its idle stop is due.
        report = crowded or backend.busy or now + backend.spec.idle_timeout < sched.wake
        if permit is None:
            sched.permits += 1
            permit = backend.permit = OpenPermit(sched.permits, limit, report)
            sched.permitted[backend.id] = backend
        elif (permit.limit, permit.report_idle) != (limit, report):
            permit.limit, permit.report_idle = limit, report
        else:
            continue
        effects.append(PermitOpened(backend.id, permit.number, limit, report))
    return effects


def _close(sched: SchedulerState, backend: Backend, permit: OpenPermit) -> PermitClosed:
    """Take the permit of a backend back."""
    backend.permit = None
    del sched.permitted[backend.id]
    return PermitClosed(backend.id, permit.number)


def _limit(sched: SchedulerState, backend: Backend, contended: tuple[str, ...], now: float) -> int:
    """How many may use it under a permit at a time; 0: it is not to be open."""
    if (
        backend.state is not BackendState.READY
        or backend.drained
        or backend.queue
        or backend.id in sched.elsewhere
        or sched.closed
        or sched.wake <= now
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
