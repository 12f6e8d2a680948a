"""What is to be done. Returned by `Scheduler.handle`, carried out by the dispatcher, in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from launcher.core.types import BackendId, Placement, StopReason, TicketId


@dataclass(frozen=True, slots=True)
class Start:
    """Start it and wait until it is ready; answer with Started or StartFailed, same epoch."""

    backend: BackendId
    epoch: int
    placement: Placement
    deadline: float
    """Absolute: not ready by then is StartFailed(start_timeout)."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """It runs already: wait until it is ready; answer with Started or StartFailed."""

    backend: BackendId
    epoch: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop it (a Start or Adopt under way is cancelled first); answer Stopped or StopFailed."""

    backend: BackendId
    epoch: int
    reason: StopReason


@dataclass(frozen=True, slots=True)
class Admit:
    """The ticket may use its backend; it counts as in flight from now on."""

    ticket: TicketId
    backend: BackendId
    cold: bool
    """It waited for a start."""
    until: float | None = None
    """Of a lease: when it ends (absolute; `inf`: never by itself)."""


@dataclass(frozen=True, slots=True)
class PermitOpened:
    """Requests that name this backend alone may use it without asking; told with PermitUsed.

    Sent again, with the same `permit`, where `limit` or `report_idle` is another.
    """

    backend: BackendId
    permit: int
    """Its number: each permit has another."""
    limit: int
    """So many may use it under this permit at a time."""
    report_idle: bool
    """Feed PermitUsed, to decide, as soon as nobody uses it under this permit."""


@dataclass(frozen=True, slots=True)
class PermitClosed:
    """The permit is taken back; those who use it still are in flight until they leave."""

    backend: BackendId
    permit: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease has ended; its ticket is gone, and no Released is to come."""

    ticket: TicketId
    backend: BackendId
    broken: bool = False
    """Before its time: its backend was stopped by force, or is no longer configured."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The ticket ends here. `code` is one of launcher.errors; `retry_after` in seconds."""

    ticket: TicketId
    backend: BackendId
    code: str
    message: str
    retry_after: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Abort:
    """Cut every exchange that holds a ticket of this backend; each feeds Released."""

    backend: BackendId
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class AskBusy:
    """Ask its `busy` URL; answer with Busy, same epoch."""

    backend: BackendId
    epoch: int


@dataclass(frozen=True, slots=True)
class Inspect:
    """Look at what really runs; answer with Observed (an observation came too late)."""

    backend: BackendId


@dataclass(frozen=True, slots=True)
class Replace:
    """Nothing runs any more of what this backend was before it was replaced: hold it as it is
    configured now, and look at it (Observed)."""

    backend: BackendId


@dataclass(frozen=True, slots=True)
class Forget:
    """It is no longer configured, and nothing of it is left."""

    backend: BackendId


@dataclass(frozen=True, slots=True)
class PrewarmSkipped:
    """It was to be prewarmed and does not fit beside those before it: warn."""

    backend: BackendId


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Feed Tick at this time; each WakeAt replaces the one before."""

    at: float


class Action(Enum):
    """What the scheduler decided to do."""

    START = "start"
    STOP = "stop"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Decided:
    """Why something is done, as data; comes right before the effects it explains."""

    action: Action
    backend: BackendId
    why: str
    """One of a few words: `wanted`, `prewarm`, `idle`, `evicted`, `overdue`, an error's code."""
    wanted_by: BackendId | None = None
    """For whom room is made."""
    pays: tuple[BackendId, ...] = ()
    """Who was told to stop for it."""
    cost: float | None = None
    """Seconds that it is expected to cost: swaps, and work still to be waited for."""
    waiting: int = 0
    """Tickets queued for whoever wants it."""
    waited: float | None = None
    """Seconds that the oldest of them has waited."""


Effect = (
    Decided
    | Start
    | Adopt
    | Stop
    | Admit
    | PermitOpened
    | PermitClosed
    | Expired
    | Reject
    | Abort
    | AskBusy
    | Inspect
    | Replace
    | Forget
    | PrewarmSkipped
    | WakeAt
)
