"""`launcher serve`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from launcher.cli.attending import FAILED, INTERRUPTED
from launcher.cli.configuration import load
from launcher.cli.options import ConfigOption

if TYPE_CHECKING:
    from launcher.config import LauncherConfig


def serve(
    config: ConfigOption = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            "-l",
            metavar="HOST:PORT",
            help="Where to listen, instead of what the configuration says (127.0.0.1:8000 where "
            "it says nothing); also unix:/path. May be repeated.",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        Literal["auto", "json", "human"],
        typer.Option(envvar="LAUNCHER_LOG_FORMAT", help="auto: human on a terminal, else JSON."),
    ] = "auto",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar="LAUNCHER_LOG_LEVEL", help="debug also shows what processes print."),
    ] = "info",
) -> None:
    """Serve the routes until SIGTERM or Ctrl-C; containers stay up for the next run.

    Logs one line per decision (starts, stops, rejects) and one per request
    to stderr.

    \b
      launcher serve
      launcher serve --config /etc/launcher/routes.toml --listen 0.0.0.0:8000
      launcher serve --listen 127.0.0.1:8000 --listen unix:/run/launcher.sock
    """
    with _nothing_collected():
        loaded = _listening(load(config), listen or [])

        import launcher.app  # noqa: F401 - `_serve` uses it
        from launcher import logs
        from launcher.redact import Redactor, secrets_of

    redact = Redactor(secrets_of(loaded)).text
    with logs.configured(log_format=log_format, level=log_level, redact=redact):
        code = _serve(loaded)
    raise typer.Exit(code)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """While modules are loaded nearly nothing is garbage, and looking for it takes a tenth of
    the time to start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _listening(config: LauncherConfig, listen: list[str]) -> LauncherConfig:
    if not listen:
        return config
    from dataclasses import replace

    from launcher.loading.addresses import listens

    try:
        return replace(config, listen=listens(list(listen)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen") from None


def _serve(config: LauncherConfig) -> int:
    import asyncio
    import logging

    from launcher.app import serve as run
    from launcher.errors import ConfigError, LauncherError

    new_event_loop: Callable[[], asyncio.AbstractEventLoop]
    try:
        from uvloop import new_event_loop
    except ImportError:  # no wheel for this platform: asyncio's own is slower, and does
        new_event_loop = asyncio.new_event_loop

    log = logging.getLogger(__name__)
    for warning in config.warnings:
        log.warning("%s", warning)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(config))
    except (KeyboardInterrupt, asyncio.CancelledError):
        # A second signal, while running exchanges were waited for.
        return INTERRUPTED
    except (ConfigError, LauncherError, OSError) as error:
        # An address that is taken, a socket path that isn't allowed, a certificate not found.
        log.error("can't serve: %s", error)
        return FAILED
    return 0
