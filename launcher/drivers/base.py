"""What every driver does, and the data that goes in and out.

A driver holds backends: it starts, stops and inspects them. It never decides. Each
instance has a name (`docker@local`, `process@local`) and serves many backends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from launcher.core.types import BackendId
from launcher.http.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container that exists, by its exact name or its compose service."""

    container: str
    port: int
    scheme: Literal["http", "https"] = "http"
    base_path: str = ""
    address: str | None = None
    """`host:port` or `unix:/path` that overrides every discovered endpoint."""
    stop_grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A local program. `{port}` in command and env is replaced by a free port."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Not in the repr: it may hold keys."""
    cwd: str | None = None
    port: int | None = None
    """Fixed port; None: a free one at each start."""
    scheme: Literal["http", "https"] = "http"
    base_path: str = ""
    stop_grace: float = 10.0


@dataclass(frozen=True, slots=True)
class ReservedSpec:
    """Capacity that is kept for work outside the launcher; nothing is started."""

    port: None = None
    stop_grace: float = 0.0


DriverSpec = ContainerSpec | ProcessSpec | ReservedSpec


def same_start(one: DriverSpec, other: DriverSpec) -> bool:
    """Whether both start the same thing and reach it in the same way, whatever their
    `stop_grace`."""
    return replace(one, stop_grace=0.0) == replace(other, stop_grace=0.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a look at a backend showed."""

    exists: bool = True
    """There is something to start (the container was created, the program is there)."""
    running: bool = False
    instance: str | None = None
    """Differs between any two starts: container id and StartedAt, or pid and start time."""
    running_for: float = 0.0
    """Seconds since it was started."""
    health: Literal["starting", "healthy", "unhealthy"] | None = None
    """The container's own HEALTHCHECK, where it has one."""
    exit_code: int | None = None
    oom_killed: bool = False
    error: str | None = None
    """What the engine says of a failed start; where there is nothing to start, what to do."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something happened to a backend (an engine event): look at it."""

    backend: BackendId


@dataclass(frozen=True, slots=True)
class Connected:
    """The event stream (re)opened: list everything anew."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The engine doesn't answer. The driver goes on trying by itself."""

    reason: str


DriverEvent = Changed | Connected | Disconnected


class Driver(Protocol):
    """Every call has a deadline of its own inside; every failure is a LauncherError.

    Errors: `docker_unavailable` (the engine doesn't answer), `backend_missing` (nothing
    of that name), `backend_start_failed`, `backend_stop_failed`.
    """

    @property
    def name(self) -> str:
        """Such as `docker@local`."""
        ...

    def configure(self, specs: Mapping[BackendId, DriverSpec]) -> None:
        """The backends it holds from now on (at boot, and on a reload)."""
        ...

    async def open(self) -> None:
        """Connect and clean up what a crashed launcher left. Never fails for an engine that
        is away: `watch` says Disconnected then."""
        ...

    async def close(self) -> None:
        """Let go of everything. Containers stay up; child processes end."""
        ...

    async def list(self) -> Mapping[BackendId, Observation]:
        """Every configured backend, also those that don't exist (`exists=False`)."""
        ...

    async def inspect(self, backend: BackendId) -> Observation:
        """One backend, looked up anew by name."""
        ...

    async def start(self, backend: BackendId) -> Observation:
        """Start it; it runs when this returns (it may die at once). If it runs already,
        that is no error. Cancelling leaves either a running backend or none, to be seen by
        `inspect`."""
        ...

    async def stop(self, backend: BackendId) -> None:
        """SIGTERM, `stop_grace`, SIGKILL; returns when it is confirmed that nothing runs.
        If nothing runs, that is no error."""
        ...

    async def endpoints(self, backend: BackendId) -> tuple[Endpoint, ...]:
        """Where the running backend may answer, best first; the first that answers a probe
        wins."""
        ...

    async def log_tail(self, backend: BackendId, lines: int = 20) -> tuple[str, ...]:
        """The last lines of its output since its last start, oldest first."""
        ...

    def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[str, None]:
        """The last lines of its output since its last start, then each as it is printed. Ends
        with the output of that start; at once where nothing runs. To be closed."""
        ...

    def watch(self) -> AsyncIterator[DriverEvent]:
        """What happens, for as long as the driver is open; begins with Connected or
        Disconnected, reconnects by itself."""
        ...
