"""A client command from its call to its exit code: who is asked, what is shown meanwhile, and
how errors and interruptions end it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from launcher.client.transport import ClientError
from launcher.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.client.launcher import LauncherClient
    from launcher.client.reports import StatusReport
    from launcher.client.transport import Call

FAILED, WRONG, INTERRUPTED = 1, 2, 130

#: Columns of a table that no terminal shows.
_WIDE = 1000

#: Seconds between two looks at the launcher while a start or stop is waited for.
LOOK_EVERY = 0.5


def say(text: str) -> None:
    """One line to stderr."""
    typer.echo(text, err=True)


def connect(url: str, key: str | None) -> LauncherClient:
    """A client of the launcher at `url`, with `key` or the one that the environment names.
    Exits where that is no URL."""
    from launcher.client.launcher import LauncherClient

    key = key or os.environ.get("LAUNCHER_ADMIN_KEY") or os.environ.get("LAUNCHER_API_KEY")
    try:
        return LauncherClient(url, key or None)
    except ClientError as error:
        _fail(error, WRONG)


@contextmanager
def explained() -> Iterator[None]:
    """A client's error becomes its words and exit code 1."""
    try:
        yield
    except ClientError as error:
        _fail(error, FAILED)


def table(what: RenderableType) -> None:
    """Print a table: as wide as the terminal, or, for grep and its like, a row a line."""
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


def attend(client: LauncherClient, call: Call, words: Callable[[StatusReport], str]) -> None:
    """Wait for a call, showing how it stands: moving on a terminal, line by line elsewhere."""
    from rich.console import Console  # here: only commands that wait need it

    console = Console(stderr=True)
    shown = ""
    try:
        if console.is_terminal:
            with console.status("asking the launcher") as line:
                while not call.wait(LOOK_EVERY):
                    line.update(_look(client, words) or "waiting")
        else:
            while not call.wait(LOOK_EVERY):
                now = _look(client, words).partition(",")[0]
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


def _look(client: LauncherClient, words: Callable[[StatusReport], str]) -> str:
    try:
        return words(client.status())
    except ClientError:
        return ""  # the call itself will tell what is wrong
