"""Who gets a place: one pass over demand, capacity and residents, after any event that may
have changed one of them.

Cold backends with queued tickets are taken in the order in which their oldest tickets become
overdue. Each starts if it fits, waits if room is being made already, else stops idle
residents, else, once overdue, makes busy ones drain that had their minimum residency. An
overdue backend that waits holds a claim on its place, so that nobody slips in before it; one
that isn't overdue only claims a place that is being freed for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from launcher.core import eviction
from launcher.core.backend import Backend
from launcher.core.effects import PrewarmSkipped
from launcher.core.eviction import Candidate, fits
from launcher.core.types import BackendState, Failure, StopReason
from launcher.core.world import CUT_GRACE, SOFT, START_MARGIN, World, add

_COLD = (BackendState.STOPPED, BackendState.FAILED)
_UP = (BackendState.STARTING, BackendState.READY, BackendState.DRAINING)


def over(world: World) -> frozenset[str]:
    """The resources of which residents occupy more than there is."""
    used = world.usage()
    return frozenset(name for name, n in used.items() if n > world.capacity.get(name, 0))


def place(world: World, now: float) -> None:
    """Give places, take them back, and ask to be woken when time alone will change the answer."""
    _Pass(world, now).run()


class _Pass:
    """One pass; what it knows is good for this moment only."""

    def __init__(self, world: World, now: float) -> None:
        self.world = world
        self.now = now
        self.used: dict[str, int] = {}
        """By whoever occupies a place now, or may (not seen yet)."""
        self.future: dict[str, int] = {}
        """By whoever will once the stops and drains under way have ended, claims included."""
        self.wake = math.inf

    def run(self) -> None:
        world, now = self.world, self.now
        for backend in list(world.backends.values()):
            world.settle(backend, now)
        self._count()
        waiting = sorted(
            (b for b in world.backends.values() if b.queue and b.state in _COLD),
            key=lambda b: (b.overdue_at(), b.id),
        )
        late = [b for b in waiting if b.overdue_at() <= now]
        for backend in late:
            self._give(backend, overdue=True)
        self._undrain(b for b in self._draining() if b.held(now))
        for backend in waiting:
            if backend.overdue_at() > now:
                self._give(backend, overdue=False)
                self._wake_at(backend.overdue_at())
        self._undrain(self._draining())
        self._prewarm()
        self._shed()
        self._timers()

    # -- counting

    def _count(self) -> None:
        for backend in self.world.backends.values():
            if not backend.resident:
                if not backend.known:
                    add(self.used, backend.needs)
                    add(self.future, backend.needs)
                continue
            add(self.used, backend.needs)
            leaving = backend.state is BackendState.DRAINING or (
                backend.state is BackendState.STOPPING and backend.stop_failure is None
            )
            if not leaving:
                add(self.future, backend.needs)

    def _draining(self) -> list[Backend]:
        """Those whose drain may be taken back, the most recently used first."""
        found = [
            b
            for b in self.world.backends.values()
            if b.state is BackendState.DRAINING and b.drain_reason in SOFT and b.cut_at is None
        ]
        return sorted(found, key=lambda b: (-b.used_at, b.id))

    def _undrain(self, draining: Iterable[Backend]) -> None:
        """Let those go on whose place nobody needs any more."""
        for backend in draining:
            if backend.drain_reason is StopReason.IDLE and not backend.queue:
                continue
            if fits(self.future, backend.needs, self.world.capacity):
                add(self.future, backend.needs)
                self.world.undrain(backend, self.now)

    # -- giving

    def _give(self, backend: Backend, *, overdue: bool) -> None:
        """Start it, or make room for it, or let it wait."""
        world, now = self.world, self.now
        if self._hopeless(backend) or not backend.known:
            return
        needs = backend.needs
        if fits(self.future, needs, world.capacity):
            if fits(self.used, needs, world.capacity):
                add(self.used, needs)
                world.start(backend, now)
            add(self.future, needs)
            return
        chosen = eviction.choose(
            self._candidates(backend, overdue=overdue), needs, self.future, world.capacity
        )
        if chosen is None:
            return
        for id in chosen:
            victim = world.backends[id]
            add(self.future, victim.needs, -1)
            world.drain(victim, StopReason.EVICTED, now)
        add(self.future, needs)

    def _candidates(self, wanting: Backend, *, overdue: bool) -> list[Candidate]:
        """Who could make room: the idle, and for the overdue also the busy that have been
        ready for their minimum residency."""
        found = []
        for backend in self.world.backends.values():
            if backend.state is not BackendState.READY or backend.unreachable is not None:
                continue
            busy = backend.held(self.now)
            if busy:
                if not overdue:
                    continue
                until = backend.ready_at + self._residency(backend)
                if self.now < until:
                    self._wake_at(until)
                    continue
            found.append(Candidate(backend.id, backend.needs, busy, backend.used_at))
        return found

    def _residency(self, resident: Backend) -> float:
        """Seconds that it keeps granting once ready: the sum of the swap costs of all who wait
        for its place. Without this a `max_wait` shorter than a round of swaps would mean one
        batch per swap for ever."""
        names = {name for name, _ in resident.needs}
        return sum(
            b.swap_cost
            for b in self.world.backends.values()
            if b.queue and b is not resident and any(name in names for name, _ in b.needs)
        )

    def _hopeless(self, backend: Backend) -> bool:
        """Reject its queue where no drain could make room: something doesn't stop or can't be
        told to, or nobody can say what runs."""
        world = self.world
        fixed: dict[str, int] = {}
        if not fits(fixed, backend.needs, world.capacity):
            world.reject_queue(
                backend,
                Failure("backend_start_failed", f"{backend.id} needs more than there is."),
            )
            return True
        for other in world.backends.values():
            stuck = other.state is BackendState.STOPPING and other.stop_failure is not None
            unseen = not other.resident and not other.known and other is not backend
            unstoppable = other.state in _UP and other.unreachable is not None
            if not (stuck or unseen or unstoppable):
                continue
            add(fixed, other.needs)
            if fits(fixed, backend.needs, world.capacity):
                continue
            failure = other.stop_failure if stuck else other.unreachable
            if failure is None:
                return True
            world.reject_queue(
                backend,
                Failure(
                    "backend_stop_failed" if stuck else failure.code,
                    f"{backend.id} needs the place of {other.id}: {failure.message}",
                    failure.detail,
                ),
            )
            return True
        return False

    # -- taking

    def _prewarm(self) -> None:
        """Once, when everything has been seen: start in order what fits beside the rest."""
        world = self.world
        if world.prewarmed or not world.backends:
            return
        if not all(b.known for b in world.backends.values()):
            return
        world.prewarmed = True
        ranked = [b for b in world.backends.values() if b.spec.prewarm is not None]
        for backend in sorted(ranked, key=lambda b: (b.spec.prewarm or 0, b.id)):
            if backend.resident:
                continue
            if fits(self.future, backend.needs, world.capacity) and fits(
                self.used, backend.needs, world.capacity
            ):
                add(self.used, backend.needs)
                add(self.future, backend.needs)
                world.start(backend, self.now)
            else:
                world.effects.append(PrewarmSkipped(backend.id))

    def _shed(self) -> None:
        """While a resource is over its capacity (somebody started something), stop what is idle
        and uses it, prewarmed ones last."""
        world, now = self.world, self.now
        if not all(b.known for b in world.backends.values()):
            return
        idle = [
            b
            for b in world.backends.values()
            if b.state is BackendState.READY and not b.held(now) and b.unreachable is None
        ]
        idle.sort(key=lambda b: (b.spec.prewarm is not None, b.used_at, b.id))
        for backend in idle:
            if any(
                self.future.get(name, 0) > world.capacity.get(name, 0) for name, _ in backend.needs
            ):
                add(self.future, backend.needs, -1)
                world.drain(backend, StopReason.SURPLUS, now)

    # -- time

    def _wake_at(self, at: float) -> None:
        """The answer may change at `at`; what has passed already has been considered."""
        if at > self.now:
            self.wake = min(self.wake, at)

    def _due(self, at: float) -> None:
        """A Tick at `at`, or at once where that has passed, will do something."""
        self.wake = min(self.wake, max(at, self.now))

    def _timers(self) -> None:
        world = self.world
        self._due(world.next_deadline())
        for backend in world.backends.values():
            state = backend.state
            if state is BackendState.STARTING:
                self._due(backend.deadline + START_MARGIN)
            elif state is BackendState.READY:
                self._due(backend.idle_stop_at)
                if backend.busy and world.waiting:
                    self._wake_at(backend.ask_at)
            elif state is BackendState.DRAINING:
                if backend.cut_at is not None:
                    self._due(backend.cut_at + CUT_GRACE)
                if backend.busy:
                    self._wake_at(backend.ask_at)
            elif backend.stop_retry_at is not None:
                self._due(backend.stop_retry_at)
        world.wake_by(self.wake, self.now)
