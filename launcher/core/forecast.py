"""How long those who wait will probably wait. Decides nothing and changes nothing.

The backends that are waited for are placed one after the other, in the order that the policy
will have by then, where and when enough of the places that they need come free (list
scheduling), by the measured times of starts, stops and services. Each is expected to serve who
waits by then, and to go on for as long as its arrival statistics say, at most until somebody's
wait is urgent and its minimum residency over. Nobody knows who will arrive: that is the spread.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from launcher.core.backend import Backend
from launcher.core.policy import Policy, rank_of
from launcher.core.state import SchedulerState, add, fits
from launcher.core.types import BackendId, BackendState, Forecast, Needs, TicketId

#: Seconds of what was seen before that count beside a queue's own growth.
WINDOW: Final = 30.0
#: Of the mean: longer than anything goes on by chance.
LONG: Final = 50.0
#: Seconds after which those will be overdue who may still come, as far as anybody knows.
PATIENCE: Final = 60.0
#: How far, in two of three cases, one service is from being half over at a moment far off, as a
#: share of it. It may also be idle then: that makes it more than the third of an even chance.
ANYHOW: Final = 0.4


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


class Forecasts:
    """What is to be expected at one moment: when each backend that isn't up would be."""

    def __init__(self, sched: SchedulerState, now: float) -> None:
        self._state = sched
        self._policy = sched.policy
        self._now = now
        self._used: dict[str, int] = {}
        self._freed: list[_Freed] = []
        self._ready: dict[BackendId, _Time] = {}
        waiting = [b for b in sched.queues.values() if not (b.resident or b.holds)]
        again = [b for b in sched.queues.values() if b.state in _GOING and _behind(b)]
        self._line = _Line([*waiting, *again], sched.capacity, self._policy, now)
        for backend in sched.residents.values():
            add(self._used, backend.needs)
            heapq.heappush(self._freed, _Freed(self._free_at(backend), backend.id, backend.needs))
        for backend in sched.leases:
            if not backend.resident:
                self._keep(backend)
        while (first := self._line.next(self._next_free())) is not None:
            self._place(first)

    def of_ticket(self, ticket: TicketId) -> Forecast | None:
        """A queued ticket's; None for one that isn't queued."""
        backend = self._state.tickets.get(ticket)
        if backend is None or ticket not in backend.queue:
            return None
        ahead = backend.queue.ahead_of(ticket, self._now)
        if backend.state is not BackendState.DRAINING:
            return self._after(backend, ahead, up=backend.state is BackendState.READY)
        up = backend.queue[ticket].number <= backend.drain_from
        served = len(backend.queue) - _behind(backend)
        return self._after(backend, ahead if up else max(0, ahead - served), up=up)

    def of_new(self) -> dict[BackendId, Forecast]:
        """What one more ticket for each backend would wait, where it would wait at all."""
        found = {}
        for backend in self._state.backends.values():
            up = backend.state is BackendState.READY
            if up and backend.room:
                continue
            ahead = _behind(backend) if backend.state in _GOING else len(backend.queue)
            found[backend.id] = self._after(backend, ahead, up=up)
        return found

    # -- how it is found

    def _after(self, backend: Backend, ahead: int, *, up: bool) -> Forecast:
        """What somebody waits before whom so many are served, by this run of the backend
        (`up`), or by the one to come."""
        if up:
            turn = _turn(backend, _left(backend, self._now), ahead)
        else:
            ready = self._ready.get(backend.id) or self._ready_at(backend)
            turn = _turn(backend, [], ahead).then(ready.seconds, ready.spread)
        return Forecast(ahead + 1, turn.seconds, turn.spread)

    def _ready_at(self, backend: Backend) -> _Time:
        """When it is up: it is coming up, or it would come after all who wait now."""
        if backend.state is BackendState.STARTING:
            return _rest(backend, "start", backend.expected_start, self._now)
        freed, used = list(self._freed), dict(self._used)
        return self._earliest(backend, freed, used).then(
            backend.expected_start, backend.spread_of("start")
        )

    def _keep(self, backend: Backend) -> None:
        """One that is leased and down has its place, and is started in it as soon as it may be."""
        again_at = max(backend.restart_at, backend.retry_at or 0.0, self._now)
        self._ready[backend.id] = _Time(again_at - self._now).then(
            backend.expected_start, backend.spread_of("start")
        )
        add(self._used, backend.needs)
        end = self._leased(backend, _Time(0.0))
        heapq.heappush(self._freed, _Freed(end, backend.id, backend.needs))

    def _leased(self, backend: Backend, end: _Time) -> _Time:
        """Not before the last of its leases ends."""
        return max(end, _Time(backend.leased_until - self._now))

    def _place(self, backend: Backend) -> None:
        """It gets the first place that comes free, and keeps it for as long as it is used."""
        ready = self._earliest(backend, self._freed, self._used).then(
            backend.expected_start, backend.spread_of("start")
        )
        self._ready[backend.id] = ready
        add(self._used, backend.needs)
        end = self._stays(backend, ready).then(backend.expected_stop, backend.spread_of("stop"))
        heapq.heappush(self._freed, _Freed(end, backend.id, backend.needs))

    def _next_free(self) -> float:
        """When the next place comes free, in seconds from now."""
        return self._freed[0].when.seconds if self._freed else 0.0

    def _earliest(self, backend: Backend, freed: list[_Freed], used: dict[str, int]) -> _Time:
        """When its needs fit, taking places as they come free."""
        capacity = self._state.capacity
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
            return self._leased(backend, _rest(backend, "stop", backend.expected_stop, now))
        if backend.state is BackendState.STARTING:
            end = self._stays(backend, _rest(backend, "start", backend.expected_start, now))
        elif backend.state is BackendState.DRAINING:
            queued = len(backend.queue) - _behind(backend)
            end = _served(backend, _left(backend, now), queued)
        else:
            end = self._given_up(backend)
        end = self._leased(backend, end)
        return end.then(backend.expected_stop, backend.spread_of("stop"))

    def _stays(self, backend: Backend, ready: _Time) -> _Time:
        """When one that comes up begins to stop: it serves who waits by then, and goes on for
        as long as its arrival statistics say."""
        if ready.seconds == math.inf:
            return ready
        new = math.floor(_newcomers(backend, ready.seconds, self._now))
        queued = len(backend.queue) + new
        served = _served(backend, [], queued)
        # As many again would be no surprise: requests come in bursts.
        more = _served(backend, [], queued + new)
        served = served.then(0.0, more.seconds - served.seconds)
        usual = backend.arrival_stats.stays(self._policy.linger(backend, self._line.tickets))
        stays = self._at_most(backend, served, usual, ready.seconds)
        for lease in backend.queue.leases.values():
            assert lease.ticket.hold is not None
            stays = max(stays, _Time(lease.ticket.hold.ttl))
        return ready.then(stays.seconds, stays.spread)

    def _given_up(self, backend: Backend) -> _Time:
        """When a ready one begins to stop, if others wait for its place."""
        now = self._now
        linger = self._policy.linger(backend, self._line.tickets)
        # What is over of the usual run won't come again. Where no run ever ended by itself, it
        # may well go on for as long as it has gone on.
        run, elapsed = backend.arrival_stats.stays(0.0), now - backend.ready_at
        usual = backend.arrival_stats.stays(linger) - min(elapsed, run) if run else elapsed
        # For an order only those are served to the end who are served already.
        queued = 0 if self._line.ordered else len(backend.queue)
        served = _served(backend, _left(backend, now), queued)
        if not backend.held(now) and usual < math.inf:
            idle_at = backend.arrival_stats.idle_at
            usual = 0.0 if idle_at is None else max(0.0, idle_at + linger - now)
            return _Time(min(usual, self._latest(backend, 0.0)))
        return self._at_most(backend, served, usual, 0.0)

    def _at_most(self, backend: Backend, served: _Time, usual: float, ready: float) -> _Time:
        """How long it stays that is ready in `ready` seconds, has served who waits when
        `served` is over, and then goes on: it usually stays `usual` seconds in all, by chance
        less or more, and when somebody is overdue it serves to the end what there is."""
        latest = self._latest(backend, ready)
        left = latest - served.seconds
        if left <= 0:
            return served
        mean = max(0.0, usual - served.seconds)
        if mean == math.inf:
            return _drained(backend, 0 if ready else len(backend.queue)).then(latest)
        if not mean:
            return served
        # The mean and the standard deviation of an exponential time that is cut off.
        share = min(left / mean, LONG)
        beyond = math.exp(-share)
        spread = mean * math.sqrt(max(0.0, 1 - 2 * share * beyond - beyond * beyond))
        return served.then(mean * (1 - beyond), spread)

    def _latest(self, backend: Backend, ready: float) -> float:
        """After how long at most one that is ready in `ready` seconds begins to drain."""
        if self._line.ordered:
            return -ready
        cost = self._line.cost_beside(backend)
        if backend.state is BackendState.READY:
            overdue = backend.queue.overdue_at() <= self._now
            until = (
                backend.resident_from - self._now + self._policy.residency(cost, overdue=overdue)
            )
        else:
            until = ready + self._policy.residency(cost, overdue=False)
        return max(0.0, self._line.urgent_at - self._now, until) - ready


