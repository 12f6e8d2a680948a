"""Finding what an operator names."""

from __future__ import annotations

from launcher.config import LauncherConfig, ModeConfig, RouteConfig
from launcher.control.gate import Gate
from launcher.core.types import Failure
from launcher.errors import LauncherError


def find_route(config: LauncherConfig, name: str) -> RouteConfig:
    """A route by name. Raises `unknown_route`."""
    for route in config.routes:
        if route.name == name:
            return route
    known = ", ".join(route.name for route in config.routes) or "none"
    raise LauncherError("unknown_route", f"No route of that name. Known: {known}.", param="route")


async def check_there(gate: Gate, route: RouteConfig) -> None:
    """Whether there is anything to start for it, before what is resident is stopped in vain.
    Raises `backend_missing`."""
    failure: Failure | None = None
    for backend in route.backends:
        failure = await gate.missing(backend)
        if failure is None:
            return
    if failure is not None:
        raise LauncherError(failure.code, failure.message)


def find_mode(config: LauncherConfig, name: str) -> ModeConfig:
    """A mode by name. Raises `unknown_mode`."""
    for mode in config.modes:
        if mode.name == name:
            return mode
    known = ", ".join(mode.name for mode in config.modes) or "none"
    raise LauncherError("unknown_mode", f"No mode of that name. Known: {known}.", param="mode")
