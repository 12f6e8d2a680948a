"""Warnings of what a configuration lets other machines do, at start and in `launcher check`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from launcher.config import LauncherConfig, Listen


def warnings(config: LauncherConfig) -> list[str]:
    """Return what callers from other machines may do, or may not, without a key."""
    scopes = config.scopes
    outside = _beyond(config.listen)
    operators = _beyond(config.admin_listen or config.listen)
    found = []
    if outside and "infer" not in scopes:
        found.append(
            f"{config.source}: [launcher] listen: whoever reaches {outside} may use every model: "
            "make a key (`launcher key new`), or keep the port private"
        )
    if operators and scopes.isdisjoint(("infer", "observe")):
        found.append(
            f"{config.source}: whoever reaches {operators} sees status, metrics and decisions: "
            "make a key with the scope observe, or keep the port private"
        )
    if operators and "admin" not in scopes:
        found.append(
            f"{config.source}: no key has the scope admin: at {operators} starts, stops and all "
            "else that changes something are refused to callers from other machines "
            "(`launcher key new --scope admin` makes one)"
        )
    return found


def _beyond(listen: Iterable[Listen]) -> str:
    """Return the addresses that other machines may reach, joined by commas."""
    return ", ".join(str(one) for one in listen if not _private(one))


def _private(listen: Listen) -> bool:
    if listen.unix_path is not None or listen.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(listen.host or "0.0.0.0").is_loopback
    except ValueError:
        return False
