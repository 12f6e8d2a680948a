"""`launcher serve`, `check` and `demo`: what runs with a configuration of its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from launcher.cli.common import FAILED, INTERRUPTED, ConfigOption, load, say

if TYPE_CHECKING:
    from launcher.config import LauncherConfig
    from launcher.config.redact import Redactor


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
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Reload when routes.toml or a secret file of it changes."),
    ] = False,
) -> None:
    """Serve the routes until SIGTERM or Ctrl-C; containers stay up for the next run.

    SIGHUP reloads the configuration. Logs one line per decision (starts,
    stops, rejects) and one per request to stderr.

    \b
      launcher serve
      launcher serve --watch
      launcher serve --config /etc/launcher/routes.toml --listen 0.0.0.0:8000
      launcher serve --listen 127.0.0.1:8000 --listen unix:/run/launcher.sock
    """
    with _nothing_collected():
        loaded = _listening(load(config), listen or [])

        import launcher.service  # noqa: F401 - `_serve` uses it
        from launcher.config.redact import Redactor, secrets_of
        from launcher.telemetry import log

    redactor = Redactor(secrets_of(loaded))
    with log.configured(log_format=log_format, level=log_level, redactor=redactor):
        code = _serve(loaded, _Source(config, listen or []), redactor, watch=watch)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the configuration was read from, for reloads."""

    config: Path | None
    listen: list[str]

    def load(self) -> LauncherConfig:
        """Read it again. Raises ConfigError."""
        from launcher.config.load import load_config

        return _listening(load_config(self._path, os.environ), self.listen)

    def files(self) -> tuple[str, ...]:
        """Return the files to watch."""
        from launcher.config.reload import files_of
        from launcher.config.sources import find_file

        return files_of(find_file(self._path, os.environ), os.environ)

    @property
    def _path(self) -> str | None:
        return None if self.config is None else str(self.config)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Turn the garbage collector off while modules are loaded: it takes a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _listening(config: LauncherConfig, listen: list[str]) -> LauncherConfig:
    if not listen:
        return config
    from dataclasses import replace

    from launcher.config.values import listens

    try:
        return replace(config, listen=listens(list(listen)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen") from None


def _serve(config: LauncherConfig, source: _Source, redactor: Redactor, *, watch: bool) -> int:
    import asyncio
    import logging

    from launcher.errors import ConfigError, LauncherError
    from launcher.service import serve as run

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
            watched = source.files if watch else None
            runner.run(run(config, load=source.load, watched=watched, redactor=redactor))
    except (KeyboardInterrupt, asyncio.CancelledError):
        # A second signal, during the wait for running exchanges.
        return INTERRUPTED
    except (ConfigError, LauncherError, OSError) as error:
        # An address that is taken, a socket path that isn't allowed, a certificate not found.
        log.error("can't serve: %s", error)
        return FAILED
    return 0


def check(config: ConfigOption = None) -> None:
    """Read the configuration, look at what it names, and print all that is wrong at once.

    Starts and stops nothing. Exit code 0: good, warnings aside; 1: problems;
    2: it can't be read as a configuration.

    \b
      launcher check
      launcher check --config /etc/launcher/routes.toml
    """
    loaded = load(config)
    import asyncio

    from launcher.cli.preflight import check as look

    report = asyncio.run(look(loaded))
    for warning in report.warnings:
        say(f"warning: {warning}")
    for problem in report.problems:
        say(f"problem: {problem}")
    if report.problems:
        raise typer.Exit(FAILED)
    routes = len(loaded.routes)
    typer.echo(f"{loaded.source}: {routes} {'route' if routes == 1 else 'routes'}, all good")


def demo(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE.gguf",
            exists=True,
            dir_okay=False,
            help="Serve this model instead of the tiny ones. May be repeated.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", "-l", metavar="HOST:PORT", help="Where to listen.")
    ] = "127.0.0.1:8000",
    check: Annotated[bool, typer.Option("--check", help="Ask every model once, and end.")] = False,
) -> None:
    """Serve two real language models, of which only one is up at a time.

    Needs no Docker and no GPU, only `pip install 'lazy-launcher\\[demo]'`:
    llama.cpp as local processes, and tiny models of random weights that are
    written on the spot.

    \b
      launcher demo
      launcher demo --model qwen2.5-0.5b-instruct-q4_k_m.gguf
    """
    from launcher.demo import run

    raise typer.Exit(run(listen=listen, models=model or [], check=check))
