"""`launcher drain` and `launcher resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.attending import connect, explained
from launcher.cli.options import KeyOption, UrlOption
from launcher.client.transport import DEFAULT_URL

OptionalRoute = Annotated[
    str | None,
    typer.Argument(
        metavar="[ROUTE]", help="A route of routes.toml; none: all.", show_default=False
    ),
]


def drain(route: OptionalRoute = None, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Refuse new requests of a route, or of all, and serve those that are there.

    It lasts until `launcher resume`, over restarts of the launcher as well.

    \b
      launcher drain chat
      launcher drain
    """
    with explained():
        connect(url, key).drain(route)
    typer.echo(f"{route or 'everything'} is drained: new requests are refused")


def resume(
    route: OptionalRoute = None, url: UrlOption = DEFAULT_URL, key: KeyOption = None
) -> None:
    """Take new requests again after `launcher drain`.

    Without ROUTE all that was drained is resumed.

    \b
      launcher resume chat
      launcher resume
    """
    with explained():
        connect(url, key).resume(route)
    typer.echo(f"{route or 'everything'} takes requests again")
