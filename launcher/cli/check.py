"""`launcher check`."""

from __future__ import annotations

import typer

from launcher.cli.attending import FAILED, say
from launcher.cli.configuration import load
from launcher.cli.options import ConfigOption


def check(config: ConfigOption = None) -> None:
    """Read the configuration, look at what it names, and print all that is wrong at once.

    Starts and stops nothing. Exit code 0: good, warnings aside; 1: problems;
    2: it can't be read as a configuration.

    \b
      launcher check
      launcher check --config /etc/launcher/routes.toml
    """
    loaded = load(config)
    import asyncio

    from launcher.cli.preflight import check as look

    report = asyncio.run(look(loaded))
    for warning in report.warnings:
        say(f"warning: {warning}")
    for problem in report.problems:
        say(f"problem: {problem}")
    if report.problems:
        raise typer.Exit(FAILED)
    routes = len(loaded.routes)
    typer.echo(f"{loaded.source}: {routes} {'route' if routes == 1 else 'routes'}, all good")
