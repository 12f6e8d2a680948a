"""What can happen. Fed to `Scheduler.handle(event, now)`, one at a time.

`epoch` counts a backend's state transitions. An outcome carries the epoch of the effect
that it answers, an observation the epoch that was current when the look was taken; where
the backend has moved on since, the scheduler ignores it (and asks for another look).
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.core.types import BackendId, BackendSpec, Failure, Needs, Ticket, TicketId


@dataclass(frozen=True, slots=True)
class SpecsChanged:
    """The configuration, at boot and whenever it changes."""

    added: tuple[BackendSpec, ...] = ()
    changed: tuple[BackendSpec, ...] = ()
    removed: tuple[BackendId, ...] = ()
    replaced: tuple[BackendSpec, ...] = ()
    """Something else is started under the same id: what runs of the old one drains and is
    stopped, those who wait for it stay, and are served by the new one."""
    capacity: Needs | None = None
    """None: as it was."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A ticket asks. Ends in exactly one Grant or Reject, or in Abandoned."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A ticket that was still queued left."""

    ticket: TicketId


@dataclass(frozen=True, slots=True)
class Released:
    """A granted ticket is done. `ok`: the exchange was a good one (resets the back-off)."""

    ticket: TicketId
    ok: bool = True


#: Under a permit: the time at which one entered, or of one that left the time, its number
#: (they are counted from 1) and whether its exchange was a good one.
PermitLog = tuple[float | tuple[float, int, bool], ...]


@dataclass(frozen=True, slots=True)
class PermitUsed:
    """What was done under a permit since the last such event, in order.

    Has to be fed before any other event, snapshot, forecast or plan while there is something to
    tell of an open permit; of one that was taken back, whenever somebody leaves.
    """

    backend: BackendId
    permit: int
    log: PermitLog
    decide: bool
    """The last who left may have left something to decide about: it left the backend idle and
    the permit has `report_idle`, or the permit was taken back."""

    @property
    def entered(self) -> int:
        """Return how many entered."""
        return list(map(type, self.log)).count(float)


@dataclass(frozen=True, slots=True)
class Silenced:
    """A granted ticket's tunnel fell silent (or spoke again): it no longer holds its backend."""

    ticket: TicketId
    silent: bool


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease in force ends at another time (absolute; `inf`: never): later, sooner, or at once
    where that has passed."""

    ticket: TicketId
    until: float


@dataclass(frozen=True, slots=True)
class Launched:
    """What a Start started runs; until it is ready, nothing comes of that but the knowledge."""

    backend: BackendId
    epoch: int


@dataclass(frozen=True, slots=True)
class Started:
    """Start or Adopt came to a ready backend."""

    backend: BackendId
    epoch: int
    instance: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """Start or Adopt failed. The scheduler then stops what may be left of it."""

    backend: BackendId
    epoch: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Stopped:
    """A Stop is confirmed: the driver saw that nothing runs."""

    backend: BackendId
    epoch: int


@dataclass(frozen=True, slots=True)
class StopFailed:
    """A Stop did not end, or can't be confirmed; it is tried again with back-off."""

    backend: BackendId
    epoch: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Observed:
    """A look at what really runs, taken while no Start, Adopt or Stop of ours was under way.

    `epoch` is the backend's when the look began. `running_for` is in seconds.
    """

    backend: BackendId
    epoch: int
    running: bool
    instance: str | None = None
    running_for: float = 0.0


@dataclass(frozen=True, slots=True)
class Reachable:
    """The driver of these backends answers, or no longer does."""

    backends: tuple[BackendId, ...]
    reachable: bool
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """The answer to AskBusy: the backend says it has (or has no) work of its own."""

    backend: BackendId
    epoch: int
    busy: bool


@dataclass(frozen=True, slots=True)
class Hung:
    """A ready backend failed its liveness probes: its exchanges are to be cut, it restarts."""

    backend: BackendId
    epoch: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """An operator wants it stopped: after what runs, or at once with `force`."""

    backend: BackendId
    force: bool = False


@dataclass(frozen=True, slots=True)
class Drained:
    """New tickets of these backends are refused, or (`on` false) no longer: what waits and what
    runs is served. None: of all, those added later as well."""

    backends: tuple[BackendId, ...] | None
    on: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The launcher shuts down: the queue is rejected, nothing starts or stops any more."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time asked for with WakeAt has come."""


Event = (
    SpecsChanged
    | Arrived
    | Abandoned
    | Released
    | PermitUsed
    | Silenced
    | Renewed
    | Launched
    | Started
    | StartFailed
    | Stopped
    | StopFailed
    | Observed
    | Reachable
    | Busy
    | Hung
    | StopRequested
    | Drained
    | Closed
    | Tick
)
