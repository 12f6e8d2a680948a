"""The command line, one file per concern.

0 done, 1 it didn't work, 2 the command line or the configuration is wrong, 130 interrupted.
What a command needs is imported when it runs, so that `status` and `--help` don't wait for the
server's libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from launcher.cli.control import drain, mode, reload, resume, start, stop, switch
from launcher.cli.key import app as key
from launcher.cli.lease import app as lease
from launcher.cli.serve import check, demo, serve
from launcher.cli.status import logs, plan, status, top
from launcher.simulate.command import simulate

app = typer.Typer(
    name="launcher",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""One address for more models than fit on your GPU.

Requests to a route or a model start its backend, make room for it by
stopping others, and stream through once it is healthy. What is idle is
stopped.

\b
  launcher check           is routes.toml right?
  launcher serve           serve it
  launcher status          what runs, what waits, what comes next
""",
)


def _version(wanted: bool) -> None:
    if wanted:
        from launcher import __version__

        typer.echo(f"launcher {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Options of no command; the help stands with the app."""


_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Serve": (serve, check),
    "Look": (status, top, plan, logs),
    "Operate": (switch, mode, start, stop, drain, resume, reload),
    "Try": (demo, simulate),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(key, rich_help_panel="Serve")
app.add_typer(lease, rich_help_panel="Operate")
