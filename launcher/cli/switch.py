"""`launcher switch`."""

from __future__ import annotations

import json as jsons
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.attending import FAILED, INTERRUPTED, connect, explained, say
from launcher.cli.options import JsonOption, KeyOption, UrlOption
from launcher.client.transport import DEFAULT_URL
from launcher.printable import printable

if TYPE_CHECKING:
    from launcher.client.launcher import LauncherClient
    from launcher.client.reports import SwitchReport

#: It failed, and what was there before serves again.
ROLLED_BACK = 3

#: Seconds between two looks at a switch that is waited for.
LOOK_EVERY = 0.3


def switch(
    name: Annotated[str, typer.Argument(metavar="ROUTE", help="A route, or with --model an id.")],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    model: Annotated[
        bool, typer.Option("--model", "-m", help="ROUTE is the id of a model instead.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Break the leases that are in the way.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the steps until it is over.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Make a route resident now: ahead of the queue, never over streams in flight.

    If it fails to start after something was stopped for it, what was there
    before is started again. Exit code 0: it is up; 1: it failed; 3: it failed
    and what was there before serves again. Interrupted, the switch goes on.

    \b
      launcher switch comfy
      launcher switch --model qwen-coder
      launcher switch comfy --no-wait --json | jq -r .switch_id
    """
    client = connect(url, key)
    with explained():
        begun = client.begin_switch(name, model=model, force=force)
        id = str(jsons.loads(begun)["switch_id"])
        if not wait:
            _tell(begun, f"switch {id} is under way (see `launcher status`)", json=json)
            return
        try:
            report = _followed(client, id)
        except KeyboardInterrupt:
            say(f"interrupted; switch {id} goes on (see `launcher status`)")
            raise typer.Exit(INTERRUPTED) from None
    # Why it failed is in the words below; what the backend said last isn't.
    detail = report.error.detail if report.error is not None else None
    for line in (detail or "").splitlines():
        say(f"    {printable(line)}")
    _tell(report.raw, printable(f"the switch to {report.to} {report.text}"), json=json)
    if report.state != "succeeded":
        raise typer.Exit(ROLLED_BACK if report.state == "rolled_back" else FAILED)


def _tell(raw: bytes, words: str, *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(raw)
    else:
        typer.echo(words)


def _followed(client: LauncherClient, id: str) -> SwitchReport:
    """The switch when it is over; its steps are shown on stderr as they come."""
    from rich.console import Console
    from rich.live import Live

    from launcher.cli.switch_view import finished, steps

    console = Console(stderr=True)
    if not console.is_terminal:
        told = 0
        while True:
            report = client.switch(id)
            lines = finished(report)
            for line in lines[told:]:
                say(line)
            told = len(lines)
            if report.over:
                return report
            time.sleep(LOOK_EVERY)
    with Live(console=console, auto_refresh=False) as live:
        began = time.monotonic()
        while True:
            report = client.switch(id)
            live.update(steps(report, time.monotonic() - began), refresh=True)
            if report.over:
                return report
            time.sleep(LOOK_EVERY)
