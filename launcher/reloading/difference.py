"""What a new configuration changes, by name, and how much of it a running launcher can take.

Compares two checked configurations and nothing else: what comes of the differences is decided
where they are applied. Only names are told, never values: some are secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from launcher.config import BackendConfig, LauncherConfig
from launcher.runtime.registry import same_start

#: What was chosen once, when the launcher came up.
FIXED = (
    *("listen", "admin_listen", "tls_cert", "tls_key", "policy", "docker_host"),
    *("compose_project", "state_file"),
)

#: Of these, what may change for the connections to come, where it was and stays in use.
_CERTIFICATE = ("tls_cert", "tls_key")

#: Of a configuration, what is told of elsewhere or is no setting.
_APART = frozenset({"routes", "backends", "source", "warnings"})

#: Fields that routes.toml spells in another way.
_SPELLED = {"prefixes": "path", "hosts": "host", "backends": "backend"}


@dataclass(frozen=True, slots=True)
class Names:
    """Of routes or of backends: who came, who went, and which keys of the others changed."""

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
    """Those that are replaced stand in `replaced` alone."""
    replaced: tuple[str, ...] = ()
    """Backends that are something else from now on: what runs drains and is stopped first."""
    settings: tuple[str, ...] = ()
    """Keys of [launcher], and tables such as `capacity` or `aliases`."""
    needs_restart: tuple[str, ...] = ()
    """Keys of [launcher] that can't change while it runs; they are as they were."""

    def __bool__(self) -> bool:
        """Whether anything changes now."""
        return bool(self.routes or self.backends or self.replaced or self.settings)


def applicable(running: LauncherConfig, new: LauncherConfig) -> LauncherConfig:
    """The new configuration, but for what can't change while the launcher runs."""
    return replace(new, **{name: getattr(running, name) for name in _fixed(running, new)})


def _fixed(running: LauncherConfig, new: LauncherConfig) -> tuple[str, ...]:
    if running.tls_cert is None or new.tls_cert is None:
        return FIXED
    return tuple(name for name in FIXED if name not in _CERTIFICATE)


def compare(running: LauncherConfig, new: LauncherConfig) -> Difference:
    """What changes on the way from one configuration to the other."""
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
