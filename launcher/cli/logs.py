"""`launcher logs`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from launcher.cli.attending import connect, explained
from launcher.cli.options import KeyOption, UrlOption
from launcher.client.transport import DEFAULT_URL, ClientError


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A backend, or the route that it serves.")
    ],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as it prints more, until Ctrl-C.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", metavar="N", min=0, help="The last N lines of before.")
    ] = 100,
) -> None:
    """Print what a backend has printed.

    For holders of an admin key; configured secrets are masked.

    \b
      launcher logs coder
      launcher logs coder --follow --tail 20
      launcher logs coder | grep -i cuda
    """
    with explained():
        client = connect(url, key)
        one = client.status().named(name)
        if one is None:
            known = ", ".join(one.backend for one in client.status().backends)
            raise ClientError(f"No backend or route is called {name}. Backends: {known or 'none'}.")
        try:
            with client.logs(one.backend, tail=tail, follow=follow) as pieces:
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            pass  # how following ends
        except BrokenPipeError:
            # `launcher logs | head`: nobody reads any more. What Python still holds for them it
            # would flush at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
