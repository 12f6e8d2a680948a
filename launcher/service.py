"""A launcher as a process: it serves until a signal ends it, and reloads when it is told to.

SIGHUP reads the configuration again, as does a change of its files where they are watched.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from launcher import __version__
from launcher.app import App, running
from launcher.config import LauncherConfig, Listen, exposure
from launcher.config.redact import Redactor
from launcher.config.reload import Files, Load, changes
from launcher.errors import ConfigError
from launcher.tasks import Group

log = logging.getLogger(__name__)

Ready = Callable[[tuple[Listen, ...]], None]
"""Told once, when requests are accepted, at which addresses."""

#: New objects (less those gone) after which the garbage collector looks at the youngest. A
#: request leaves nothing that only it can find, and each look goes over all that are under way.
GARBAGE = 20_000


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """For a process that does nothing but serve: what is loaded by now stays for good, so the
    garbage collector needn't go over it again and again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _listed(addresses: Iterable[Listen]) -> str:
    return ", ".join(map(str, addresses))


async def _reload(app: App, asked_by: str) -> None:
    try:
        await app.reloader.reload(asked_by)
    except ConfigError:
        pass  # the log has it
    except Exception:
        # A bug, and the next change of the configuration is still to be heard of.
        log.exception("a reload (%s) failed", asked_by)


async def _reload_when_told(app: App, told: asyncio.Event) -> None:
    while True:
        await told.wait()
        # Whoever tells while it is being read may have changed it since.
        told.clear()
        await _reload(app, "SIGHUP")


async def _reload_on_changes(app: App, files: Files) -> None:
    async for _ in changes(files):
        await _reload(app, "a file has changed")


async def serve(
    config: LauncherConfig,
    ready: Ready | None = None,
    *,
    load: Load | None = None,
    watched: Files | None = None,
    redactor: Redactor | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled. A second signal while running exchanges
    are waited for ends them at once.

    SIGHUP reads the configuration again by `load`; one that was ignored from the beginning
    (nohup) stays so. So does each change of the files that `watched` names. `redactor` is who
    takes secrets out of the log.
    """
    loop = asyncio.get_running_loop()
    app: App | None = None
    ended, told, reloads = asyncio.Event(), asyncio.Event(), Group()
    task = asyncio.current_task()

    def on_signal(name: str) -> None:
        if ended.is_set() and task is not None:
            log.warning("%s again: not waiting any longer", name)
            task.cancel()
        else:
            at_most = (config if app is None else app.config).drain_timeout
            log.info("%s: finishing what runs, at most %.0f s", name, at_most)
            ended.set()

    signals = [signal.SIGTERM, signal.SIGINT]
    for one in signals:
        loop.add_signal_handler(one, on_signal, one.name)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, told.set)
    try:
        async with running(config, load, redactor) as app:
            where = _listed(app.server.addresses)
            routes = len(config.routes)
            log.info("launcher %s serves %d routes at %s", __version__, routes, where)
            if config.admin_listen:
                log.info("operators' endpoints are at %s", _listed(app.server.operators))
            for warning in exposure.warnings(config):
                log.warning("%s", warning)
            reloads.spawn(_reload_when_told(app, told), name="reload when told")
            if watched is not None:
                reloads.spawn(_reload_on_changes(app, watched), name="watch the configuration")
            try:
                with _collecting_seldom():
                    if ready is not None:
                        ready(app.server.addresses)
                    await ended.wait()
            finally:
                await reloads.cancel()
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
        if app is not None:
            log.info("launcher has ended")
