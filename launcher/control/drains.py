"""Drains: routes whose new requests are refused, while what waits and runs is served."""

from __future__ import annotations

from launcher.config import LauncherConfig
from launcher.control.base import OperatorGate, find_route
from launcher.control.records import DRAINS
from launcher.core.types import BackendId
from launcher.state.store import StateStore

#: Stands for everything; no route can have this name.
_ALL = "*"


class Drains:
    """What is drained until it is resumed, over restarts as well."""

    def __init__(self, config: LauncherConfig, gate: OperatorGate, store: StateStore) -> None:
        self._config = config
        self._gate = gate
        self._store = store
        self._drained: set[str] = set(store.loaded(DRAINS))

    def __repr__(self) -> str:
        return f"<Drains {', '.join(sorted(self._drained)) or 'none'}>"

    @property
    def all(self) -> bool:
        """Whether everything is drained, routes that a reload adds as well."""
        return _ALL in self._drained

    @property
    def routes(self) -> tuple[str, ...]:
        """The drained routes, in the order of the configuration."""
        return tuple(
            route.name for route in self._config.routes if self.all or route.name in self._drained
        )

    def open(self) -> None:
        """Continue the drains of an earlier run."""
        if self._drained:
            self._apply()

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on; called after the dispatcher's."""
        self._config = config
        if self._drained:
            self._apply()

    def drain(self, route: str | None) -> None:
        """Refuse new requests of a route's backends, None: of everything. Raises
        `unknown_route`."""
        self._change({_ALL if route is None else find_route(self._config, route).name}, set())

    def resume(self, route: str | None) -> None:
        """Take them again. Raises `unknown_route`."""
        if route is None:
            self._change(set(), set(self._drained))
        elif self.all:
            resumed = find_route(self._config, route)
            rest = {one.name for one in self._config.routes if one is not resumed}
            self._change(rest, {_ALL})
        else:
            self._change(set(), {find_route(self._config, route).name})

    async def durable(self) -> None:
        """Wait until all changes are on the disk, if it can be written."""
        await self._store.durable()

    def _change(self, more: set[str], fewer: set[str]) -> None:
        for name in fewer:
            self._store.drop(DRAINS, name)
        for name in more:
            self._store.put(DRAINS, name, name)
        self._drained = (self._drained - fewer) | more
        self._apply()

    def _apply(self) -> None:
        if self.all:
            self._gate.drain(None, True)
            return
        drained: set[BackendId] = set()
        for route in self._config.routes:
            if route.name in self._drained:
                drained.update(route.backends)
        self._gate.drain(None, False)
        if drained:
            self._gate.drain(tuple(sorted(drained)), True)
