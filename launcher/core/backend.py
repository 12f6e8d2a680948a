"""One backend as the scheduler knows it: where it stands, who uses it, who waits for it, what
went wrong, and what its traffic has been like. State and arithmetic; nothing here decides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from launcher.core.queue import Queue
from launcher.core.types import (
    RESIDENT,
    BackendId,
    BackendSnapshot,
    BackendSpec,
    BackendState,
    Estimates,
    Failure,
    Needs,
    Placement,
    StopReason,
    TicketId,
)

#: Gaps remembered: two dozen, so that a change of habit shows within an hour.
REMEMBERED: Final = 24
#: Fewer gaps than this say nothing.
FEWEST: Final = 4
#: Seconds to linger while nothing is known.
UNKNOWN: Final = 1.0
#: A gap as long as one seen before is expected to end within this much more.
SLACK: Final = 1.1
#: Weight of the newest measurement in exponentially weighted times.
WEIGHT: Final = 0.3


def weigh(old: float | None, new: float) -> float:
    """The weighted mean with one more measurement."""
    return new if old is None else old + WEIGHT * (new - old)


class ArrivalStats:
    """Gaps between falling idle and the next arrival, and how often somebody asks. Seconds."""

    __slots__ = ("_busy_at", "_every", "_gaps", "_idle_at", "_last", "_run")

    def __init__(self) -> None:
        self._busy_at: float | None = None
        self._run: float | None = None
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._idle_at: float | None = None
        self._last: float | None = None
        self._every: float | None = None

    def __repr__(self) -> str:
        return f"<ArrivalStats {len(self._gaps)} gaps, every {self._every}>"

    @property
    def idle_at(self) -> float | None:
        """Since when nobody uses it or waits for it; None: it is in use, or never was."""
        return self._idle_at

    @property
    def every(self) -> float | None:
        """Weighted mean of the seconds between two arrivals; None until there were two."""
        return self._every

    def arrived(self, now: float) -> None:
        """Somebody asks for it, whether it is up or not."""
        if self._idle_at is not None:
            self._gaps.append(now - self._idle_at)
            self._idle_at = None
        if self._last is not None:
            self._every = weigh(self._every, now - self._last)
        self._last = now

    def began(self, now: float) -> None:
        """The first one uses it."""
        self._busy_at = now

    def fell_idle(self, now: float) -> None:
        """The last one who used it or waited for it is gone."""
        self._idle_at = now
        if self._busy_at is not None:
            self._run = weigh(self._run, now - self._busy_at)
            self._busy_at = None

    def stays(self, linger: float) -> float:
        """Seconds until, once in use, it has been idle for longer than `linger`: a geometric
        number of runs, each followed by a gap. `inf` where no gap was ever so long."""
        run = self._run or 0.0
        if len(self._gaps) < FEWEST:
            return run + linger
        short = [gap for gap in self._gaps if gap <= linger]
        left = len(self._gaps) - len(short)
        return math.inf if not left else run + linger + (len(short) * run + sum(short)) / left

    def linger(self, waiting: int, cost: float) -> float:
        """Seconds that it pays to stay idle while `waiting` tickets wait for the place and a
        swap costs `cost` seconds.

        Of 0 and the gaps seen, the length L with the least
        `waiting * mean(min(gap, L)) + cost * share of gaps longer than L`: what those who wait
        lose by it, and what the next one who comes would lose without it.
        """
        count = len(self._gaps)
        if count < FEWEST:
            return UNKNOWN
        best, least = 0.0, cost * count
        below = 0.0
        """The sum of the gaps up to here."""
        for seen, gap in enumerate(sorted(self._gaps), 1):
            below += gap
            longer = count - seen
            price = waiting * (below + longer * gap) + cost * longer
            if price < least:
                best, least = gap, price
        return best * SLACK

    def wanted(self, within: float, now: float) -> float:
        """The chance that somebody asks for it within so many seconds, by a Poisson process
        of the rate seen lately; who hasn't asked for long asks less often."""
        if self._last is None:
            return 0.0
        every = max(self._every or 0.0, now - self._last)
        return 1.0 if every <= 0.0 else -math.expm1(-within / every)


@dataclass(slots=True)
class OpenPermit:
    """What the scheduler remembers of a permit while it is open."""

    number: int
    limit: int
    report_idle: bool
    entered: int = 0
    left: int = 0

    @property
    def holders(self) -> int:
        """How many use the backend under it."""
        return self.entered - self.left


