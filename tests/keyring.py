"""Keys for tests, from what clients send."""

from __future__ import annotations

from typing import Any

from launcher.config import KeyConfig, KeyScope, Secret
from launcher.config.api_keys import digest


def a_key(value: str, *scopes: KeyScope, name: str | None = None, **fields: Any) -> KeyConfig:
    """A key of these scopes, named after its value."""
    given = {"secret": Secret(value)} | fields
    return KeyConfig(name or value, digest(value), frozenset(scopes or ("infer",)), **given)


def api(*values: str) -> tuple[KeyConfig, ...]:
    """As `api_keys` makes them."""
    return tuple(a_key(value, "infer", "observe") for value in values)


def admin(*values: str) -> tuple[KeyConfig, ...]:
    """As `admin_keys` makes them."""
    return tuple(a_key(value, "admin") for value in values)
