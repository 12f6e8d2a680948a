"""The core's nouns. Plain data: no I/O, no clock; every time is in seconds on one clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NewType, Self

BackendId = NewType("BackendId", str)
TicketId = NewType("TicketId", int)


class BackendState(Enum):
    """Where a backend stands; `launcher.core.lifecycle` says which moves are legal."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


#: Occupies its needs: from the decision to start until the stop is confirmed.
RESIDENT = frozenset(
    {BackendState.STARTING, BackendState.READY, BackendState.DRAINING, BackendState.STOPPING}
)

#: What a backend occupies or a machine has: resource name to whole units.
Needs = tuple[tuple[str, int], ...]


def needs(**units: int) -> Needs:
    """The canonical (sorted, zero-free) form of some needs."""
    return tuple(sorted((name, n) for name, n in units.items() if n))


class Plain:
    """Frozen data, of which a deep copy needs no copy."""

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Placement(Plain):
    """One way to place a backend: what it occupies if placed so."""

    needs: Needs = ()


class Priority(IntEnum):
    """A ticket's class; the lower goes first."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


def patience(priority: Priority, max_wait: float, batch_max_wait: float) -> tuple[float, float]:
    """`max_wait` and `ages` of a ticket, by its class: `batch` is urgent and of the highest
    class after `batch_max_wait`, `normal` is of the highest after a third of that. Seconds."""
    if priority is Priority.BATCH:
        return batch_max_wait, batch_max_wait
    return max_wait, batch_max_wait / 3


class Wake(Enum):
    """What a ticket may cause where its backend isn't up."""

    ALWAYS = "always"
    """Whatever it takes."""
    IF_IDLE = "if-idle"
    """A start in room that is free; nobody is stopped for it."""
    NEVER = "never"
    """Nothing: it is served where the backend is up or coming up anyway."""


class OnLease(Enum):
    """What becomes of a ticket that needs a place which a lease holds."""

    WAIT = "wait"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Hold(Plain):
    """What makes a ticket a lease: once granted, it keeps its backend resident."""

    ttl: float
    """Seconds from the grant; `inf`: a pin, which ends only when it is let go."""
    until: float | None = None
    """Absolute: a lease granted in an earlier run, in force from its arrival on, whatever its
    backend is doing; `ttl` doesn't count then."""


@dataclass(frozen=True, slots=True)
class Estimates(Plain):
    """Exponentially weighted times of one backend, in seconds; None until measured."""

    start: float | None = None
    stop: float | None = None
    service: float | None = None


@dataclass(frozen=True, slots=True)
class BackendSpec(Plain):
    """What the scheduler knows of a backend. Durations in seconds."""

    id: BackendId
    placements: tuple[Placement, ...] = (Placement(),)
    idle_timeout: float = math.inf
    """Stop after this long without a ticket; `inf` never does."""
    start_timeout: float = 600.0
    max_queue: int = 512
    prewarm: int | None = None
    """Rank among the backends to start at boot; None: not prewarmed."""
    asks_busy: bool = False
    """It has a `busy` URL that must say no before an idle stop or an eviction."""
    max_in_flight: int | None = None
    """Tickets granted at a time, at most; None: no bound."""
    linger: float = math.inf
    """The longest that it may stay, idle, while others wait for its place; how long it pays is
    learned. 0 turns that off."""
    estimates: Estimates = field(default_factory=Estimates)
    """What an earlier run measured."""
    start_guess: float = 30.0
    stop_guess: float = 3.0


@dataclass(frozen=True, slots=True)
class Ticket(Plain):
    """One request's place. Whoever asks: a client, an operator, a job."""

    id: TicketId
    backends: tuple[BackendId, ...]
    """In order of preference; the core binds the ticket to one on arrival."""
    max_wait: float = 60.0
    """Seconds after arrival from which it is overdue and may make a busy backend drain."""
    deadline: float = math.inf
    """Absolute time at which a ticket still queued is rejected with `queue_timeout`."""
    quiet: bool = False
    """Neither wakes a backend nor keeps one: served where ready, else `not_resident`."""
    operator: bool = False
    """Asked for by an operator: clears a back-off."""
    priority: Priority = Priority.NORMAL
    ages: float = 1800.0
    """Seconds waited after which it counts as of the highest class; it rises in even steps."""
    wake: Wake = Wake.ALWAYS
    urgent: bool = False
    """An operator's order (a switch, a lease): ahead of everybody who waits, in the order of
    arrival among its like. Those in use drain for it, with what runs on them served to its
    end; a back-off is cleared."""
    hold: Hold | None = None
    """It is a lease: see `Hold`. It takes no place of `max_in_flight`, and says nothing of what
    the backend's traffic is like."""
    on_lease: OnLease = OnLease.WAIT
    """Where leases of others keep its place: wait for their end, or be told at once."""


@dataclass(frozen=True, slots=True)
class Failure(Plain):
    """Why a start or a stop failed, as clients are told. `code` is one of launcher.errors."""

    code: str
    message: str
    detail: str | None = None
    """For operators: exit code, OOMKilled, the last log lines (already redacted)."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a queued ticket will probably still wait."""

    place: int
    """1 for the next of its backend's queue to be served."""
    seconds: float
    spread: float
    """Two times out of three the wait ends within so many seconds of that."""


class StopReason(Enum):
    """Why a backend is stopped: the label of `launcher_stops_total`."""

    IDLE = "idle"
    EVICTED = "evicted"
    OPERATOR = "operator"
    FAILED_START = "failed_start"
    HUNG = "hung"
    SURPLUS = "surplus"
    REMOVED = "removed"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """One backend at one moment, for status pages, metrics and tests."""

    id: BackendId
    state: BackendState
    epoch: int
    since: float
    """When the state was entered."""
    needs: Needs
    in_flight: int
    """Tickets granted and not released, silent ones included, leases not."""
    silent: int
    """Of those in flight, how many hold nothing: quiet requests, tunnels fallen silent."""
    queued: int
    known: bool
    reachable: bool
    instance: str | None
    last_used: float | None
    idle_stop_at: float | None
    retry_at: float | None
    failure: Failure | None
    stop_failure: Failure | None
    busy: bool
    estimates: Estimates
    oldest_wait: float | None
    """Seconds the oldest queued ticket has waited."""
    leased: bool = False
    """A lease keeps it: no eviction, no idle stop."""
    leased_until: float | None = None
    """The latest end of its leases; `inf`: a pin. None where it isn't leased."""
    blocked_by: tuple[BackendId, ...] = ()
    """Those whose leases leave it no place."""
    drained: bool = False
    """New tickets are refused."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment."""

    now: float
    capacity: Needs
    used: Needs
    backends: dict[BackendId, BackendSnapshot]
    closed: bool
