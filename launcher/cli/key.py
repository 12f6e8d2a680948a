"""`launcher key new`."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(name="key", no_args_is_help=True, help="Make keys for clients and operators.")

_SCOPES = ("infer", "observe", "admin")


@app.callback()
def main() -> None:
    """There may be more to do with keys than to make them."""


@app.command()
def new(
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Whose it is, or what for.")
    ] = "client",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it opens: infer (the default), observe, admin. May be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a key: print it, once, and the table for routes.toml, which holds its hash alone.

    The key goes to whoever will send it, as `Authorization: Bearer KEY` or as
    `X-API-Key: KEY`; the table goes into routes.toml. Nothing is stored.

    \b
      launcher key new --name alice
      launcher key new --name ops --scope admin --scope infer > ops.toml
    """
    from launcher.config.routes import NAME

    if not NAME.fullmatch(name):
        raise typer.BadParameter("lower-case words joined by dashes", param_hint="--name")
    scopes = list(dict.fromkeys(scope or ["infer"]))
    if unknown := [one for one in scopes if one not in _SCOPES]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(_SCOPES)}", param_hint="--scope"
        )
    import hashlib
    import json
    import secrets

    # 256 bits by chance: too many to guess from the hash, which is why it needs no salt.
    key = f"sk-launcher-{secrets.token_urlsafe(32)}"
    typer.echo(f"The key, shown this once: {key}", err=True)
    typer.echo("For routes.toml:\n", err=True)
    typer.echo(f"[keys.{name}]")
    typer.echo(f'hash = "{hashlib.sha256(key.encode()).hexdigest()}"')
    if scopes != ["infer"]:
        typer.echo(f"scopes = {json.dumps(scopes)}")
