"""What all that operators do needs: the dispatcher, two clocks, and finding what they name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.config import LauncherConfig, ModeConfig, RouteConfig
from launcher.core.types import BackendId, Failure, Needs, Snapshot
from launcher.errors import LauncherError
from launcher.runtime.admission import Admission, Ask


class OperatorGate(Protocol):
    """What operators' actions need of the dispatcher."""

    def admit(self, ask: Ask) -> Admission:
        """Take a ticket."""
        ...

    def snapshot(self) -> Snapshot:
        """Return everything as it is at this moment."""
        ...

    async def missing(self, backend: BackendId) -> Failure | None:
        """Return why there is nothing to start for a backend; None where there is something, or
        where it is unknown."""
        ...

    def drain(self, backends: Sequence[BackendId] | None, on: bool) -> None:
        """Refuse new tickets of these backends (None: of all, later ones as well), or take them
        again."""
        ...

    def reserve(self, backend: BackendId, needs: Needs, *, held: bool = False) -> None:
        """Add a backend that only occupies its needs, for a lease on it. `held`: it occupies them
        already, since an earlier run."""
        ...

    def unreserve(self, backend: BackendId) -> None:
        """Remove a backend that `reserve` added."""
        ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """The core's clock, which never jumps, and the wall clock, which outlives a restart."""

    now: Callable[[], float]
    """The scheduler's clock, in seconds."""
    wall: Callable[[], float]
    """Seconds since 1970."""

    def wall_at(self, at: float) -> float | None:
        """Convert a time of the core to the wall clock; None for `inf`."""
        return None if at == math.inf else self.wall() + at - self.now()

    def core_at(self, at: float | None) -> float:
        """Convert a wall-clock time to the core's clock; `inf` for None."""
        return math.inf if at is None else self.now() + at - self.wall()


def find_route(config: LauncherConfig, name: str) -> RouteConfig:
    """Return a route by name. Raises `unknown_route`."""
    for route in config.routes:
        if route.name == name:
            return route
    known = ", ".join(route.name for route in config.routes) or "none"
    raise LauncherError("unknown_route", f"No route of that name. Known: {known}.", param="route")


def find_mode(config: LauncherConfig, name: str) -> ModeConfig:
    """Return a mode by name. Raises `unknown_mode`."""
    for mode in config.modes:
        if mode.name == name:
            return mode
    known = ", ".join(mode.name for mode in config.modes) or "none"
    raise LauncherError("unknown_mode", f"No mode of that name. Known: {known}.", param="mode")


async def check_exists(gate: OperatorGate, route: RouteConfig) -> None:
    """Raise `backend_missing` where none of its backends exists, before others stop for it."""
    failure: Failure | None = None
    for backend in route.backends:
        failure = await gate.missing(backend)
        if failure is None:
            return
    if failure is not None:
        raise LauncherError(failure.code, failure.message)
