"""How long those who wait will probably wait. Decides nothing and changes nothing.

The backends that are waited for are placed one after the other, in the policy's order, where
and when enough of the places that they need come free (list scheduling), by the measured
times of starts, stops and services. What is in use goes on for as long as its habits say, at
most until somebody's wait is urgent. Nobody knows who will arrive: that is the spread.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from launcher.core.backend import Backend
from launcher.core.books import add
from launcher.core.eviction import fits
from launcher.core.types import BackendId, BackendState, Forecast, Needs, TicketId
from launcher.core.world import World


@dataclass(frozen=True, slots=True, order=True)
class _Time:
    """So many seconds from now, give or take."""

    seconds: float
    spread: float = 0.0

    def then(self, seconds: float, spread: float = 0.0) -> _Time:
        """Something that takes so long comes after it; the spreads are independent."""
        return _Time(self.seconds + seconds, math.hypot(self.spread, spread))


@dataclass(frozen=True, slots=True, order=True)
class _Freed:
    """A place comes free."""

    when: _Time
    id: BackendId
    needs: Needs


class Outlook:
    """What is to be expected at one moment: when each backend that isn't up would be."""

    def __init__(self, world: World, now: float) -> None:
        self._world = world
        policy = self._policy = world.policy
        self._now = now
        self._used: dict[str, int] = {}
        self._freed: list[_Freed] = []
        self._ready: dict[BackendId, _Time] = {}
        waiting = [b for b in world.queues.values() if not b.resident]
        waiting.sort(key=lambda b: (*policy.rank(b, now), b.id))
        again = [b for b in world.queues.values() if b.state in _GOING]
        self._waiting = sum(len(b.queue) for b in (*waiting, *again))
        self._urgent_at = min((policy.urgent_at(b) for b in waiting), default=math.inf)
        self._cost = sum(b.swap_cost for b in (*waiting, *again))
        for backend in world.residents.values():
            add(self._used, backend.needs)
            heapq.heappush(self._freed, _Freed(self._free_at(backend), backend.id, backend.needs))
        for backend in (*waiting, *sorted(again, key=lambda b: b.id)):
            self._place(backend)

    def of_ticket(self, ticket: TicketId) -> Forecast | None:
        """A queued ticket's; None for one that isn't queued."""
        backend = self._world.tickets.get(ticket)
        if backend is None or ticket not in backend.queue:
            return None
        return self._after(backend, backend.queue.ahead_of(ticket, self._now))

    def of_new(self) -> dict[BackendId, Forecast]:
        """What one more ticket for each backend would wait, where it would wait at all."""
        found = {}
        for backend in self._world.backends.values():
            if backend.state is BackendState.READY and backend.room:
                continue
            found[backend.id] = self._after(backend, len(backend.queue))
        return found

    # -- how it is found

    def _after(self, backend: Backend, ahead: int) -> Forecast:
        ready = self._ready.get(backend.id) or self._ready_at(backend)
        at_a_time = backend.spec.max_in_flight
        if at_a_time is not None:
            before = ahead if backend.room else ahead + at_a_time / 2
            rounds = before // at_a_time if backend.room else before / at_a_time
            service = backend.estimates.service or 0.0
            ready = ready.then(rounds * service, backend.spread_of("service") * math.sqrt(rounds))
        return Forecast(ahead + 1, ready.seconds, ready.spread)

    def _ready_at(self, backend: Backend) -> _Time:
        """When it is up: it is, it is coming up, or it would come after all who wait now."""
        if backend.state is BackendState.READY:
            return _Time(0.0)
        if backend.state is BackendState.STARTING:
            return _rest(backend, "start", backend.expected_start, self._now)
        freed, used = list(self._freed), dict(self._used)
        return self._earliest(backend, freed, used).then(
            backend.expected_start, backend.spread_of("start")
        )

    def _place(self, backend: Backend) -> None:
        """It gets the first place that comes free, and keeps it until its queue is served."""
        ready = self._earliest(backend, self._freed, self._used).then(
            backend.expected_start, backend.spread_of("start")
        )
        self._ready[backend.id] = ready
        add(self._used, backend.needs)
        end = _served(ready, backend).then(backend.expected_stop, backend.spread_of("stop"))
        heapq.heappush(self._freed, _Freed(end, backend.id, backend.needs))

    def _earliest(self, backend: Backend, freed: list[_Freed], used: dict[str, int]) -> _Time:
        """When its needs fit, taking places as they come free."""
        capacity = self._world.capacity
        when = _Time(0.0)
        kept = []
        names = {name for name, _ in backend.needs}
        while freed and not fits(used, backend.needs, capacity):
            place = heapq.heappop(freed)
            if not any(name in names for name, _ in place.needs):
                kept.append(place)
                continue
            add(used, place.needs, -1)
            when = max(when, place.when)
        for place in kept:
            heapq.heappush(freed, place)
        return when

    def _free_at(self, backend: Backend) -> _Time:
        """When its place is free for somebody else."""
        now = self._now
        if backend.state is BackendState.STOPPING:
            return _rest(backend, "stop", backend.expected_stop, now)
        if backend.state is BackendState.STARTING:
            up = _rest(backend, "start", backend.expected_start, now)
            end = _served(up, backend)
        elif backend.state is BackendState.DRAINING:
            end = _served(_Time(0.0), backend)
        else:
            end = self._given_up(backend)
        return end.then(backend.expected_stop, backend.spread_of("stop"))

    def _given_up(self, backend: Backend) -> _Time:
        """When a ready one begins to stop, if others wait for its place."""
        now, policy = self._now, self._policy
        urgent = max(0.0, self._urgent_at - now)
        linger = policy.linger(backend, self._waiting)
        if not backend.held(now):
            idle_at = backend.habits.idle_at
            left = 0.0 if idle_at is None else max(0.0, idle_at + linger - now)
            return _Time(min(left, urgent))
        served = _served(_Time(0.0), backend)
        latest = max(urgent, backend.ready_at + policy.residency(self._cost, overdue=False) - now)
        by_habit = backend.habits.stays(linger)
        longest = latest + served.seconds
        if by_habit >= longest:
            return _Time(longest, served.spread)
        return _Time(by_habit, min(by_habit, (longest - by_habit) / 2))


_GOING = (BackendState.DRAINING, BackendState.STOPPING)


def _rest(backend: Backend, name: str, expected: float, now: float) -> _Time:
    """What is left of something that began when the backend entered its state."""
    elapsed = now - backend.since
    spread = backend.spread_of(name)
    # What takes longer than expected will probably take a little longer still.
    return _Time(max(expected - elapsed, spread), spread)


def _served(ready: _Time, backend: Backend) -> _Time:
    """When all who use it or wait for it now have been served."""
    count = len(backend.queue) + backend.holding
    if not count:
        return ready
    at_a_time = backend.spec.max_in_flight
    rounds = 1 if at_a_time is None else math.ceil(count / at_a_time)
    service = backend.estimates.service or 0.0
    return ready.then(rounds * service, backend.spread_of("service") * math.sqrt(rounds))
