"""What callers name: a route by its name, or by a model that it serves."""

from __future__ import annotations

from launcher.config import LauncherConfig
from launcher.control.base import find_route
from launcher.errors import LauncherError


def route_of(config: LauncherConfig, route: str | None, model: str | None) -> str:
    """The name of the route that is meant; of an alias the first model counts.

    Raises `unknown_route`, `unknown_model`, and `invalid_request` where not exactly one is given.
    """
    if (route is None) == (model is None):
        raise LauncherError("invalid_request", "Name either a `route` or a `model`.", param="route")
    if route is not None:
        return find_route(config, route).name
    wanted = next((one.models[0] for one in config.aliases if one.id == model), model)
    for one in config.routes:
        if any(served.id == wanted for served in one.models):
            return one.name
    known = ", ".join(served.id for one in config.routes for served in one.models) or "none"
    raise LauncherError("unknown_model", f"No such model. Known: {known}.", param="model")


def number_of(text: str, code: str, what: str) -> int:
    """The number in a path. Raises the error of that code, where it can't be one."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise LauncherError(code, f"There is no {what} {text[:40]!r}: they have numbers.")
