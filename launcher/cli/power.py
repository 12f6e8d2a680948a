"""`launcher start` and `launcher stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.attending import attend, connect, explained
from launcher.cli.options import KeyOption, RouteArgument, UrlOption
from launcher.client.transport import DEFAULT_URL


def start(route: RouteArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Start a route's backend as a request would, and wait until it is ready.

    Makes room for it where that is needed, but cuts nothing that runs. Also
    ends the back-off after a failed start. Interrupted, it gives up its
    place; a start under way goes on.

    \b
      launcher start coder
      launcher start coder && curl http://127.0.0.1:8000/coder/v1/models
    """
    from launcher.cli.status_view import starting

    client = connect(url, key)
    attend(client, client.start(route), lambda report: starting(report, route))
    with explained():
        one = client.status().of_route(route)
    typer.echo(f"{one.backend if one is not None else route} is ready")


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
    from launcher.cli.status_view import stopping

    client = connect(url, key)
    attend(client, client.stop(route, force=force), lambda report: stopping(report, route))
    typer.echo(f"{route} is stopped")
