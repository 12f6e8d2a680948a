"""Under which ids a new configuration's backends are held: what is the same keeps its id.

A backend's id is the name of its table, until a reload: then a table that was renamed, or a
route that went over to a table of its own, is still what runs, and is not stopped for that. One
container never has two ids at a time: the second would start and stop it behind the first's
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from launcher.config import LauncherConfig
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, DriverSpec, ProcessSpec, ReservedSpec
from launcher.errors import ConfigError

_What = tuple[str, object]


def keeping_ids(
    running: Mapping[BackendId, DriverSpec],
    leaving: Mapping[BackendId, DriverSpec],
    new: LauncherConfig,
) -> LauncherConfig:
    """The new configuration with the ids of those that are held already.

    `running` is what backends are configured to be, `leaving` what some still are: on their way
    out, or about to be replaced. Raises ConfigError for a container that is to be another
    backend's and isn't free yet.
    """
    ids = _ids({**leaving, **running}, {one.id: one.driver for one in new.backends})
    held = {_what(spec): id for id, spec in leaving.items()}
    problems = [
        f"{new.source}: container {one.driver.container} is still being stopped as {other}: "
        "reload again when that is done"
        for one in new.backends
        if isinstance(one.driver, ContainerSpec)
        and (other := held.get(_what(one.driver), ids[one.id])) != ids[one.id]
    ]
    if problems:
        raise ConfigError(problems)
    if all(before == after for before, after in ids.items()):
        return new
    return replace(
        new,
        backends=tuple(replace(one, id=ids[one.id]) for one in new.backends),
        routes=tuple(replace(one, backends=_renamed(one.backends, ids)) for one in new.routes),
        prewarm=_renamed(new.prewarm, ids),
    )


def _ids(
    held: Mapping[BackendId, DriverSpec], new: Mapping[BackendId, DriverSpec]
) -> dict[BackendId, BackendId]:
    """Name of each new table → id. What stayed as it was comes first, then what is the same
    under another name; the rest has its table's name, or one like it."""
    same = {id: id for id, spec in new.items() if id in held and _what(held[id]) == _what(spec)}
    taken = set(same)
    by_what = {_what(spec): id for id, spec in held.items() if id not in taken}
    moved: dict[BackendId, BackendId] = {}
    for id, spec in new.items():
        other = by_what.get(_what(spec))
        if id not in same and other is not None and other not in taken:
            moved[id] = other
            taken.add(other)
    found = {**same, **moved}
    for id in new:
        if id not in found:
            found[id] = _free(id, taken, {*held, *new}) if id in taken else id
            taken.add(found[id])
    return found


def _free(id: BackendId, taken: Iterable[BackendId], known: Iterable[BackendId]) -> BackendId:
    used, number = {*taken, *known}, 2
    while (other := BackendId(f"{id}-{number}")) in used:
        number += 1
    return other


def _what(spec: DriverSpec) -> _What:
    """What is held, however it is held."""
    match spec:
        case ContainerSpec():
            return ("container", spec.container)
        case ProcessSpec():
            return ("command", (spec.command, spec.env, spec.cwd))
        case ReservedSpec():
            return ("reservation", spec)


def _renamed(
    backends: tuple[BackendId, ...], ids: Mapping[BackendId, BackendId]
) -> tuple[BackendId, ...]:
    return tuple(ids[one] for one in backends)
