"""Reloads, one at a time: read and check the configuration, compare it with the one that runs,
and apply what differs in one go; or change nothing. `changes` watches the files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.config import LauncherConfig, exposure
from launcher.config.difference import Difference, applicable, compare, keep_ids
from launcher.config.sources import Unresolved, expand
from launcher.core.types import BackendId
from launcher.drivers.base import DriverSpec
from launcher.errors import ConfigError

log = logging.getLogger(__name__)

Load = Callable[[], LauncherConfig]
"""Reads and checks the configuration, from the beginning. Blocks. Raises ConfigError."""


class Running(Protocol):
    """A launcher that can take another configuration."""

    @property
    def config(self) -> LauncherConfig:
        """The current one."""
        ...

    def leaving(self) -> Mapping[BackendId, DriverSpec]:
        """Return what is still held and no longer configured."""
        ...

    def take(self, config: LauncherConfig) -> None:
        """Apply the configuration; exchanges that are under way keep the one they came with.

        Raises ConfigError, having changed nothing, for what shows only when it is tried.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The outcome of one reload."""

    difference: Difference
    warnings: tuple[str, ...]
    seconds: float
    """Reading, checking and applying."""


class Reloader:
    """Changes a running launcher's configuration; nothing else does."""

    def __init__(self, load: Load, running: Running) -> None:
        self._load = load
        self._running = running
        self._turn = asyncio.Lock()

    async def reload(self, asked_by: str) -> Reloaded:
        """Read it again and apply what differs. `asked_by` is for the log: `SIGHUP`.

        Raises ConfigError with all that is wrong; nothing has changed then. Concurrent calls run
        one after the other, each reading anew.
        """
        async with self._turn:
            began = time.monotonic()
            try:
                loaded = await asyncio.to_thread(self._load)
                before, leaving = self._running.config, self._running.leaving()
                if before.routes and not loaded.routes:
                    # A file that is cut short while it is written may be valid: it would stop
                    # every backend, and without its keys let everybody in.
                    raise ConfigError([f"{loaded.source}: has no routes any more"])
                held = {one.id: one.driver for one in before.backends}
                wanted = keep_ids(held, leaving, loaded)
                difference = compare(before, wanted)
                self._running.take(applicable(before, wanted))
            except ConfigError as error:
                _log_problems(asked_by, error.problems)
                raise
            # What was open before has been warned of then.
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
    text = summary(done.difference) or "nothing has changed"
    log.info("reload (%s) in %.0f ms: %s", asked_by, done.seconds * 1000, text)
    for key in done.difference.needs_restart:
        log.warning("reload: %s is as it was: it needs a restart", key)
    for warning in done.warnings:
        log.warning("%s", warning)


def summary(difference: Difference) -> str:
    """Return a difference as text, such as `added route a; changed route b (models, max_wait)`;
    empty where nothing changes."""
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


#: Seconds between two checks of the files.
POLL_INTERVAL = 1.0

_SECRET = re.compile(r"""["']file:([^"']+)["']""")

Files = Callable[[], tuple[str, ...]]
"""Returns the files to watch. May block."""

Signatures = dict[str, tuple[int, int, int] | None]
"""File → inode, size and modification time; None where there is no file."""


def files_of(path: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files that a configuration is made of: its own, and those that hold secrets.

    Blocks. A few too many do no harm: the reload finds that nothing changed.
    """
    found = dict.fromkeys(value for key, value in environ.items() if key.endswith("_FILE"))
    if path is not None:
        found[path] = None
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        for named in _SECRET.findall(text):
            # What can't be resolved is reported when the file is read.
            with suppress(Unresolved):
                found[str(expand(named, environ))] = None
    return tuple(found)


async def changes(files: Files, every: float | None = None) -> AsyncGenerator[None, None]:
    """Yield whenever the files have changed and then stayed unchanged for one check, so that
    whoever writes them is done. Never ends. `every` is in seconds, by default POLL_INTERVAL.

    Files are looked up by name, which works with editors that write a new file and rename it,
    with secrets that are symbolic links, and with file systems that report no changes.
    """
    every = POLL_INTERVAL if every is None else every
    known = await asyncio.to_thread(_signatures, files)
    while True:
        await asyncio.sleep(every)
        seen = await asyncio.to_thread(_signatures, files)
        if seen == known:
            continue
        while True:
            await asyncio.sleep(every)
            again = await asyncio.to_thread(_signatures, files)
            if again == seen:
                break
            seen = again
        known = seen
        yield


def _signatures(files: Files) -> Signatures:
    return {name: _signature(name) for name in files()}


def _signature(name: str) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(name)
    except (OSError, ValueError):
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
