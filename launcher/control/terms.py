"""What a lease may ask for: how long, and how much."""

from __future__ import annotations

from launcher.config import LauncherConfig
from launcher.core.types import Needs
from launcher.errors import LauncherError
from launcher.printable import seconds


def check_term(config: LauncherConfig, ttl: float) -> None:
    """Whether a lease may last for so many seconds. Raises `invalid_request`."""
    if not 0 < ttl <= config.max_lease:
        raise LauncherError(
            "invalid_request",
            f"A lease lasts longer than 0 s and at most {seconds(config.max_lease)} "
            "(`max_lease`); it can be renewed, and admins may pin.",
            param="ttl",
        )


def check_needs(config: LauncherConfig, wanted: Needs) -> None:
    """Whether so much may be reserved. Raises `invalid_request` for what can never be had."""
    capacity = dict(config.capacity)
    told = ", ".join(f"{name} = {units}" for name, units in config.capacity) or "nothing"
    if not wanted:
        raise LauncherError(
            "invalid_request", f"Say what is needed; the capacity is {told}.", param="needs"
        )
    for name, units in wanted:
        if not 0 < units <= capacity.get(name, 0):
            raise LauncherError(
                "invalid_request",
                f"{name} = {units} can never be had: the capacity is {told}.",
                param="needs",
            )
