"""`launcher status` and `launcher plan`: what is, and what would be."""

from __future__ import annotations

import sys

from launcher.cli.attending import connect, explained, table
from launcher.cli.options import JsonOption, KeyOption, RouteArgument, UrlOption
from launcher.client.transport import DEFAULT_URL


def status(
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: JsonOption = False,
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
    from launcher.cli.status_view import glance

    table(glance(report))


def plan(
    route: RouteArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: JsonOption = False,
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

    from launcher.cli.plan_view import outlook

    Console().print(outlook(report), soft_wrap=True)