class _Line:
    """Who waits to be started, in the order in which they will be."""

    def __init__(
        self, waiting: list[Backend], capacity: Mapping[str, int], policy: Policy, now: float
    ) -> None:
        self._policy = policy
        self._now = now
        self._placed: set[BackendId] = set()
        # Those that leases leave no place are placed last, when the leases end: till then they
        # are nobody's rivals.
        rivals = [b for b in waiting if not b.blocked]
        self._backends = {b.id: b for b in rivals}
        by_rank = sorted(rivals, key=lambda b: (rank_of(policy, b, now), b.id), reverse=True)
        by_due = sorted(rivals, key=lambda b: (policy.urgent_at(b), b.id), reverse=True)
        self._blocked = sorted(
            (b for b in waiting if b.blocked),
            key=lambda b: (rank_of(policy, b, now), b.id),
            reverse=True,
        )
        self._by_rank, self._by_due = by_rank, by_due
        self.tickets = sum(len(b.queue) for b in rivals)
        self._capacity = capacity
        self._costs: dict[str, float] = {}
        for backend in rivals:
            for name, units in backend.needs:
                self._costs[name] = self._costs.get(name, 0.0) + units * backend.swap_cost

    @property
    def urgent_at(self) -> float:
        """From when somebody who has no place yet is overdue, or who may still come."""
        first = self._first(self._by_due)
        return self._now + PATIENCE if first is None else self._policy.urgent_at(first)

    @property
    def ordered(self) -> bool:
        """Whether an operator's order is among those who have no place yet."""
        first = self._first(self._by_rank)
        return first is not None and first.queue.order is not None

    def cost_beside(self, backend: Backend) -> float:
        """What the swaps of the others cost that wait for such a place; see `Demand.rivals`."""
        own = backend.swap_cost if backend.id in self._backends else 0.0
        return max(
            (
                (self._costs.get(name, 0.0) - units * own) / self._capacity[name]
                for name, units in backend.needs
                if self._capacity.get(name)
            ),
            default=0.0,
        )

    def next(self, after: float) -> Backend | None:
        """Takes out who is the first in so many seconds, when some are overdue that aren't."""
        ranked, due = self._first(self._by_rank), self._first(self._by_due)
        if ranked is None or due is None:
            return self._blocked.pop() if self._blocked else None
        at = self._now + (after if after < math.inf else 0.0)
        chosen = min(ranked, due, key=lambda b: (rank_of(self._policy, b, at), b.id))
        self._placed.add(chosen.id)
        return chosen

    def _first(self, line: list[Backend]) -> Backend | None:
        while line and line[-1].id in self._placed:
            line.pop()
        return line[-1] if line else None


