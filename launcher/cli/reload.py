"""`launcher reload`."""

from __future__ import annotations

import json as jsons
import sys

import typer

from launcher.cli.attending import attend, connect, say
from launcher.cli.options import JsonOption, KeyOption, UrlOption
from launcher.client.transport import DEFAULT_URL
from launcher.printable import printable


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
    attend(client, call, lambda report: "reloading")
    if json:
        sys.stdout.buffer.write(call.result())
        return
    told = jsons.loads(call.result())
    for warning in told["warnings"]:
        say(f"warning: {printable(str(warning))}")
    for line in changes(told):
        typer.echo(line)


def changes(told: dict[str, object]) -> list[str]:
    """What a reload changed, a line each; a sentence where it was nothing."""
    lines: list[str] = []
    for kind in ("routes", "backends"):
        found = told[kind]
        assert isinstance(found, dict)
        for what in ("added", "changed", "replaced", "removed"):
            names = found.get(what)
            if names:
                lines.append(f"{kind} {what}: {_named(names)}")
    if told["settings"]:
        lines.append(f"settings changed: {_named(told['settings'])}")
    if not lines:
        lines.append("nothing has changed")
    if told["needs_restart"]:
        lines.append(f"needs a restart: {_named(told['needs_restart'])}")
    return lines


def _named(names: object) -> str:
    if isinstance(names, dict):
        return ", ".join(f"{name} ({', '.join(keys)})" for name, keys in names.items())
    assert isinstance(names, list)
    return ", ".join(printable(str(name)) for name in names)
