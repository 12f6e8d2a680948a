"""One table of the configuration, read key by key: variables filled in, values checked, and
every problem noted instead of raised, so that all of them can be told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from launcher import settings
from launcher.loading.keys import KEYS, SCOPES, Key, Scope, names
from launcher.loading.read import Value, Values, did_you_mean

T = TypeVar("T")

#: `$${` is a literal `${`; then `${NAME}` and `${NAME:-default}`; then what is neither.
_REFERENCE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|(\$\{)")


class Unresolved(ValueError):
    """A variable or secret file that isn't there. The message says it all."""


class Table:
    """One table. `label` is such as `[routes.coder]`; `at` where it stands, label included."""

    def __init__(
        self,
        label: str,
        at: str,
        values: Values,
        environ: Mapping[str, str],
        problems: list[str],
        *,
        defaults: Table | None = None,
    ) -> None:
        self.label = label
        self.at = at
        self._values = values
        self._environ = environ
        self._problems = problems
        self._defaults = defaults
        self._read: dict[str, Any] = {}  # by key name; each key knows its own type

    def __contains__(self, key: Key[Any]) -> bool:
        return key.name in self._values

    def problem(self, what: str, key: Key[Any] | None = None) -> None:
        """Note a problem of the table, or of one of its values."""
        value = self._values.get(key.name) if key is not None else None
        at = self.at if value is None else value.where
        self._problems.append(f"{at}: {what}")

    def check_names(self, *scopes: Scope) -> None:
        """Note every key that may not stand in a table of these scopes."""
        allowed = names(*scopes)
        for name, value in self._values.items():
            if name in allowed:
                continue
            if name in names(*SCOPES):
                self._problems.append(f"{value.where}: does not belong here, but in {_home(name)}")
            else:
                known = did_you_mean(name, allowed)
                hint = known or f"; known here are {', '.join(allowed)}"
                self._problems.append(f"{value.where}: unknown key{hint}")

    def read_all(self, *scopes: Scope) -> None:
        """Read every key of these scopes now, to hear of all that is wrong, used or not."""
        for key in KEYS:
            if key in self and not set(scopes).isdisjoint(key.scopes):
                self.get(key)

    def get(self, key: Key[T]) -> T:
        """The value of a key: this table's, else that of [launcher], else the default; the
        default, too, where the value is no good (which is noted)."""
        if key.name not in self._read:
            value = self._values.get(key.name)
            if value is not None:
                self._read[key.name] = self._parsed(key, value)
            elif self._defaults is not None and "launcher" in key.scopes:
                self._read[key.name] = self._defaults.get(key)
            else:
                self._read[key.name] = key.default
        found: T = self._read[key.name]
        return found

    def _parsed(self, key: Key[T], value: Value) -> T:
        try:
            raw = value.raw if value.literal else expand(value.raw, self._environ)
            return key.parse(_from_files(raw) if key.secret else raw)
        except Unresolved as error:
            self._problems.append(f"{value.where}: {error}")
        except ValueError as error:
            shown = "" if key.secret else _shown(value.raw)
            self._problems.append(f"{value.where}: {error}{shown}")
        return key.default


_TABLES: dict[Scope, str] = {
    "launcher": "[launcher]",
    "route": "[routes.NAME]",
    "backend": "[backends.NAME]",
    "mode": "[modes.NAME]",
    "key": "[keys.NAME]",
}


def _home(name: str) -> str:
    scopes = {scope for key in KEYS if key.name == name for scope in key.scopes}
    return " or ".join(_TABLES[scope] for scope in SCOPES if scope in scopes)


def _shown(raw: object) -> str:
    """The value as written, for the end of a message; nothing for tables and lists."""
    if isinstance(raw, bool):
        return f", not {str(raw).lower()}"
    if isinstance(raw, str):
        return f', not "{raw}"' if len(raw) <= 80 and raw.isprintable() else ""
    return f", not {raw}" if isinstance(raw, int | float) else ""


def _from_files(raw: object) -> object:
    """`file:/path` → what the file holds; in a list too."""
    if isinstance(raw, list):
        parts: list[object] = []
        for one in raw:
            read = _from_files(one)
            # One file may hold several keys, one per line.
            parts += read.splitlines() if isinstance(read, str) else [read]
        return parts
    if isinstance(raw, str) and raw.startswith("file:"):
        try:
            return settings.secret_file(raw.removeprefix("file:"))
        except ValueError as error:
            raise Unresolved(str(error)) from None
    return raw


def expand(raw: object, environ: Mapping[str, str]) -> object:
    """Fill in `${NAME}` and `${NAME:-default}` in every string, however deep.

    The default is taken where the variable is unset or empty. Raises Unresolved for a
    variable that is unset and has no default, and for a `${` that is no reference.
    """
    if isinstance(raw, str):
        return _REFERENCE.sub(lambda found: _resolve(found, environ), raw)
    if isinstance(raw, list):
        return [expand(one, environ) for one in raw]
    if isinstance(raw, dict):
        return {name: expand(one, environ) for name, one in raw.items()}
    return raw


def _resolve(found: re.Match[str], environ: Mapping[str, str]) -> str:
    literal, name, default, broken = found.groups()
    if literal:
        return "${"
    if broken:
        raise Unresolved("${ begins a variable: write ${NAME}, ${NAME:-default}, or $${ for itself")
    try:
        value = settings.lookup(environ, name)
    except ValueError as error:
        raise Unresolved(str(error)) from None
    if default is not None:
        return value or default
    if value is None:
        raise Unresolved(
            f"${{{name}}} is not set: set {name} (or {name}_FILE, a file that holds it), "
            f"or write ${{{name}:-default}}"
        )
    return value
