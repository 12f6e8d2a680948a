"""Who waits for one backend: what an operator ordered, then by class, and within a class first
come, first served."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from launcher.core.types import Plain, Priority, Ticket, TicketId, Wake

#: Entries of the departed that may stand in a heap before it is tidied up.
SPARE: Final = 64


#: When an operator's order came, and its ticket: the least is the first.
Order = tuple[float, TicketId]


@dataclass(frozen=True, slots=True)
class Queued(Plain):
    """A ticket in a queue, and since when."""

    ticket: Ticket
    since: float
    number: int
    """Counts the arrivals, so that what came before something else can be told exactly."""

    def rank(self, now: float) -> int:
        """Its class at `now`: the highest once it has waited for `ages`, in even steps."""
        steps = self.ticket.priority
        return max(0, steps - int(steps * (now - self.since) / self.ticket.ages))

    def rises_at(self, now: float) -> float:
        """When it rises next; `inf` where it can't."""
        rank = self.rank(now)
        if not rank:
            return math.inf
        steps = self.ticket.priority
        return self.since + (steps - rank + 1) / steps * self.ticket.ages


class Queue:
    """Every operation costs the same however many wait, up to the logarithm of a heap."""

    __slots__ = ("_all", "_classes", "_meek", "_never", "_overdue", "_urgent", "arrivals", "leases")

    def __init__(self) -> None:
        self._all: dict[TicketId, Queued] = {}
        self._classes: tuple[dict[TicketId, Queued], ...] = tuple({} for _ in Priority)
        self._overdue: list[tuple[float, TicketId]] = []
        """Heap of (time from which it is overdue, ticket); entries of the departed stay in it."""
        self._urgent: dict[TicketId, Queued] = {}
        self.leases: dict[TicketId, Queued] = {}
        """Those that are leases, in the order of arrival."""
        self._meek = 0
        self._never = 0
        self.arrivals = 0
        """The number of the last that came."""

    def __repr__(self) -> str:
        return f"<Queue {len(self._all)}>"

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, ticket: TicketId) -> bool:
        return ticket in self._all

    def __iter__(self) -> Iterator[TicketId]:
        """In the order of arrival."""
        return iter(self._all)

    def __getitem__(self, ticket: TicketId) -> Queued:
        return self._all[ticket]

    def put(self, ticket: Ticket, since: float) -> None:
        """The ticket waits, and has done so since then."""
        self.arrivals += 1
        queued = Queued(ticket, since, self.arrivals)
        self._all[ticket.id] = queued
        self._classes[ticket.priority][ticket.id] = queued
        if ticket.urgent:
            self._urgent[ticket.id] = queued
        if ticket.hold is not None:
            self.leases[ticket.id] = queued
        self._meek += ticket.wake is not Wake.ALWAYS
        self._never += ticket.wake is Wake.NEVER
        if len(self._overdue) > SPARE + 2 * len(self._all):
            self._overdue = [one for one in self._overdue if one[1] in self._all]
            heapq.heapify(self._overdue)
        heapq.heappush(self._overdue, (since + ticket.max_wait, ticket.id))

    def take(self, ticket: TicketId) -> Queued:
        """It waits no longer. Raises KeyError where it doesn't wait."""
        queued = self._all.pop(ticket)
        del self._classes[queued.ticket.priority][ticket]
        self._urgent.pop(ticket, None)
        self.leases.pop(ticket, None)
        self._meek -= queued.ticket.wake is not Wake.ALWAYS
        self._never -= queued.ticket.wake is Wake.NEVER
        return queued

    @property
    def pressing(self) -> bool:
        """Whether anybody waits for whom others may be made to go."""
        return len(self._all) > self._meek

    @property
    def waking(self) -> bool:
        """Whether anybody waits for whom it may be started."""
        return len(self._all) > self._never

    @property
    def oldest(self) -> float:
        """When the first of those who wait came."""
        for queued in self._all.values():
            return queued.since
        return math.inf

    @property
    def order(self) -> Order | None:
        """The first of those that an operator ordered."""
        for queued in self._urgent.values():
            return queued.since, queued.ticket.id
        return None

    def first(self, now: float, until: float = math.inf) -> Queued | None:
        """Who is served next, of those up to the arrival with the number `until`."""
        for one in self._urgent.values():
            if one.number <= until:
                return one
            break
        best = None
        for one in self._heads():
            if one.number <= until and (
                best is None or (one.rank(now), one.since) < (best.rank(now), best.since)
            ):
                best = one
        return best

    def rank(self, now: float) -> int:
        """The highest class (the least number) of those who wait."""
        return min((one.rank(now) for one in self._heads()), default=int(max(Priority)))

    def ages_at(self, now: float) -> float:
        """When its class may rise for time alone."""
        return min((one.rises_at(now) for one in self._heads()), default=math.inf)

    def overdue_at(self) -> float:
        """The earliest time at which one of them is overdue."""
        heap = self._overdue
        while heap and heap[0][1] not in self._all:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def half_time(self) -> float:
        """When the first has waited for half of the time after which it is sent away."""
        halves = ((one.since + one.ticket.deadline) / 2 for one in self._heads())
        return min(halves, default=math.inf)

    def ahead_of(self, ticket: TicketId, now: float) -> int:
        """How many are served before it."""
        place = self._place(self._all[ticket], now)
        return sum(self._place(one, now) < place for one in self._all.values())

    def _place(self, one: Queued, now: float) -> tuple[bool, int, float, TicketId]:
        return (
            not one.ticket.urgent,
            0 if one.ticket.urgent else one.rank(now),
            one.since,
            one.ticket.id,
        )

    def _heads(self) -> Iterator[Queued]:
        for members in self._classes:
            for queued in members.values():
                yield queued
                break
