"""One table of the configuration, read key by key: variables filled in, values checked, and
every problem noted instead of raised, so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from launcher.config.schema import KEYS, SCOPES, Key, Scope, names
from launcher.config.sources import (
    Unresolved,
    Value,
    Values,
    did_you_mean,
    expand,
    read_secret_files,
)

T = TypeVar("T")


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
        """Read every key of these scopes, used or not, to note all that is wrong."""
        for key in KEYS:
            if key in self and not set(scopes).isdisjoint(key.scopes):
                self.get(key)

    def get(self, key: Key[T]) -> T:
        """Return the value of a key: this table's, else that of [launcher], else the default; also
        the default where the value is wrong (which is noted)."""
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
            return key.parse(read_secret_files(raw) if key.secret else raw)
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
    """Return the value as written, for the end of a message; empty for tables and lists."""
    if isinstance(raw, bool):
        return f", not {str(raw).lower()}"
    if isinstance(raw, str):
        return f', not "{raw}"' if len(raw) <= 80 and raw.isprintable() else ""
    return f", not {raw}" if isinstance(raw, int | float) else ""
