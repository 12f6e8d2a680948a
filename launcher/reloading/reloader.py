"""One reload after the other: the configuration is read and checked whole, compared with the
one that runs, and what differs is applied in one go; or nothing is.

Knows neither HTTP nor signals, nor how a difference is applied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from launcher import exposure
from launcher.config import LauncherConfig
from launcher.core.types import BackendId
from launcher.drivers.base import DriverSpec
from launcher.errors import ConfigError
from launcher.reloading.difference import Difference, applicable, compare
from launcher.reloading.identity import keeping_ids

log = logging.getLogger(__name__)

Load = Callable[[], LauncherConfig]
"""Reads and checks the configuration, from the beginning. Blocks. Raises ConfigError."""


class Running(Protocol):
    """What has a configuration and can take another."""

    @property
    def config(self) -> LauncherConfig:
        """The one that it has."""
        ...

    def leaving(self) -> Mapping[BackendId, DriverSpec]:
        """What backends still hold that they are no longer configured to be."""
        ...

    def take(self, config: LauncherConfig) -> None:
        """Be what this one says from now on; what is under way keeps what it came with. Raises
        ConfigError, where nothing was changed, for what only shows when it is tried."""
        ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of one reload."""

    difference: Difference
    warnings: tuple[str, ...]
    seconds: float
    """Reading, checking and applying."""


class Reloader:
    """The only one who changes a running launcher's configuration."""

    def __init__(self, load: Load, running: Running) -> None:
        self._load = load
        self._running = running
        self._turn = asyncio.Lock()

    async def reload(self, asked_by: str) -> Reloaded:
        """Read it again and apply what differs. `asked_by` is for the log: `SIGHUP`.

        Raises ConfigError with all that is wrong; nothing has changed then. Several at a time
        have their turns, each with what it reads when it comes.
        """
        async with self._turn:
            began = time.monotonic()
            try:
                loaded = await asyncio.to_thread(self._load)
                before, leaving = self._running.config, self._running.leaving()
                if before.routes and not loaded.routes:
                    # A file cut short while it was written is valid, too: all would be stopped,
                    # and with the keys gone the door would stand open.
                    raise ConfigError([f"{loaded.source}: has no routes any more"])
                held = {one.id: one.driver for one in before.backends}
                wanted = keeping_ids(held, leaving, loaded)
                difference = compare(before, wanted)
                self._running.take(applicable(before, wanted))
            except ConfigError as error:
                _log_problems(asked_by, error.problems)
                raise
            # Doors that stood open before were told of then.
            known = exposure.warnings(before)
            opened = [one for one in exposure.warnings(self._running.config) if one not in known]
            warnings = (*loaded.warnings, *opened)
            done = Reloaded(difference, warnings, time.monotonic() - began)
        _log(asked_by, done)
        return done


def _log_problems(asked_by: str, problems: list[str]) -> None:
    some = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    fields = {"detail": "\n".join(problems)}
    log.error("reload (%s): nothing was changed: %s", asked_by, some, extra={"fields": fields})


def _log(asked_by: str, done: Reloaded) -> None:
    text = sentence(done.difference) or "nothing has changed"
    log.info("reload (%s) in %.0f ms: %s", asked_by, done.seconds * 1000, text)
    for key in done.difference.needs_restart:
        log.warning("reload: %s is as it was: it needs a restart", key)
    for warning in done.warnings:
        log.warning("%s", warning)


def sentence(difference: Difference) -> str:
    """Such as `added route a; changed route b (models, max_wait); replaced backend c`; empty
    where nothing changes."""
    parts = []
    for kind, names in (("route", difference.routes), ("backend", difference.backends)):
        if names.added:
            parts.append(_some("added", kind, names.added))
        if names.removed:
            parts.append(_some("removed", kind, names.removed))
        if names.changed:
            changed = [f"{name} ({', '.join(keys)})" for name, keys in names.changed.items()]
            parts.append(_some("changed", kind, changed))
    if difference.replaced:
        parts.append(_some("replaced", "backend", difference.replaced))
    if difference.settings:
        parts.append(f"changed {', '.join(difference.settings)}")
    return "; ".join(parts)


def _some(verb: str, kind: str, names: list[str] | tuple[str, ...]) -> str:
    return f"{verb} {kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"
