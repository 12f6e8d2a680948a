"""The command line: `launcher serve | check | status | plan | start | stop | demo | simulate`.

Words and exit codes only: 0 done, 1 it didn't work, 2 the command line or the configuration
is wrong, 130 interrupted. What a command needs is imported when it runs, so that `status` and
`--help` don't wait for the server's libraries.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from launcher.attending import FAILED, INTERRUPTED, WRONG, attend, connect, explained, say
from launcher.client import DEFAULT_URL
from launcher.simulate.command import simulate

if TYPE_CHECKING:
    from launcher.config import LauncherConfig

app = typer.Typer(
    name="launcher",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""One address for more models than fit on your GPU.

Requests to a route or a model start its backend, make room for it by
stopping others, and stream through once it is healthy. What is idle is
stopped.

\b
  launcher check                 is routes.toml right?
  launcher serve                 serve it
  launcher status                what runs, what waits, what comes next
  launcher plan coder            what a request for it would bring about
  launcher start coder           have a backend ready before it is needed
  launcher stop coder            free its place
  launcher demo                  try all of this with two tiny models
  launcher simulate              which policy would suit my traffic?
""",
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="LAUNCHER_CONFIG",
        help="routes.toml. Default: ./routes.toml, else /etc/launcher/routes.toml, else what "
        "MAP__… variables say.",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="LAUNCHER_URL",
        help="Where the launcher answers; also unix:/path.",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="One of its admin_keys (or api_keys, for `status` and `plan`). Default: "
        "LAUNCHER_ADMIN_KEY, else LAUNCHER_API_KEY.",
        show_default=False,
    ),
]
#: Columns of a table that no terminal shows.
_WIDE = 1000

RouteArgument = Annotated[str, typer.Argument(metavar="ROUTE", help="A route of routes.toml.")]


def _version(wanted: bool) -> None:
    if wanted:
        from launcher import __version__

        typer.echo(f"launcher {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Options of no command; the help stands with the app."""


@app.command()
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
        loaded = _listening(_load(config), listen or [])

        import launcher.app  # noqa: F401 - `_serve` uses it
        from launcher import logs
        from launcher.redact import Redactor, secrets_of

    redact = Redactor(secrets_of(loaded)).text
    with logs.configured(log_format=log_format, level=log_level, redact=redact):
        code = _serve(loaded)
    raise typer.Exit(code)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Read the configuration, look at what it names, and print all that is wrong at once.

    Starts and stops nothing. Exit code 0: good, warnings aside; 1: problems;
    2: it can't be read as a configuration.

    \b
      launcher check
      launcher check --config /etc/launcher/routes.toml
    """
    loaded = _load(config)
    import asyncio

    from launcher.check import check as look

    report = asyncio.run(look(loaded))
    for warning in report.warnings:
        say(f"warning: {warning}")
    for problem in report.problems:
        say(f"problem: {problem}")
    if report.problems:
        raise typer.Exit(FAILED)
    routes = len(loaded.routes)
    typer.echo(f"{loaded.source}: {routes} {'route' if routes == 1 else 'routes'}, all good")


@app.command()
def status(
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: Annotated[bool, typer.Option("--json", help="As the launcher sends it.")] = False,
) -> None:
    """Show what runs, what waits, what comes next, and what is wrong. Starts nothing.

    The last log lines of what failed are shown to holders of an admin key,
    and to everybody where no keys are set.

    \b
      launcher status
      launcher status --json | jq '.backends[] | {backend, state}'
      launcher status --url http://gpu.lan:8000 --key "$KEY"
    """
    with explained():
        report = connect(url, key).status()
    if json:
        sys.stdout.buffer.write(report.raw)
        return
    from rich.console import Console

    from launcher.status_view import glance

    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        # For grep and its like: a row is a line, however long.
        console = Console(width=_WIDE)
    console.print(glance(report))


@app.command()
def plan(
    route: RouteArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: Annotated[bool, typer.Option("--json", help="As the launcher sends it.")] = False,
) -> None:
    """Ask what would happen if a request for a route came now. Does nothing.

    Shows what would be started, drained and stopped for it, at what cost,
    and how long it would probably wait.

    \b
      launcher plan coder
      launcher plan coder --json | jq .predictedWait
    """
    with explained():
        report = connect(url, key).plan(route)
    if json:
        sys.stdout.buffer.write(report.raw)
        return
    from rich.console import Console

    from launcher.plan_view import outlook

    Console().print(outlook(report), soft_wrap=True)


@app.command()
def start(route: RouteArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Start a route's backend as a request would, and wait until it is ready.

    Makes room for it where that is needed, but cuts nothing that runs. Also
    ends the back-off after a failed start. Interrupted, it gives up its
    place; a start under way goes on.

    \b
      launcher start coder
      launcher start coder && curl http://127.0.0.1:8000/coder/v1/models
    """
    from launcher.status_view import starting

    client = connect(url, key)
    attend(client, client.start(route), lambda report: starting(report, route))
    with explained():
        one = client.status().of_route(route)
    typer.echo(f"{one.backend if one is not None else route} is ready")


@app.command()
def stop(
    route: RouteArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="At once: cut the requests that run.")
    ] = False,
) -> None:
    """Stop a route's backend after the requests that run, and wait until it is gone.

    The next request starts it again. Interrupted, the stop goes on.

    \b
      launcher stop coder
      launcher stop coder --force
    """
    from launcher.status_view import stopping

    client = connect(url, key)
    attend(client, client.stop(route, force=force), lambda report: stopping(report, route))
    typer.echo(f"{route} is stopped")


@app.command()
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


app.command()(simulate)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """While modules are loaded nearly nothing is garbage, and looking for it takes a tenth of
    the time to start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _load(path: Path | None) -> LauncherConfig:
    from launcher.errors import ConfigError
    from launcher.loading import load_config

    try:
        return load_config(None if path is None else str(path), os.environ)
    except ConfigError as error:
        for problem in error.problems:
            say(problem)
        count = len(error.problems)
        say(f"{count} {'problem' if count == 1 else 'problems'}")
        raise typer.Exit(WRONG) from None


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
