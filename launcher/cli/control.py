"""Commands that change something: switch, mode, start, stop, drain, resume, reload."""

from __future__ import annotations

import json as jsons
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.common import (
    FAILED,
    INTERRUPTED,
    WRONG,
    JsonOption,
    KeyOption,
    RouteArgument,
    TtlOption,
    UrlOption,
    connect,
    explained,
    say,
    wait_for,
)
from launcher.client.transport import DEFAULT_URL
from launcher.printable import printable

if TYPE_CHECKING:
    from launcher.client.launcher import LauncherClient
    from launcher.client.reports import SwitchReport

#: Exit code: it failed, and what was there before serves again.
ROLLED_BACK = 3

#: Seconds between two status calls for a switch that is waited for.
POLL_INTERVAL = 0.3


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
            _print_result(begun, f"switch {id} is under way (see `launcher status`)", json=json)
            return
        try:
            report = _followed(client, id)
        except KeyboardInterrupt:
            say(f"interrupted; switch {id} goes on (see `launcher status`)")
            raise typer.Exit(INTERRUPTED) from None
    # The reason is printed below; the backend's last log lines are only here.
    detail = report.error.detail if report.error is not None else None
    for line in (detail or "").splitlines():
        say(f"    {printable(line)}")
    _print_result(report.raw, printable(f"the switch to {report.to} {report.text}"), json=json)
    if report.state != "succeeded":
        raise typer.Exit(ROLLED_BACK if report.state == "rolled_back" else FAILED)


def _print_result(raw: bytes, words: str, *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(raw)
    else:
        typer.echo(words)


def _followed(client: LauncherClient, id: str) -> SwitchReport:
    """Return the switch when it is over; show its steps on stderr as they come."""
    from rich.console import Console
    from rich.live import Live

    from launcher.cli.views import finished_steps, render_switch

    console = Console(stderr=True)
    if not console.is_terminal:
        printed = 0
        while True:
            report = client.switch(id)
            lines = finished_steps(report)
            for line in lines[printed:]:
                say(line)
            printed = len(lines)
            if report.over:
                return report
            time.sleep(POLL_INTERVAL)
    with Live(console=console, auto_refresh=False) as live:
        began = time.monotonic()
        while True:
            report = client.switch(id)
            live.update(render_switch(report, time.monotonic() - began), refresh=True)
            if report.over:
                return report
            time.sleep(POLL_INTERVAL)


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
        wait_for(client, client.set_mode(name, ttl), lambda report: f"changing to mode {name}")
    with explained():
        if leave:
            client.leave_mode()
        if json:
            sys.stdout.buffer.write(client.transport.call("GET", "/api/mode").result())
            return
        now = client.mode()
    from launcher.cli.views import mode_lines

    for line in mode_lines(now):
        typer.echo(line)


def start(route: RouteArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Start a route's backend as a request would, and wait until it is ready.

    Makes room for it where that is needed, but cuts nothing that runs. Also
    ends the back-off after a failed start. Interrupted, it gives up its
    place; a start under way goes on.

    \b
      launcher start coder
      launcher start coder && curl http://127.0.0.1:8000/coder/v1/models
    """
    from launcher.cli.views import start_progress

    client = connect(url, key)
    wait_for(client, client.start(route), lambda report: start_progress(report, route))
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
    from launcher.cli.views import stop_progress

    client = connect(url, key)
    wait_for(client, client.stop(route, force=force), lambda report: stop_progress(report, route))
    typer.echo(f"{route} is stopped")


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


def reload(url: UrlOption = DEFAULT_URL, key: KeyOption = None, json: JsonOption = False) -> None:
    """Have the launcher read its configuration again and apply what differs.

    No request fails because of that. A configuration with a problem in it
    changes nothing, and all that is wrong is told.

    \b
      launcher reload
      launcher check && launcher reload
    """
    client = connect(url, key)
    call = client.reload()
    wait_for(client, call, lambda report: "reloading")
    if json:
        sys.stdout.buffer.write(call.result())
        return
    report = jsons.loads(call.result())
    for warning in report["warnings"]:
        say(f"warning: {printable(str(warning))}")
    for line in changes(report):
        typer.echo(line)


def changes(report: dict[str, object]) -> list[str]:
    """Return what a reload changed, a line each; a sentence where it was nothing."""
    lines: list[str] = []
    for kind in ("routes", "backends"):
        found = report[kind]
        assert isinstance(found, dict)
        for what in ("added", "changed", "replaced", "removed"):
            names = found.get(what)
            if names:
                lines.append(f"{kind} {what}: {_named(names)}")
    if report["settings"]:
        lines.append(f"settings changed: {_named(report['settings'])}")
    if not lines:
        lines.append("nothing has changed")
    if report["needs_restart"]:
        lines.append(f"needs a restart: {_named(report['needs_restart'])}")
    return lines


def _named(names: object) -> str:
    if isinstance(names, dict):
        return ", ".join(f"{name} ({', '.join(keys)})" for name, keys in names.items())
    assert isinstance(names, list)
    return ", ".join(printable(str(name)) for name in names)