@dataclass(slots=True)
class Backend:
    """One backend: where it stands, who uses it, who waits for it, what went wrong."""

    spec: BackendSpec
    estimates: Estimates
    state: BackendState = BackendState.STOPPED
    epoch: int = 0
    since: float = 0.0
    known: bool = False
    """What runs of it has been seen since the launcher came up."""
    unreachable: Failure | None = None
    removed: bool = False
    replaced: bool = False
    """What runs is what it was before it was replaced."""
    drained: bool = False
    """New tickets are refused."""
    blocked_by: tuple[BackendId, ...] = ()
    """Those whose leases leave it no place."""
    stop_due: bool = False
    """An operator wants it stopped, once its leases have ended."""
    placement: Placement | None = None
    instance: str | None = None
    adopted: bool = False

    in_flight: dict[TicketId, float] = field(default_factory=dict)
    """Granted tickets and when they were granted."""
    silent: set[TicketId] = field(default_factory=set)
    """Of those, the ones that hold nothing."""
    mute: set[TicketId] = field(default_factory=set)
    """Of the silent ones, those that stay so: quiet requests, and what was granted before the
    backend died."""
    permit: OpenPermit | None = None
    holds: dict[TicketId, float] = field(default_factory=dict)
    """Leases in force and when they end."""
    queue: Queue = field(default_factory=Queue)
    arrival_stats: ArrivalStats = field(default_factory=ArrivalStats)
    spreads: dict[str, float] = field(default_factory=dict)
    """How far the last starts, stops and services were from what was expected; weighted."""

    ready_at: float = 0.0
    resident_from: float = 0.0
    """Its minimum residency counts from here: it became ready, or an order for it was served."""
    ready_from: int = 0
    """The number of the last arrival that waited for it to become ready."""
    last_used: float | None = None
    deadline: float = math.inf
    """Of a start: the time at which the scheduler itself gives up."""

    drain_reason: StopReason | None = None
    drain_from: float = math.inf
    """The number of the last arrival that is still served."""
    wanted_by: BackendId | None = None
    """For whom it drains."""
    pays: tuple[BackendId, ...] = ()
    """Who was told to stop for it. While there is anybody it has a claim: the place that they
    left, or will, is its own."""
    claim: int = 0
    """Its number among all claims, in the order in which they came to be."""
    paid: bool = False
    """Somebody was told to stop for the start that is under way, or was the last."""
    price: float | None = None
    """Seconds that its going was expected to cost."""
    stop_reason: StopReason | None = None
    cut_at: float | None = None
    """When its exchanges were told to end."""
    busy: bool = False
    """It said it has work of its own."""
    ask_at: float = 0.0
    """Not asked again before."""
    asked_epoch: int = -1
    """The epoch in which an answer is awaited, or -1."""
    clear_epoch: int = -1
    """The epoch in which it said that it has no work of its own."""

    failure: Failure | None = None
    backoff: float = 0.0
    retry_at: float | None = None
    restart_at: float = -math.inf
    """It died while it was leased: not started again before, but for somebody who asks."""
    failed_start: bool = False
    """The stop under way follows a failed start."""
    stop_failure: Failure | None = None
    stop_backoff: float = 0.0
    stop_retry_at: float | None = None

    @property
    def id(self) -> BackendId:
        return self.spec.id

    @property
    def resident(self) -> bool:
        return self.state in RESIDENT

    @property
    def needs(self) -> Needs:
        """What it occupies, or would where nothing was chosen yet."""
        return (self.placement or self.spec.placements[0]).needs

    @property
    def wants_place(self) -> bool:
        """Whether others may be made to go for it."""
        here = self.resident or self.blocked
        return not here and (self.queue.pressing or bool(self.holds))

    @property
    def blocked(self) -> bool:
        """Whether leases of others leave it no place."""
        return bool(self.blocked_by)

    @property
    def wanted_needs(self) -> Needs:
        """What it will occupy when it is started next: other than `needs` only while it is about
        to be replaced."""
        return self.spec.placements[0].needs

    @property
    def leased_until(self) -> float:
        """When the last of its leases ends; `-inf` where there is none."""
        return max(self.holds.values(), default=-math.inf)

    @property
    def holding(self) -> int:
        """Tickets that keep it from being stopped."""
        return len(self.in_flight) - len(self.silent)

    def held(self, now: float) -> bool:
        """Whether work goes on: tickets that hold it, or work of its own."""
        return self.holding > 0 or (self.busy and now < self.ask_at)

    @property
    def used_at(self) -> float:
        """When it was last of use, for the order of evictions."""
        return self.ready_at if self.last_used is None else max(self.last_used, self.ready_at)

    @property
    def idle_stop_at(self) -> float:
        """When an idle stop is due, if nothing happens until then."""
        if self.state is not BackendState.READY or self.holding or self.holds:
            return math.inf
        if self.unreachable is not None:
            return math.inf  # nobody could stop it
        due = self.used_at + self.spec.idle_timeout
        return max(due, self.ask_at) if self.busy else due

    def spread_of(self, name: str) -> float:
        """How far a `start`, `stop` or `service` is from what is expected, in the mean; a
        third of it until that is known. Seconds."""
        known = self.spreads.get(name)
        if known is not None:
            return known
        expected = {"start": self.expected_start, "stop": self.expected_stop}
        return expected.get(name, self.estimates.service or 0.0) / 3

    @property
    def expected_start(self) -> float:
        """Seconds that a start takes, as measured or guessed."""
        start = self.estimates.start
        return self.spec.start_guess if start is None else start

    @property
    def expected_stop(self) -> float:
        """Seconds that a stop takes, as measured or guessed."""
        stop = self.estimates.stop
        return self.spec.stop_guess if stop is None else stop

    @property
    def swap_cost(self) -> float:
        """Seconds that starting and stopping it take."""
        return self.expected_start + self.expected_stop

    @property
    def work(self) -> float:
        """Seconds in which all who use it or wait for it now will have been served."""
        count = self.holding + len(self.queue)
        at_a_time = self.spec.max_in_flight or count
        return math.ceil(count / at_a_time) * (self.estimates.service or 0.0) if count else 0.0

    @property
    def room(self) -> bool:
        """Whether it may be granted one more."""
        most = self.spec.max_in_flight
        return most is None or self.holding < most

    def oldest_wait(self, now: float) -> float | None:
        """Seconds that the first of its queue has waited; None where nobody waits."""
        oldest = self.queue.oldest
        return None if oldest == math.inf else now - oldest

    def started_in(self, seconds: float) -> None:
        """Fold the time that a start took into the estimates."""
        old = self.estimates
        start = self._folded("start", old.start, seconds)
        self.estimates = Estimates(start, old.stop, old.service)

    def stopped_in(self, seconds: float) -> None:
        """Fold the time that a stop took into the estimates."""
        old = self.estimates
        stop = self._folded("stop", old.stop, seconds)
        self.estimates = Estimates(old.start, stop, old.service)

    def served_in(self, times: Iterable[float]) -> None:
        """Fold the times that exchanges took, in seconds and in order, into the estimates."""
        old = self.estimates
        service = old.service
        for seconds in times:
            service = self._folded("service", service, seconds)
        if service != old.service:
            self.estimates = Estimates(old.start, old.stop, service)

    def _folded(self, name: str, before: float | None, time: float) -> float:
        if before is not None:
            self.spreads[name] = weigh(self.spreads.get(name), abs(time - before))
        return weigh(before, time)

    def snapshot(self, now: float) -> BackendSnapshot:
        """The backend at one moment."""
        idle = self.idle_stop_at
        return BackendSnapshot(
            id=self.id,
            state=self.state,
            epoch=self.epoch,
            since=self.since,
            needs=self.needs,
            in_flight=len(self.in_flight),
            silent=len(self.silent),
            queued=len(self.queue),
            known=self.known,
            reachable=self.unreachable is None,
            instance=self.instance,
            last_used=self.last_used,
            idle_stop_at=None if idle == math.inf else idle,
            retry_at=self.retry_at,
            failure=self.failure,
            stop_failure=self.stop_failure,
            busy=self.busy,
            estimates=self.estimates,
            oldest_wait=self.oldest_wait(now),
            leased=bool(self.holds),
            leased_until=self.leased_until if self.holds else None,
            blocked_by=self.blocked_by,
            drained=self.drained,
        )

    def __repr__(self) -> str:
        return (
            f"<Backend {self.id} {self.state.value} epoch={self.epoch}"
            f" in_flight={len(self.in_flight)} queued={len(self.queue)}>"
        )
