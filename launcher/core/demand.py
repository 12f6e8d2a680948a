"""The cold backends that somebody waits for, in the policy's order, kept up to date event by
event: what a pass over them costs grows with the places it can give, not with who waits.

Backends that need the same, and equally badly, stand in one line. If the first of a line
can't have a place, none behind it can.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from launcher.core.backend import Backend
from launcher.core.policy import Policy, Rank, Urgency, rank_of, urgency_of
from launcher.core.queue import SPARE
from launcher.core.types import BackendId, BackendState, Needs

_COLD = (BackendState.STOPPED, BackendState.FAILED)
_COMING = (BackendState.STARTING, BackendState.READY)

T = TypeVar("T")

Line = tuple[Needs, Urgency]
"""What is needed, and how badly."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was noted of a backend; void as soon as another is noted of it."""

    backend: Backend
    number: int
    needs: Needs
    tickets: int
    cost: float
    line: Line | None
    """None: its place is still its own, though it is going."""


class Demand:
    """Who wants a place."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._numbers = itertools.count(1)
        self._changed: dict[BackendId, Backend] = {}
        self._entries: dict[BackendId, _Entry] = {}
        self._lines: dict[Line, list[tuple[Rank, BackendId, int]]] = {}
        self._reviews: list[tuple[float, BackendId, int]] = []
        """When time alone changes the rank of which entry."""
        self._blocked: dict[BackendId, Backend] = {}
        self._rivals: dict[str, tuple[int, int, float]] = {}
        """By the name of what is needed: backends, and as multiples of the units that they
        need, their tickets and the seconds that swapping them in takes."""

    def __repr__(self) -> str:
        return f"<Demand {len(self._entries)} backends in {len(self._lines)} lines>"

    def changed(self, backend: Backend) -> None:
        """Its queue, its state or what a swap costs is another."""
        self._changed[backend.id] = backend

    def review(self, now: float) -> float:
        """Take in what has changed, by events or by time; when time will change it again."""
        reviews = self._reviews
        while reviews and reviews[0][0] <= now:
            _, id, number = heapq.heappop(reviews)
            entry = self._entries.get(id)
            if entry is not None and entry.number == number:
                self._changed[id] = entry.backend
        for backend in self._changed.values():
            self._enter(backend, now)
        self._changed.clear()
        while reviews and not self._current(reviews[0][1], reviews[0][2]):
            heapq.heappop(reviews)
        return reviews[0][0] if reviews else math.inf

    def blocked(self) -> list[Backend]:
        """Those waited for that leases leave no place, and of which there is news since this was
        asked last. They stand in no line and are nobody's rivals."""
        found = [self._blocked[id] for id in sorted(self._blocked)]
        self._blocked.clear()
        return found

    def rivals(self, needs: Needs, capacity: Mapping[str, int]) -> tuple[int, float]:
        """Of those that wait for a place like this, by its scarcest resource: the tickets for
        each such place, and the seconds that swapping all of them in takes, side by side as
        far as the capacity goes. With one place for all: their sums."""
        tickets, cost = 0, 0.0
        for name, _ in needs:
            if name in self._rivals and capacity.get(name):
                _, count, seconds = self._rivals[name]
                tickets = max(tickets, math.ceil(count / capacity[name]))
                cost = max(cost, seconds / capacity[name])
        return tickets, cost

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the names of the resources that somebody waits for, as of the last review."""
        return tuple(self._rivals)

    def best_first(self, in_vain: set[Line]) -> Iterator[tuple[Backend, Urgency]]:
        """Each in its turn, with how badly it needs a place; nobody of a line `in_vain`. Whose
        rank falls when it has its turn has another, once that was reviewed."""
        taken: list[tuple[Line, tuple[Rank, BackendId, int]]] = []
        heads = [
            (*first, line) for line in list(self._lines) if (first := self._first(line)) is not None
        ]
        heapq.heapify(heads)
        while heads:
            _, id, _, line = heapq.heappop(heads)
            if line in in_vain:
                continue
            taken.append((line, heapq.heappop(self._lines[line])))
            yield self._entries[id].backend, line[1]
            if (first := self._first(line)) is not None:
                heapq.heappush(heads, (*first, line))
        for line, place in taken:
            if self._current(place[1], place[2]):
                heapq.heappush(self._lines.setdefault(line, []), place)

    # -- the books

    def _current(self, id: BackendId, number: int) -> bool:
        entry = self._entries.get(id)
        return entry is not None and entry.number == number

    def _first(self, line: Line) -> tuple[Rank, BackendId, int] | None:
        """The first of a line that still stands there."""
        heap = self._lines.get(line)
        while heap:
            if self._current(heap[0][1], heap[0][2]):
                return heap[0]
            heapq.heappop(heap)
        self._lines.pop(line, None)
        return None

    def _enter(self, backend: Backend, now: float) -> None:
        old = self._entries.pop(backend.id, None)
        if old is not None:
            self._count(old, -1)
        self._blocked.pop(backend.id, None)
        if not backend.queue or backend.state in _COMING:
            return
        if backend.blocked:
            self._blocked[backend.id] = backend
            return
        line = None
        if backend.state in _COLD:
            line = (backend.needs, urgency_of(self._policy, backend, now))
        entry = _Entry(
            backend=backend,
            number=next(self._numbers),
            needs=backend.needs,
            tickets=len(backend.queue),
            cost=backend.swap_cost,
            line=line,
        )
        self._entries[backend.id] = entry
        self._count(entry, 1)
        if line is None:
            return
        places = self._lines.setdefault(line, [])
        self._forget_void(places)
        self._forget_void(self._reviews)
        heapq.heappush(places, (rank_of(self._policy, backend, now), backend.id, entry.number))
        turns = (self._policy.urgent_at(backend), self._policy.desperate_at(backend))
        at = min((turn for turn in turns if turn > now), default=math.inf)
        at = min(at, backend.queue.ages_at(now))
        if at < math.inf:
            heapq.heappush(self._reviews, (at, backend.id, entry.number))

    def _forget_void(self, heap: list[tuple[T, BackendId, int]]) -> None:
        """Void entries go when they come to the front, and all at once when they are most."""
        if len(heap) > SPARE + 2 * len(self._entries):
            heap[:] = [one for one in heap if self._current(one[1], one[2])]
            heapq.heapify(heap)

    def _count(self, entry: _Entry, sign: int) -> None:
        for name, units in entry.needs:
            backends, tickets, cost = self._rivals.get(name, (0, 0, 0.0))
            backends += sign
            if not backends:
                del self._rivals[name]
                continue
            units *= sign
            self._rivals[name] = (
                backends,
                tickets + units * entry.tickets,
                cost + units * entry.cost,
            )
