"""`[keys.NAME]`, `api_keys` and `admin_keys` → keys of one kind, each with its own digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from launcher.config import KeyConfig, KeyScope, RouteConfig, schema
from launcher.config.routes import check_word
from launcher.config.sources import did_you_mean
from launcher.config.tables import Table


def read(
    tables: Mapping[str, Table], launcher: Table, routes: Sequence[RouteConfig]
) -> tuple[KeyConfig, ...]:
    """Return the keys of `[launcher]`'s lists, then those of these tables; what is wrong with
    them is noted."""
    listed = _listed(launcher)
    known = [route.name for route in routes]
    found = {key.digest: key for key in listed}
    for name, table in tables.items():
        table.check_names("key")
        table.read_all("key")
        check_word(name, table, "key")
        _check_routes(table, known)
        key = _named(name, table)
        if key is None:
            continue
        first = found.setdefault(key.digest, key)
        if first is not key:
            where = first.name if first in listed else f"[keys.{first.name}]"
            table.problem(
                f"is the key of {where}, too: whose limits would hold? Give one of the two a key "
                "of its own (`launcher key new`)"
            )
    return tuple(found.values())


def digest(key: str) -> bytes:
    """Return the SHA-256 of a key, which is compared in its place."""
    return hashlib.sha256(key.encode()).digest()


def _listed(launcher: Table) -> list[KeyConfig]:
    """Return a key for each secret of the lists; one that is in both has the scopes of both."""
    users, operators = launcher.get(schema.API_KEYS), launcher.get(schema.ADMIN_KEYS)
    names = {secret: f"admin_keys:{number}" for number, secret in enumerate(operators, 1)}
    names |= {secret: f"api_keys:{number}" for number, secret in enumerate(users, 1)}
    found = []
    for secret in dict.fromkeys((*users, *operators)):
        scopes: set[KeyScope] = set()
        if secret in users:
            scopes |= {"infer", "observe"}
        if secret in operators:
            scopes.add("admin")
        found.append(
            KeyConfig(names[secret], digest(secret.value), frozenset(scopes), secret=secret)
        )
    return found


def _named(name: str, table: Table) -> KeyConfig | None:
    hashed, secret = table.get(schema.KEY_HASH), table.get(schema.KEY_VALUE)
    if schema.KEY_HASH in table and schema.KEY_VALUE in table:
        table.problem("says hash and value: leave one of the two out", schema.KEY_VALUE)
    elif schema.KEY_HASH not in table and schema.KEY_VALUE not in table:
        table.problem(
            f"has neither hash nor value: `launcher key new --name {name}` makes a key and its hash"
        )
    hashed = digest(secret.value) if secret is not None else hashed
    if hashed is None:
        return None
    routes = table.get(schema.KEY_ROUTES)
    return KeyConfig(
        name,
        hashed,
        table.get(schema.KEY_SCOPES),
        frozenset(routes) or None,
        table.get(schema.KEY_PRIORITY),
        table.get(schema.KEY_WAKE),
        table.get(schema.KEY_MAX_IN_FLIGHT),
        table.get(schema.KEY_PER_MINUTE),
        secret,
    )


def _check_routes(table: Table, known: Sequence[str]) -> None:
    for name in table.get(schema.KEY_ROUTES):
        if name not in known:
            hint = did_you_mean(name, known)
            table.problem(f'there is no route "{name}"{hint}', schema.KEY_ROUTES)
