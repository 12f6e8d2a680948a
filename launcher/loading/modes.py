"""[modes.NAME] → leases with a name, each on routes that fit side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.config import BackendConfig, ModeConfig, RouteConfig
from launcher.core.types import BackendId, Needs
from launcher.loading import keys
from launcher.loading.read import did_you_mean
from launcher.loading.routes import check_word
from launcher.loading.tables import Table


def read(
    tables: Mapping[str, Table],
    routes: Sequence[RouteConfig],
    backends: Sequence[BackendConfig],
    capacity: Needs,
    max_lease: float,
) -> tuple[ModeConfig, ...]:
    """The modes of these tables, by name; what is wrong with them is noted there.

    `max_lease` in seconds: what a mode lasts that doesn't say, and at most.
    """
    by_name = {route.name: route for route in routes}
    needs = {one.id: dict(capacity if one.needs is None else one.needs) for one in backends}
    found = []
    for name, table in tables.items():
        table.check_names("mode")
        table.read_all("mode")
        check_word(name, table, "mode")
        mode = ModeConfig(name, table.get(keys.MODE_ROUTES), table.get(keys.TTL) or max_lease)
        if mode.ttl > max_lease:
            table.problem(f"is longer than max_lease, which is {max_lease:g} s", keys.TTL)
        _check_routes(mode, table, by_name, needs, capacity)
        found.append(mode)
    return tuple(found)


def _check_routes(
    mode: ModeConfig,
    table: Table,
    by_name: Mapping[str, RouteConfig],
    needs: Mapping[BackendId, dict[str, int]],
    capacity: Needs,
) -> None:
    if not mode.routes:
        table.problem("names no route: list those whose backends it holds", keys.MODE_ROUTES)
    unknown = [name for name in mode.routes if name not in by_name]
    for name in unknown:
        hint = did_you_mean(name, by_name)
        table.problem(f'there is no route "{name}"{hint}', keys.MODE_ROUTES)
    for name in dict.fromkeys(one for one in mode.routes if mode.routes.count(one) > 1):
        table.problem(f'route "{name}" is listed twice', keys.MODE_ROUTES)
    choices = [by_name[name].backends for name in mode.routes if name not in unknown]
    # A route without backends has been told of where it stands.
    if not unknown and all(choices) and not _fit(choices, needs, dict(capacity)):
        table.problem(
            "these routes don't fit side by side: leave one out, or see to their needs and the "
            "[capacity]",
            keys.MODE_ROUTES,
        )


def _fit(
    choices: Sequence[tuple[BackendId, ...]],
    needs: Mapping[BackendId, dict[str, int]],
    left: Mapping[str, int],
    held: frozenset[BackendId] = frozenset(),
) -> bool:
    """Whether of each route some backend can be up at the same time as those of the others."""
    if not choices:
        return True
    for backend in choices[0]:
        taken = {} if backend in held else needs[backend]
        rest = {resource: units - taken.get(resource, 0) for resource, units in left.items()}
        if all(units >= 0 for units in rest.values()) and _fit(
            choices[1:], needs, rest, held | {backend}
        ):
            return True
    return False
