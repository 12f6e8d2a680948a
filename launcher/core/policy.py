"""When a place changes hands: the questions that `placing` asks, and three ways to answer.

`bounded` is the product's. The other two are there to compare it with: `arrival` serves in
the order of arrival, `collation` never takes a place from one that is in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Protocol

from launcher.core.backend import Backend

#: How many times its minimum residency a backend may keep its place while it serves tickets
#: that are overdue themselves.
ROUNDS = 4.0


class Urgency(IntEnum):
    """How far others have to go for somebody who waits."""

    PATIENT = 0
    """Who is idle makes room, once it has lingered."""
    URGENT = 1
    """So does who is in use, once it has had its minimum residency."""
    DESPERATE = 2
    """So does everybody."""
    ORDERED = 3
    """So does everybody, and whoever waits for what goes waits on: an operator's order."""


#: The order among the cold backends that somebody waits for: the least first.
Rank = tuple[float, ...]


class Policy(Protocol):
    """Answers about one backend at one moment. Seconds; absolute times are on the core's clock."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    def rank(self, wanting: Backend, now: float) -> Rank:
        """The place of a cold backend among those that wait to be started."""
        ...

    def urgent_at(self, wanting: Backend) -> float:
        """From when on it may make others drain that are in use."""
        ...

    def desperate_at(self, wanting: Backend) -> float:
        """From when on nobody's residency is respected for its sake any more."""
        ...

    @property
    def strict(self) -> bool:
        """Whether nobody is served before somebody who came earlier and waits for the same
        place."""
        ...

    def residency(self, rivals_cost: float, *, overdue: bool) -> float:
        """How long after it became ready one keeps its place, however long others have waited,
        if the swap costs of all that wait for it add up to `rivals_cost`. `overdue`: somebody
        who waits for his turn with it has waited for `max_wait` too."""
        ...

    def linger(self, idle: Backend, waiting: int) -> float:
        """How long after it fell idle a backend keeps its place while so many tickets wait
        for it and none of them is urgent."""
        ...


class Bounded:
    """Collation with a bound: who is up goes on being served, until somebody has waited for
    `max_wait`; who fell idle stays for as long as its arrival statistics say that it pays."""

    name = "bounded"
    strict = False

    def rank(self, wanting: Backend, now: float) -> Rank:
        due = wanting.queue.overdue_at()
        rank = float(wanting.queue.rank(now))
        if due <= now:
            return (rank, 0.0, due)
        return (rank, 1.0, -len(wanting.queue) / max(wanting.swap_cost, 1e-3))

    def urgent_at(self, wanting: Backend) -> float:
        return wanting.queue.overdue_at()

    def desperate_at(self, wanting: Backend) -> float:
        # Where more models are busy than their residencies leave time for, a round would take
        # longer than anybody may wait, and always the same ones would be sent away.
        return wanting.queue.half_time()

    def residency(self, rivals_cost: float, *, overdue: bool) -> float:
        # To leave overdue tickets behind is to swap once more for them: where all are overdue,
        # to serve a queue to its end is what keeps the mean wait down.
        return rivals_cost * ROUNDS if overdue else rivals_cost

    def linger(self, idle: Backend, waiting: int) -> float:
        if idle.spec.linger <= 0:
            return 0.0
        return min(idle.spec.linger, idle.arrival_stats.linger(waiting, idle.swap_cost))


class Arrival:
    """First come, first served: the place goes to whoever waits longest, at once."""

    name = "arrival"
    strict = True

    def rank(self, wanting: Backend, now: float) -> Rank:
        return (wanting.queue.oldest,)

    def urgent_at(self, wanting: Backend) -> float:
        return wanting.queue.oldest

    def desperate_at(self, wanting: Backend) -> float:
        return math.inf

    def residency(self, rivals_cost: float, *, overdue: bool) -> float:
        return 0.0

    def linger(self, idle: Backend, waiting: int) -> float:
        return 0.0


class Collation:
    """Who is up is served for as long as it has work; then whoever waits longest."""

    name = "collation"
    strict = False

    def rank(self, wanting: Backend, now: float) -> Rank:
        return (wanting.queue.oldest,)

    def urgent_at(self, wanting: Backend) -> float:
        return math.inf

    def desperate_at(self, wanting: Backend) -> float:
        return math.inf

    def residency(self, rivals_cost: float, *, overdue: bool) -> float:
        return 0.0

    def linger(self, idle: Backend, waiting: int) -> float:
        return 0.0


def rank_of(policy: Policy, wanting: Backend, now: float) -> Rank:
    """Its place among the cold backends that are waited for: what an operator ordered before
    all others, in the order of arrival; then those for whom others were told to stop, in the
    order of that, since what it costs is spent whoever comes next; then as the policy says."""
    order = wanting.queue.order
    if order is not None:
        return (0.0, *order)
    if wanting.pays:
        return (1.0, wanting.claim)
    return (2.0, *policy.rank(wanting, now))


def urgency_of(policy: Policy, wanting: Backend, now: float) -> Urgency:
    """How badly a place is needed."""
    if wanting.queue.order is not None:
        return Urgency.ORDERED
    if policy.urgent_at(wanting) > now:
        return Urgency.PATIENT
    return Urgency.URGENT if policy.desperate_at(wanting) > now else Urgency.DESPERATE


POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {"bounded": Bounded, "arrival": Arrival, "collation": Collation}
)
