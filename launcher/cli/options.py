"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="LAUNCHER_CONFIG",
        help="routes.toml. Default: ./routes.toml, else /etc/launcher/routes.toml, else what "
        "MAP__… variables say.",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="LAUNCHER_URL",
        help="Where the launcher answers; also unix:/path.",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="A key with the scope admin (to look, observe will do). Default: "
        "LAUNCHER_ADMIN_KEY, else LAUNCHER_API_KEY.",
        show_default=False,
    ),
]
TtlOption = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="TIME",
        help="How long it lasts: 45m, 1h30m. Default: what the launcher says.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As the launcher sends it.")]
RouteArgument = Annotated[str, typer.Argument(metavar="ROUTE", help="A route of routes.toml.")]
