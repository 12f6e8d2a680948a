"""What the scheduler remembers of one backend. State only; decisions are made elsewhere."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field, replace

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
    Ticket,
    TicketId,
)

#: Weight of the newest measurement in the exponentially weighted times.
WEIGHT = 0.3


def weigh(old: float | None, new: float) -> float:
    """The weighted mean with one more measurement."""
    return new if old is None else old + WEIGHT * (new - old)


@dataclass(frozen=True, slots=True)
class Queued:
    """A ticket in a queue, and since when."""

    ticket: Ticket
    since: float


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
    queue: dict[TicketId, Queued] = field(default_factory=dict)
    overdue: list[tuple[float, TicketId]] = field(default_factory=list)
    """Heap of (time from which it is overdue, ticket); entries of the departed stay in it."""

    ready_at: float = 0.0
    last_used: float | None = None
    deadline: float = math.inf
    """Of a start: the time at which the scheduler itself gives up."""

    drain_reason: StopReason | None = None
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
        if self.state is not BackendState.READY or self.holding:
            return math.inf
        if self.unreachable is not None:
            return math.inf  # nobody could stop it
        due = self.used_at + self.spec.idle_timeout
        return max(due, self.ask_at) if self.busy else due

    @property
    def swap_cost(self) -> float:
        """Seconds that starting and stopping it take, as measured or guessed."""
        start = self.estimates.start
        stop = self.estimates.stop
        return (self.spec.start_guess if start is None else start) + (
            self.spec.stop_guess if stop is None else stop
        )

    def overdue_at(self) -> float:
        """The earliest time at which one of its queued tickets is overdue."""
        heap = self.overdue
        while heap and heap[0][1] not in self.queue:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def enqueue(self, ticket: Ticket, now: float) -> None:
        """Put a ticket at the end of the queue."""
        self.queue[ticket.id] = Queued(ticket, now)
        heapq.heappush(self.overdue, (now + ticket.max_wait, ticket.id))

    def measured(self, **times: float) -> None:
        """Fold new measurements (start, stop, service; seconds) into the estimates."""
        old = self.estimates
        self.estimates = replace(
            old, **{name: weigh(getattr(old, name), time) for name, time in times.items()}
        )

    def snapshot(self, now: float) -> BackendSnapshot:
        """The backend at one moment."""
        idle = self.idle_stop_at
        first = next(iter(self.queue.values()), None)
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
            oldest_wait=None if first is None else now - first.since,
        )

    def __repr__(self) -> str:
        return (
            f"<Backend {self.id} {self.state.value} epoch={self.epoch}"
            f" in_flight={len(self.in_flight)} queued={len(self.queue)}>"
        )
