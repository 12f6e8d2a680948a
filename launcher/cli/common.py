"""What several commands share: options, exit codes, the client, waiting for a call, and reading
the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from launcher.client.transport import ClientError
from launcher.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.client.launcher import LauncherClient
    from launcher.client.reports import StatusReport
    from launcher.client.transport import Call
    from launcher.config import LauncherConfig

FAILED, WRONG, INTERRUPTED = 1, 2, 130

#: Columns of a table where there is no terminal.
_WIDE = 1000

#: Seconds between two status calls while a command waits.
POLL_INTERVAL = 0.5


def say(text: str) -> None:
    """Print one line to stderr."""
    typer.echo(text, err=True)


def connect(url: str, key: str | None) -> LauncherClient:
    """Return a client of the launcher at `url`, with `key` or the one that the environment names.
    Exits where that is no URL."""
    from launcher.client.launcher import LauncherClient

    key = key or os.environ.get("LAUNCHER_ADMIN_KEY") or os.environ.get("LAUNCHER_API_KEY")
    try:
        return LauncherClient(url, key or None)
    except ClientError as error:
        _fail(error, WRONG)


@contextmanager
def explained() -> Iterator[None]:
    """Print a client's error and exit with code 1."""
    try:
        yield
    except ClientError as error:
        _fail(error, FAILED)


def table(what: RenderableType) -> None:
    """Print a table: as wide as the terminal; where there is none, one line per row (for grep)."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console = Console(width=_WIDE)
    console.print(what)


def _fail(error: ClientError, code: int) -> NoReturn:
    say(printable(error.message))
    for line in (error.detail or "").splitlines():
        say(f"    {printable(line)}")
    raise typer.Exit(code)


def wait_for(client: LauncherClient, call: Call, progress: Callable[[StatusReport], str]) -> None:
    """Wait for a call and show its progress: on a terminal a status line, elsewhere line by line.

    `words` makes the progress from a status report.
    """
    from rich.console import Console  # here: only commands that wait need it

    console = Console(stderr=True)
    shown = ""
    try:
        if console.is_terminal:
            with console.status("asking the launcher") as line:
                while not call.wait(POLL_INTERVAL):
                    line.update(_progress(client, progress) or "waiting")
        else:
            while not call.wait(POLL_INTERVAL):
                now = _progress(client, progress).partition(",")[0]
                if now and now != shown:
                    shown = now
                    say(now)
        call.result()
    except KeyboardInterrupt:
        call.cancel()
        say("interrupted; what has begun goes on (see `launcher status`)")
        raise typer.Exit(INTERRUPTED) from None
    except ClientError as error:
        _fail(error, FAILED)


def _progress(client: LauncherClient, progress: Callable[[StatusReport], str]) -> str:
    try:
        return progress(client.status())
    except ClientError:
        return ""  # the call itself will say what is wrong


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
        help="A key with the scope admin (to look, observe will do). Default: "
        "LAUNCHER_ADMIN_KEY, else LAUNCHER_API_KEY.",
        show_default=False,
    ),
]
TtlOption = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="TIME",
        help="How long it lasts: 45m, 1h30m. Default: what the launcher says.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As the launcher sends it.")]
RouteArgument = Annotated[str, typer.Argument(metavar="ROUTE", help="A route of routes.toml.")]


def load(path: Path | None) -> LauncherConfig:
    """Return the configuration; print all that is wrong with it, and exit with code 2."""
    from launcher.config.load import load_config
    from launcher.errors import ConfigError

    try:
        return load_config(None if path is None else str(path), os.environ)
    except ConfigError as error:
        for problem in error.problems:
            say(problem)
        count = len(error.problems)
        say(f"{count} {'problem' if count == 1 else 'problems'}")
        raise typer.Exit(WRONG) from None
