"""Two checked configurations compared: what changes, by name, and what stays the same backend.

Only names are reported, never values: some are secrets.

A backend's id is the name of its table, until a reload: a table that was renamed, or a route
that got a table of its own, still describes what runs, which is not stopped for that. One
container never has two ids at a time: the second would start and stop it behind the first's
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from launcher.config import BackendConfig, LauncherConfig
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, DriverSpec, ProcessSpec, ReservedSpec, same_start
from launcher.errors import ConfigError

#: Fields that are fixed when the launcher starts.
FIXED = (
    *("listen", "admin_listen", "tls_cert", "tls_key", "policy", "docker_host"),
    *("compose_project", "state_file"),
)

#: Of these, those that may change for new connections if TLS was and stays in use.
_CERTIFICATE = ("tls_cert", "tls_key")

#: Fields that are compared apart, or are no setting.
_APART = frozenset({"routes", "backends", "source", "warnings"})

#: Fields that routes.toml spells in another way.
_SPELLED = {"prefixes": "path", "hosts": "host", "backends": "backend"}


@dataclass(frozen=True, slots=True)
class Names:
    """Routes or backends: those added, those removed, and which keys of the others changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → keys of routes.toml."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new configuration changes."""

    routes: Names = Names()
    backends: Names = Names()
    """Without those in `replaced`."""
    replaced: tuple[str, ...] = ()
    """Backends with another container or command: the old one drains and is stopped first."""
    settings: tuple[str, ...] = ()
    """Keys of [launcher], and tables such as `capacity` or `aliases`."""
    needs_restart: tuple[str, ...] = ()
    """Keys of [launcher] that can't change while it runs; their old values stay."""

    def __bool__(self) -> bool:
        """Whether anything changes now."""
        return bool(self.routes or self.backends or self.replaced or self.settings)


def applicable(running: LauncherConfig, new: LauncherConfig) -> LauncherConfig:
    """Return the new configuration, except for what can't change while the launcher runs."""
    return replace(new, **{name: getattr(running, name) for name in _fixed(running, new)})


def _fixed(running: LauncherConfig, new: LauncherConfig) -> tuple[str, ...]:
    if running.tls_cert is None or new.tls_cert is None:
        return FIXED
    return tuple(name for name in FIXED if name not in _CERTIFICATE)


def compare(running: LauncherConfig, new: LauncherConfig) -> Difference:
    """Return what changes from one configuration to the other."""
    before = {one.id: one for one in running.backends}
    replaced = tuple(
        one.id
        for one in new.backends
        if one.id in before and not same_start(before[one.id].driver, one.driver)
    )
    fixed = _fixed(running, new)
    differing = [
        one.name
        for one in fields(LauncherConfig)
        if one.name not in _APART and getattr(running, one.name) != getattr(new, one.name)
    ]
    return Difference(
        routes=_names(
            {one.name: _shape(one) for one in running.routes},
            {one.name: _shape(one) for one in new.routes},
        ),
        backends=_names(
            {one.id: _backend(one) for one in running.backends},
            {one.id: _backend(one) for one in new.backends},
            but=replaced,
        ),
        replaced=replaced,
        settings=tuple(name for name in differing if name not in fixed),
        needs_restart=tuple(name for name in differing if name in fixed),
    )


def _names(
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    but: tuple[str, ...] = (),
) -> Names:
    changed = {
        name: tuple(key for key, value in shape.items() if before[name].get(key) != value)
        for name, shape in after.items()
        if name in before and name not in but
    }
    return Names(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed={name: keys for name, keys in changed.items() if keys},
    )


def _shape(one: Any) -> dict[str, Any]:
    """Key of routes.toml → value."""
    return {_SPELLED.get(it.name, it.name): getattr(one, it.name) for it in fields(one)}


def _backend(one: BackendConfig) -> dict[str, Any]:
    shape = _shape(one)
    return shape | {"stop_grace": shape.pop("driver").stop_grace}


_Identity = tuple[str, object]


def keep_ids(
    running: Mapping[BackendId, DriverSpec],
    leaving: Mapping[BackendId, DriverSpec],
    new: LauncherConfig,
) -> LauncherConfig:
    """Return the new configuration with the ids of the backends that are held already.

    `running` is what backends are configured to be, `leaving` what some still are: on their way
    out, or about to be replaced. Raises ConfigError for a container that is to be another
    backend's and isn't free yet.
    """
    ids = _ids({**leaving, **running}, {one.id: one.driver for one in new.backends})
    held = {_identity(spec): id for id, spec in leaving.items()}
    problems = [
        f"{new.source}: container {one.driver.container} is still being stopped as {other}: "
        "reload again when that is done"
        for one in new.backends
        if isinstance(one.driver, ContainerSpec)
        and (other := held.get(_identity(one.driver), ids[one.id])) != ids[one.id]
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
    """Return the id of each new table: unchanged ones keep theirs, then renamed ones; the others
    get the table's name, or one like it."""
    same = {
        id: id for id, spec in new.items() if id in held and _identity(held[id]) == _identity(spec)
    }
    taken = set(same)
    by_what = {_identity(spec): id for id, spec in held.items() if id not in taken}
    moved: dict[BackendId, BackendId] = {}
    for id, spec in new.items():
        other = by_what.get(_identity(spec))
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


def _identity(spec: DriverSpec) -> _Identity:
    """Return what identifies a backend, whatever its settings."""
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
