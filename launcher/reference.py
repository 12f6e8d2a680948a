"""The tables of docs/reference.md, made from the code that they describe.

    python -m launcher.reference --write      bring the page up to date
    python -m launcher.reference --check      exit code 1 where it isn't

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest of the page is
written by hand and stays as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from launcher.api.openapi import ENDPOINTS
from launcher.auth.access import Need
from launcher.config.environment import FILLS_IN, MAP_FIELDS, PREFIX
from launcher.config.schema import KEYS, Key, Scope, names
from launcher.errors import ERROR_KINDS
from launcher.telemetry.metrics_table import METRICS

PAGE = Path("docs/reference.md")

_BLOCK = re.compile(
    r"(<!-- begin (?P<name>[a-z-]+) -->\n)(?P<body>.*?)(<!-- end (?P=name) -->)", re.S
)


#: Who may ask, in the page's words.
NEEDS: dict[Need, str] = {
    "open": "anybody",
    "known": "any key, where keys are set",
    "observe": "a key with the scope `observe` or `admin`, where keys are set",
    "admin": "a key with the scope `admin`; without any set, a caller on this machine",
}

#: Variables that are no key of [launcher], and what they do.
_OTHER_VARIABLES = {
    "LAUNCHER_CONFIG": "The file to read, where `--config` doesn't say.",
    "LAUNCHER_URL": "Where the commands that speak to a running launcher find it.",
    "LAUNCHER_API_KEY": "The key that these commands present.",
    "LAUNCHER_ADMIN_KEY": "The same, for what needs an admin; it goes before the api key.",
    "LAUNCHER_LOG_FORMAT": "`auto`, `human` or `json`.",
    "LAUNCHER_LOG_LEVEL": "`debug`, `info`, `warning` or `error`.",
}


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table. A `|` in a cell is escaped."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _keys(*, of: Scope, but: tuple[Scope, ...] = ()) -> str:
    rows = (
        (f"`{key.name}`", _default(key), key.help + _inherits(key, of))
        for key in KEYS
        if of in key.scopes and set(key.scopes).isdisjoint(but)
    )
    return table(("key", "default", "what it does"), rows)


def _default(key: Key[Any]) -> str:
    if not key.shown:
        return ""
    # Words are words; what could be copied into the file is shown as code.
    return (
        key.shown if re.match(r"[a-z' ,]+$", key.shown) and " " in key.shown else f"`{key.shown}`"
    )


def _inherits(key: Key[Any], of: Scope) -> str:
    return (
        " Default: the one of `[launcher]`."
        if of != "launcher" and "launcher" in key.scopes
        else ""
    )


def _variables() -> str:
    rows = [
        (f"`{PREFIX}{name.upper()}`", f"`{name}` of `[launcher]`.") for name in names("launcher")
    ]
    return table(
        ("variable", "what it does"),
        [*rows, *((f"`{name}`", text) for name, text in _OTHER_VARIABLES.items())],
    )


def _inherited() -> str:
    rows = [
        (", ".join(f"`{variable}`" for variable in variables), f"`{key}` of `[launcher]`")
        for key, variables in FILLS_IN.items()
    ]
    rows += [(f"`MAP__<route>__{name}`", f"`{name}` of `[routes.<route>]`") for name in MAP_FIELDS]
    return table(("variable", "stands for"), rows)


def _endpoints() -> str:
    return table(
        ("endpoint", "who may ask", "what it answers"),
        (
            (
                f"`{one.method} {one.template}`",
                NEEDS[one.need],
                f"{one.summary} {one.description}".strip(),
            )
            for one in ENDPOINTS
        ),
    )


def _errors() -> str:
    return table(
        ("status", "code", "what it means"),
        ((str(kind.status), f"`{code}`", kind.meaning) for code, kind in ERROR_KINDS.items()),
    )


def _metrics() -> str:
    return table(
        ("metric", "type", "labels", "what it counts"),
        (
            (f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.help)
            for one in METRICS
        ),
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "launcher-keys": lambda: _keys(of="launcher", but=("route", "backend")),
    "route-keys": lambda: _keys(of="route"),
    "key-keys": lambda: _keys(of="key"),
    "backend-keys": lambda: _keys(of="backend"),
    "mode-keys": lambda: _keys(of="mode"),
    "variables": _variables,
    "inherited-variables": _inherited,
    "endpoints": _endpoints,
    "errors": _errors,
    "metrics": _metrics,
}


def rendered(page: str) -> str:
    """The page with every table made anew. Raises ValueError where one is missing from it."""
    found = {match["name"] for match in _BLOCK.finditer(page)}
    if found != set(BLOCKS):
        odd = ", ".join(sorted(found ^ set(BLOCKS)))
        raise ValueError(f"the page and the code don't have the same tables: {odd}")
    return _BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m['name']]()}{m[4]}", page)


def main(argv: list[str] | None = None) -> int:
    """`--check` or `--write` the page; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launcher.reference")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--check", action="store_true", help="exit code 1 where it is out of date")
    how.add_argument("--write", action="store_true", help="bring it up to date")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default: {PAGE}")
    options = parser.parse_args(argv)
    page: Path = options.page
    before = page.read_text(encoding="utf-8")
    after = rendered(before)
    if before == after:
        return 0
    if options.write:
        page.write_text(after, encoding="utf-8")
        return 0
    print(f"{page} is out of date: python -m launcher.reference --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
