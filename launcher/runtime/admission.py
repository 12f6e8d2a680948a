"""The gate as its callers see it: ask, wait, hold, let go.

    with dispatcher.admit(Ask(backends=("coder",))) as admission:
        grant = admission.grant or await admission.granted()
        ...                     # the exchange; admission.ok = True if it was a good one

Leaving the block releases the ticket, or abandons it if it was still queued, whatever
happened inside: acquire and release belong to the gate, not to its caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from launcher.config import Secret
from launcher.core.types import BackendId, Forecast, Hold, OnLease, Priority, Wake
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint

if TYPE_CHECKING:
    from launcher.runtime.permits import Permit


class Ask(NamedTuple):
    """What a caller wants of the gate. Durations in seconds."""

    backends: tuple[BackendId, ...]
    max_wait: float = 60.0
    queue_timeout: float = math.inf
    quiet: bool = False
    operator: bool = False
    priority: Priority = Priority.NORMAL
    ages: float = 1800.0
    wake: Wake = Wake.ALWAYS
    urgent: bool = False
    """An operator's order: see `core.types.Ticket`."""
    hold: Hold | None = None
    """It is a lease."""
    on_lease: OnLease = OnLease.WAIT


class Grant(NamedTuple):
    """The right to use a ready backend, and where it answers."""

    backend: BackendId
    epoch: int
    endpoint: Endpoint
    cold: bool
    """It waited for a start."""
    queued: float
    """Seconds between asking and being granted, the start's included."""
    starting: float
    """Of those, seconds that the backend was starting."""
    key: Secret | None = None
    """What the backend asks for, by the configuration that it runs under."""
    until: float | None = None
    """Of a lease: when it ends, on the dispatcher's clock; `inf`: never by itself. One that was
    continued may have been granted before its backend is up: its `endpoint` is empty then."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a waiting client can be told."""

    backend: BackendId
    phase: str
    """`queued`, `starting`, `stopping X for it`, … in words for a person."""
    waited: float
    forecast: Forecast | None
    """Its place and how long it will still wait, where anybody can tell."""
    cold: bool = True
    """It waits for a start, and not only for its turn."""


class Admission(Protocol):
    """One ticket, from asking to letting go."""

    grant: Grant | None
    ok: bool
    """Set to True when the exchange was a good one: resets the backend's back-off."""
    starting: float
    """Where the ticket was rejected: seconds of its wait that the backend was starting."""
    on_abort: Callable[[LauncherError], None] | None
    """Called (once, synchronously) when the exchange is to be cut: the backend is stopped
    by force, or hung. Must lead to the block being left soon."""

    on_expired: Callable[[], None] | None
    """Of a lease: called (once, synchronously) when it has ended. Its ticket is gone then; to
    leave the block is still right."""
    broken: bool
    """Of a lease that has ended: before its time, since its backend was stopped by force or is
    no longer configured."""

    async def granted(self) -> Grant:
        """Wait for the grant. Raises LauncherError where the ticket is rejected."""
        ...

    def progress(self) -> Progress:
        """Where the ticket stands."""
        ...

    def silence(self, silent: bool) -> None:
        """The tunnel fell silent, or speaks again: a silent one doesn't hold its backend."""
        ...

    def renew(self, until: float) -> None:
        """A granted lease ends at another time, on the dispatcher's clock (`inf`: never): later,
        sooner, or at once. Raises LookupError for one that isn't granted, or has ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Gate(Protocol):
    """What the proxy needs of the dispatcher."""

    @property
    def permits(self) -> Mapping[BackendId, Permit]:
        """Those that are open: see `runtime.permits`."""
        ...

    def admit(self, ask: Ask) -> Admission:
        """Answers at once; costs no task and no future where the backend is ready."""
        ...

    async def suspect(self, grant: Grant) -> bool:
        """A backend believed ready refused, reset, or gave no first byte for 30 s. Looks at it
        now (inspection, then one probe) and says whether it is alive; if it died, the
        scheduler knows when this returns. Concurrent calls for one backend share one look.

        Raises `docker_unavailable` where nobody answers and its engine is away as well."""
        ...

    def watch_silence(self, grant: Grant) -> None:
        """No first byte for 30 s: begin the liveness probes of this backend (at most one
        round at a time): three failures, 10 s apart, feed Hung."""
        ...
