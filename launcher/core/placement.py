"""Who gets a place: one pass over demand, capacity and residents, after any event that may
have changed one of them.

Cold backends with queued tickets are taken in the policy's order. Each starts if it fits,
waits if room is being made already, else makes the cheapest set of residents go that makes
room: idle ones that have lingered for as long as it pays, and, once its wait is urgent, busy
ones that had their minimum residency. Who is already going for somebody is chosen anew each
time, at half its price; who isn't chosen again goes on. An urgent backend that can't have a
place yet holds a claim on one, so that nobody slips in before it; one that isn't urgent only
claims a place that is being freed for it. For whom others were told to stop has its turn before
all but orders and leases, until it has started, gives up, or the place is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.core.backend import Backend
from launcher.core.binding import not_resident
from launcher.core.demand import Line
from launcher.core.effects import PrewarmSkipped
from launcher.core.policy import Urgency
from launcher.core.state import CUT_GRACE, SOFT, START_MARGIN, SchedulerState, add, fits
from launcher.core.types import BackendId, BackendState, Failure, Needs, OnLease, StopReason

#: Among up to so many the cheapest set is found exactly; among more, one by one.
EXACT: Final = 12


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """A resident backend that may be stopped."""

    id: BackendId
    needs: Needs
    price: float
    """Seconds that it is expected to cost."""
    last_used: float


def choose_victims(
    candidates: Sequence[EvictionCandidate],
    needs: Needs,
    usage: Mapping[str, int],
    capacity: Mapping[str, int],
) -> tuple[EvictionCandidate, ...] | None:
    """The cheapest set whose stop makes room for `needs`, or None where none does.

    Among the equally cheap the least recently used go, ties by id. Nobody is in the set who
    need not be. Exact for up to `EXACT` candidates that matter, greedy above.
    """
    short = {
        name: usage.get(name, 0) + n - capacity.get(name, 0)
        for name, n in needs
        if usage.get(name, 0) + n > capacity.get(name, 0)
    }
    if not short:
        return ()
    order = sorted(
        (c for c in candidates if any(name in short for name, _ in c.needs)),
        key=lambda c: (c.price, c.last_used, c.id),
    )
    freed = {name: sum(n for c in order for k, n in c.needs if k == name) for name in short}
    if any(freed[name] < n for name, n in short.items()):
        return None
    return _exact(order, short) if len(order) <= EXACT else _greedy(order, short)


def _left(short: Mapping[str, int], needs: Needs) -> dict[str, int]:
    """What is still short once `needs` are free."""
    given = dict(needs)
    left = {name: n - given.get(name, 0) for name, n in short.items()}
    return {name: n for name, n in left.items() if n > 0}


def _exact(
    order: Sequence[EvictionCandidate], short: Mapping[str, int]
) -> tuple[EvictionCandidate, ...]:
    """Branch and bound over the sets, the cheaper candidates first."""
    best: tuple[EvictionCandidate, ...] = _greedy(order, short)
    least = sum(c.price for c in best)

    def search(
        at: int, chosen: tuple[EvictionCandidate, ...], price: float, left: dict[str, int]
    ) -> None:
        nonlocal best, least
        if not left:
            if price < least:
                best, least = chosen, price
            return
        for next in range(at, len(order)):
            candidate = order[next]
            if price + candidate.price >= least:
                return  # the rest cost at least as much
            if any(name in left for name, _ in candidate.needs):
                search(
                    next + 1,
                    (*chosen, candidate),
                    price + candidate.price,
                    _left(left, candidate.needs),
                )

    search(0, (), 0.0, dict(short))
    return _pruned(best, short)


def _greedy(
    order: Sequence[EvictionCandidate], short: Mapping[str, int]
) -> tuple[EvictionCandidate, ...]:
    """The cheapest one by one, without those that turn out not to be needed."""
    left = dict(short)
    chosen: list[EvictionCandidate] = []
    for candidate in order:
        if not left:
            break
        if any(name in left for name, _ in candidate.needs):
            chosen.append(candidate)
            left = _left(left, candidate.needs)
    return _pruned(tuple(chosen), short)


def _pruned(
    chosen: tuple[EvictionCandidate, ...], short: Mapping[str, int]
) -> tuple[EvictionCandidate, ...]:
    """Without those who need not go, the dearest spared first."""
    kept = list(chosen)
    for candidate in reversed(chosen):
        left = dict(short)
        for other in kept:
            if other is not candidate:
                left = _left(left, other.needs)
        if not left:
            kept.remove(candidate)
    return tuple(kept)


_UP = (BackendState.STARTING, BackendState.READY, BackendState.DRAINING)

#: "Soon", in seconds, where a backend's price depends on whether somebody will want it soon.
SOON = 300.0
#: Share of its price at which one that is going already may be chosen again.
GOING = 0.5


def over(sched: SchedulerState) -> frozenset[str]:
    """The resources of which residents occupy more than there is."""
    used = sched.usage()
    return frozenset(name for name, n in used.items() if n > sched.capacity.get(name, 0))


def place(sched: SchedulerState, now: float) -> None:
    """Give places, take them back, and ask to be woken when time alone will change the answer."""
    _Pass(sched, now).run()


class _Pass:
    """One pass; what it knows is good for this moment only."""

    def __init__(self, sched: SchedulerState, now: float) -> None:
        self.sched = sched
        self.policy = sched.policy
        self.now = now
        self.used: dict[str, int] = {}
        """By whoever occupies a place now, or may (not seen yet)."""
        self.future: dict[str, int] = {}
        """By whoever will once the stops under way and those chosen have ended, claims
        included."""
        self.chosen: set[BackendId] = set()
        self.immovable: list[Backend] = []
        """Stuck while they stop, out of reach, or not seen yet: no drain makes them go."""
        self.candidates: dict[Urgency, list[EvictionCandidate]] = {}
        """Who could make room, by how badly it is needed."""
        self.in_vain: set[Line] = set()
        """For whom nobody can make room."""
        self.wake = math.inf

    def run(self) -> None:
        sched, now = self.sched, self.now
        sched.lingering = False
        for backend in list(sched.residents.values()):
            if backend.state is BackendState.DRAINING:
                sched.settle(backend, now)
            elif backend.stop_due and not backend.holds:
                sched.stop_as_told(backend, now)
            elif self.policy.strict and backend.queue:
                sched.serve(backend, now)
        self._count()
        self._keep()
        self._wake_at(sched.demand.review(now))
        self._block()
        for backend, urgency in sched.demand.best_first(self.in_vain):
            if not backend.holds:
                self._give(backend, urgency)
        self._undrain()
        self._prewarm()
        self._shed()
        self._timers()

    # -- counting

    def _count(self) -> None:
        sched = self.sched
        for backend in sched.residents.values():
            add(self.used, backend.needs)
            if not _leaving(backend):
                add(self.future, backend.needs)
            stuck = backend.state is BackendState.STOPPING and backend.stop_failure is not None
            if stuck or (backend.state in _UP and backend.unreachable is not None):
                self.immovable.append(backend)
        for backend in sched.unseen.values():
            if not backend.resident:
                self.immovable.append(backend)
                add(self.used, backend.needs)
                add(self.future, backend.needs)

    # -- leases

    def _keep(self) -> None:
        """Who is leased and down keeps a claim on its place, and is started again."""
        sched, now = self.sched, self.now
        for backend in sched.leases:
            again_at = max(backend.restart_at, backend.retry_at or -math.inf)
            if backend.resident:
                if _leaving(backend):
                    add(self.future, backend.wanted_needs)
            elif not backend.known:
                pass  # counted already, as it may run
            elif again_at > now and not backend.queue:
                add(self.future, backend.wanted_needs)
                self._wake_at(again_at)
            elif backend.unreachable is not None or self._hopeless(backend):
                add(self.future, backend.wanted_needs)
            else:
                self._give(backend, Urgency.ORDERED)
        self._due(sched.leases.next_end)

    def _block(self) -> None:
        """Whoever needs a place that leases keep waits, or is told so if that is what it wants."""
        sched, now = self.sched, self.now
        for backend in sched.demand.blocked():
            for ticket in [backend.queue[id].ticket for id in backend.queue]:
                if sched.rebind_blocked(backend, ticket.id, now):
                    continue
                if ticket.urgent or ticket.hold or ticket.on_lease is OnLease.REJECT:
                    sched.reject_leased(backend, ticket.id, now)
            if not backend.queue.pressing:
                sched.reject_queue(backend, not_resident(backend), now)

    # -- giving

    def _give(self, backend: Backend, urgency: Urgency) -> None:
        """Start it, or make room for it, or let it wait."""
        sched, now = self.sched, self.now
        if self._hopeless(backend) or not backend.known:
            return
        needs = backend.needs
        if not backend.queue.waking and not backend.holds:
            sched.reject_queue(backend, not_resident(backend), now)
            return
        if fits(self.future, needs, sched.capacity):
            if fits(self.used, needs, sched.capacity):
                add(self.used, needs)
                sched.start(backend, "wanted" if backend.queue else "leased", now)
            add(self.future, needs)
            return
        if not backend.queue.pressing and not backend.holds:
            sched.reject_queue(backend, not_resident(backend), now)
            return
        if backend.pays and urgency is not Urgency.ORDERED and not self._drained_for(backend):
            # Everybody whom it paid for has gone, and an order, a lease or a stranger has the
            # place: it goes back to where it stands among the others, and has its turn there.
            sched.unclaim(backend)
            self._wake_at(sched.demand.review(now))
            return
        if urgency not in self.candidates:
            self.candidates[urgency] = self._candidates(urgency)
        candidates = [
            c
            for c in self.candidates[urgency]
            if c.id not in self.chosen and not self._ordered_before(c.id, backend)
        ]
        chosen = choose_victims(candidates, needs, self.future, sched.capacity)
        if chosen is None:
            self.in_vain.add((needs, urgency))
        for candidate in chosen or ():
            victim = sched.backends[candidate.id]
            self.chosen.add(victim.id)
            add(self.future, victim.needs, -1)
            sched.evict(victim, backend, candidate.price, urgency, now)
        if chosen is not None or urgency:
            add(self.future, needs)

    def _candidates(self, urgency: Urgency) -> list[EvictionCandidate]:
        """Who could make room: see `Urgency`."""
        found = []
        for backend in self.sched.residents.values():
            if backend.unreachable is not None or backend.holds:
                continue
            if backend.state is BackendState.DRAINING:
                if _leaving(backend) or (backend.held(self.now) and not urgency):
                    continue
                price = self._price(backend) * GOING
            elif backend.state is BackendState.READY:
                if not self._may_go(backend, urgency):
                    continue
                price = self._price(backend)
            else:
                continue
            found.append(EvictionCandidate(backend.id, backend.needs, price, backend.used_at))
        return found

    def _drained_for(self, wanting: Backend) -> bool:
        """Whether somebody is still to be told to stop for it."""
        return any(
            one.state is BackendState.DRAINING and one.wanted_by == wanting.id
            for one in self.sched.residents.values()
        )

    def _ordered_before(self, id: BackendId, wanting: Backend) -> bool:
        """Whether an operator's order for this one came before whatever `wanting` is for."""
        mine, theirs = self.sched.backends[id].queue.order, wanting.queue.order
        if mine is None or wanting.holds:
            return False
        return theirs is None or mine < theirs

    def _may_go(self, backend: Backend, urgency: Urgency) -> bool:
        """Whether its time is over; asks to be woken when it will be."""
        busy = backend.held(self.now)
        idle_at = backend.arrival_stats.idle_at
        if urgency >= Urgency.DESPERATE or (not busy and idle_at is None):
            return True
        tickets, cost = self.sched.demand.rivals(backend.needs, self.sched.capacity)
        until = math.inf
        if urgency:
            overdue = backend.queue.overdue_at() <= self.now
            until = backend.resident_from + self.policy.residency(cost, overdue=overdue)
        if not busy and idle_at is not None:
            until = min(until, idle_at + self.policy.linger(backend, tickets))
            self.sched.lingering = self.sched.lingering or until > self.now
        self._wake_at(until)
        return self.now >= until

    def _price(self, backend: Backend) -> float:
        """Seconds that its going is expected to cost: the work on it that has to be waited
        for, and its reload if somebody wants it soon."""
        wanted = backend.arrival_stats.wanted(SOON, self.now)
        if not backend.held(self.now):
            return backend.swap_cost * wanted
        return backend.swap_cost + backend.work

    def _undrain(self) -> None:
        """Let those go on whose place nobody needs any more."""
        for backend in sorted(self.sched.residents.values(), key=lambda b: b.id):
            if (
                backend.state is BackendState.DRAINING
                and not _leaving(backend)
                and backend.id not in self.chosen
                and (backend.drain_reason is not StopReason.SURPLUS or not self._over(backend))
            ):
                # Once an order is served, others may have it go again.
                self.sched.again |= backend.queue.order is not None
                self.sched.undrain(backend, self.now)

    def _over(self, backend: Backend) -> bool:
        """Whether anything that it occupies is over the capacity."""
        capacity = self.sched.capacity
        return any(self.future.get(name, 0) > capacity.get(name, 0) for name, _ in backend.needs)

    def _hopeless(self, backend: Backend) -> bool:
        """Reject its queue where no drain could make room: something doesn't stop or can't be
        told to, or nobody can say what runs."""
        sched, now = self.sched, self.now
        fixed: dict[str, int] = {}
        if not fits(fixed, backend.needs, sched.capacity):
            sched.reject_queue(
                backend,
                Failure("backend_start_failed", f"{backend.id} needs more than there is."),
                now,
            )
            return True
        for other in self.immovable:
            stuck = other.state is BackendState.STOPPING
            if other is backend:
                continue
            add(fixed, other.needs)
            if fits(fixed, backend.needs, sched.capacity):
                continue
            failure = other.stop_failure if stuck else other.unreachable
            if failure is None:
                return True
            sched.reject_queue(
                backend,
                Failure(
                    "backend_stop_failed" if stuck else failure.code,
                    f"{backend.id} needs the place of {other.id}: {failure.message}",
                    failure.detail,
                ),
                now,
            )
            return True
        return False

    # -- taking

    def _prewarm(self) -> None:
        """Once, when everything has been seen: start in order what fits beside the rest."""
        sched = self.sched
        if sched.prewarmed or not sched.backends or sched.unseen:
            return
        sched.prewarmed = True
        ranked = [b for b in sched.backends.values() if b.spec.prewarm is not None]
        for backend in sorted(ranked, key=lambda b: (b.spec.prewarm or 0, b.id)):
            if backend.resident:
                continue
            if fits(self.future, backend.needs, sched.capacity) and fits(
                self.used, backend.needs, sched.capacity
            ):
                add(self.used, backend.needs)
                add(self.future, backend.needs)
                sched.start(backend, "prewarm", self.now)
            else:
                sched.effects.append(PrewarmSkipped(backend.id))

    def _shed(self) -> None:
        """While a resource is over its capacity (somebody started something), stop what is idle
        and uses it, prewarmed ones last."""
        sched, now = self.sched, self.now
        if sched.unseen or not over(sched):
            return
        for backend in sched.residents.values():
            if backend.drain_reason is StopReason.SURPLUS and not _leaving(backend):
                add(self.future, backend.needs, -1)
        idle = [
            b
            for b in sched.residents.values()
            if b.state is BackendState.READY
            and not (b.held(now) or b.holds)
            and b.unreachable is None
        ]
        idle.sort(key=lambda b: (b.spec.prewarm is not None, b.used_at, b.id))
        for backend in idle:
            if self._over(backend):
                add(self.future, backend.needs, -1)
                sched.drain(backend, StopReason.SURPLUS, now)

    # -- time

    def _wake_at(self, at: float) -> None:
        """The answer may change at `at`; what has passed already has been considered."""
        if at > self.now:
            self.wake = min(self.wake, at)

    def _due(self, at: float) -> None:
        """A Tick at `at`, or at once where that has passed, will do something."""
        self.wake = min(self.wake, max(at, self.now))

    def _timers(self) -> None:
        sched = self.sched
        self._due(sched.next_deadline())
        for backend in sched.residents.values():
            state = backend.state
            if state is BackendState.STARTING:
                self._due(backend.deadline + START_MARGIN)
            elif state is BackendState.READY:
                self._due(backend.idle_stop_at)
                if backend.busy and sched.queues:
                    self._wake_at(backend.ask_at)
            elif state is BackendState.DRAINING:
                if backend.cut_at is not None:
                    self._due(backend.cut_at + CUT_GRACE)
                if backend.busy:
                    self._wake_at(backend.ask_at)
            elif backend.stop_retry_at is not None:
                self._due(backend.stop_retry_at)
        sched.wake_by(self.wake, self.now)


def _leaving(backend: Backend) -> bool:
    """Whether it goes whoever wants its place."""
    if backend.state is BackendState.STOPPING:
        return backend.stop_failure is None
    if backend.state is not BackendState.DRAINING:
        return False
    reason = backend.drain_reason
    return (
        reason not in SOFT
        or backend.cut_at is not None
        or (reason is StopReason.IDLE and not backend.queue)
    )
