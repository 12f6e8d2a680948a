"""`launcher lease take | list | renew | release`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from launcher.cli.common import (
    WRONG,
    JsonOption,
    KeyOption,
    TtlOption,
    UrlOption,
    connect,
    explained,
    say,
    table,
    wait_for,
)
from launcher.client.transport import DEFAULT_URL
from launcher.printable import printable

app = typer.Typer(
    name="lease",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Hold a route's backend for a time, or reserve capacity for something else.

While a lease lasts its backend is neither evicted nor stopped for being
idle. Its number is a fencing token: it counts up for ever.

\b
  launcher lease take comfy --ttl 45m --note "the video"
  launcher lease list
""",
)

LeaseArgument = Annotated[str, typer.Argument(metavar="LEASE", help="The number of a lease.")]


@app.command()
def take(
    route: Annotated[
        str | None,
        typer.Argument(metavar="[ROUTE]", help="A route of routes.toml.", show_default=False),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    ttl: TtlOption = None,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What it is for; others see it.")
    ] = "",
    pin: Annotated[
        bool, typer.Option("--pin", help="Without an end, until it is released. For admins.")
    ] = False,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            "--needs",
            metavar="NAME=UNITS",
            help="Without ROUTE: reserve so much of the capacity for work outside the launcher. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take a lease, and wait until it is granted.

    Room is made for it as for a request, but at once. Interrupted while it
    waits, it is given up. The number of the lease is printed.

    \b
      launcher lease take comfy --ttl 45m --note "the video"
      launcher lease take chat --pin
      launcher lease take --needs vram=20GiB --pin --note training
    """
    if (route is None) is not bool(needs):
        say("Say what to hold: a ROUTE, or --needs NAME=UNITS to reserve capacity.")
        raise typer.Exit(WRONG)
    client = connect(url, key)
    call = client.take_lease(route, _needs(needs or []), ttl=ttl, pin=pin, note=note)
    what = route or "what it needs"
    wait_for(client, call, lambda report: f"the lease waits for {what}")
    if json:
        sys.stdout.buffer.write(call.result())
        return
    from launcher.cli.views import end_words
    from launcher.client import reading

    with explained():
        taken = client.read(reading.lease_of, call.result())

    say(f"lease {taken.id} on {printable(taken.what)} is granted, {end_words(taken)}")
    typer.echo(taken.id)


@app.command("list")
def show(url: UrlOption = DEFAULT_URL, key: KeyOption = None, json: JsonOption = False) -> None:
    """List the leases that are held or asked for.

    With the time that is left of each, who holds it, and what it is for.

    \b
      launcher lease list
      launcher lease list --json | jq '.leases[].id'
    """
    with explained():
        client = connect(url, key)
        if json:
            sys.stdout.buffer.write(client.transport.call("GET", "/api/leases").result())
            return
        leases = client.leases()
    from launcher.cli.views import render_leases

    if leases:
        table(render_leases(leases))
    else:
        say("nothing is leased")


@app.command()
def renew(
    id: LeaseArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None, ttl: TtlOption = None
) -> None:
    """Let a lease last longer, counted from now.

    Without --ttl for as long as it was taken. One that has ended can't be
    renewed: take another.

    \b
      launcher lease renew 7 --ttl 30m
    """
    with explained():
        renewed = connect(url, key).renew_lease(id, ttl)
    from launcher.cli.views import end_words

    typer.echo(f"lease {renewed.id} on {printable(renewed.what)} goes on, {end_words(renewed)}")


@app.command()
def release(id: LeaseArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """End a lease before its time.

    Its backend stays up for its idle time, like any other.

    \b
      launcher lease release 7
    """
    with explained():
        connect(url, key).release_lease(id)
    typer.echo(f"lease {id} is released")


def _needs(given: list[str]) -> dict[str, int | str]:
    """`vram=20GiB` as a table; units stay as they are written, for the launcher to read."""
    found: dict[str, int | str] = {}
    for one in given:
        name, equals, units = one.partition("=")
        if not name or not equals or not units:
            say(f"--needs {one}: expected NAME=UNITS, such as gpu=1 or vram=20GiB")
            raise typer.Exit(WRONG)
        found[name] = int(units) if units.isascii() and units.isdigit() else units
    return found
