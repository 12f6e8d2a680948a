"""`launcher mode`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from launcher.cli.attending import WRONG, attend, connect, explained, say
from launcher.cli.options import JsonOption, KeyOption, TtlOption, UrlOption
from launcher.client.transport import DEFAULT_URL


def mode(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODE]", help="The mode to change to; none: show it.", show_default=False
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    ttl: TtlOption = None,
    leave: Annotated[bool, typer.Option("--leave", help="End the mode that is.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the mode, change to another, or leave it.

    A mode is a lease on the routes that \\[modes.NAME] in routes.toml lists.

    \b
      launcher mode
      launcher mode image --ttl 45m
      launcher mode --leave
    """
    if name is not None and leave:
        say("Say one of both: MODE to change to it, or --leave.")
        raise typer.Exit(WRONG)
    client = connect(url, key)
    if name is not None:
        attend(client, client.set_mode(name, ttl), lambda report: f"changing to mode {name}")
    with explained():
        if leave:
            client.leave_mode()
        if json:
            sys.stdout.buffer.write(client.transport.call("GET", "/api/mode").result())
            return
        now = client.mode()
    from launcher.cli.mode_view import mode_words

    for line in mode_words(now):
        typer.echo(line)