_GOING = (BackendState.DRAINING, BackendState.STOPPING)


def _behind(backend: Backend) -> int:
    """How many of the queue of one that goes are served only when it is up again."""
    if backend.state is not BackendState.DRAINING:
        return len(backend.queue)
    return sum(backend.queue[ticket].number > backend.drain_from for ticket in backend.queue)


def _newcomers(backend: Backend, seconds: float, now: float) -> float:
    """How many more will have come by then: at the rate at which its queue has grown since it
    went, for the first `WINDOW` seconds beside the one seen before."""
    lately = -math.log1p(-min(backend.arrival_stats.wanted(1.0, now), 0.999))
    since = min(backend.queue.oldest, now) if backend.resident else backend.since
    rate = (len(backend.queue) + lately * WINDOW) / (now - since + WINDOW)
    return rate * seconds


def _rest(backend: Backend, name: str, expected: float, now: float) -> _Time:
    """What is left of something that began when the backend entered its state."""
    elapsed = now - backend.since
    spread = backend.spread_of(name)
    # What takes longer than expected will probably take a little longer still.
    return _Time(max(expected - elapsed, spread), spread)


def _left(backend: Backend, now: float) -> list[float]:
    """What is left of each service under way, the shortest first."""
    service, spread = backend.estimates.service or 0.0, backend.spread_of("service")
    left = sorted(
        service - (now - granted)
        for ticket, granted in backend.in_flight.items()
        if ticket not in backend.silent
    )
    # Those that could end at any moment do so one after the other, not all at their mean.
    soon = sum(one < 2 * spread for one in left)
    return [2 * spread * n / (soon + 1) for n in range(1, soon + 1)] + left[soon:]


def _turn(backend: Backend, left: list[float], ahead: int) -> _Time:
    """When somebody's turn comes before whom so many are served, where so much is left of
    what is served already: each who is done makes room for the next."""
    at_a_time = backend.spec.max_in_flight
    if at_a_time is None:
        return _Time(0.0)
    free = [0.0] * (at_a_time - len(left)) + left
    rounds, place = divmod(ahead, len(free))
    service = backend.estimates.service or 0.0
    seconds = free[place] + rounds * service
    turns = rounds + (place + 1) / len(free) if free[place] else rounds
    return _Time(seconds, backend.spread_of("service") * math.sqrt(turns))


def _served(backend: Backend, left: list[float], queued: int) -> _Time:
    """How long it takes to serve all: so much is left of some, and so many wait."""
    if not queued:
        if not left:
            return _Time(0.0)
        return _Time(left[-1], backend.spread_of("service"))
    turn = _turn(backend, left, queued - 1)
    at_once = min(queued, backend.spec.max_in_flight or queued)
    spread = backend.spread_of("service")
    # The last of several that are served at once takes longer than the mean one.
    service = (backend.estimates.service or 0.0) + spread * math.sqrt(math.log(at_once))
    return turn.then(service, spread)


def _drained(backend: Backend, queued: int) -> _Time:
    """How long a drain takes that begins far off: what is served by then is anyhow far."""
    service, count = backend.estimates.service or 0.0, max(1, backend.holding)
    left = [service * n / (count + 1) for n in range(1, count + 1)]
    return _served(backend, left, queued).then(0.0, service * ANYHOW)
