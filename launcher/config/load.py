"""routes.toml and the environment → one checked LauncherConfig, or all that is wrong with them.

Whether what it names exists (containers, programs, files) is looked at by `launcher check`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from launcher.config import (
    AliasConfig,
    BackendConfig,
    KeyConfig,
    LauncherConfig,
    ModeConfig,
    RouteConfig,
    api_keys,
    backends,
    routes,
    schema,
    sources,
    values,
)
from launcher.config.backends import BackendDraft
from launcher.config.environment import add_environment
from launcher.config.routes import RouteDraft
from launcher.config.sources import DEFAULT_PLACES, Document
from launcher.config.tables import Table
from launcher.core.types import BackendId, Needs
from launcher.errors import ConfigError

__all__ = ["load_config"]


def load_config(path: str | None, environ: Mapping[str, str]) -> LauncherConfig:
    """Read a file (None: the one `LAUNCHER_CONFIG` names, else ./routes.toml, else
    /etc/launcher/routes.toml, else none) and the environment.

    Raises ConfigError with every problem found, each with its file, table and key.
    """
    found = sources.find_file(path, environ)
    document = sources.read_file(found) if found else Document()
    add_environment(document, environ)
    if found is None and not document.routes:
        document.problems.append(
            f"no configuration: there is neither {' nor '.join(DEFAULT_PLACES)}, no file was "
            "named (--config, LAUNCHER_CONFIG), and no MAP__<route>__container is set"
        )
    config = _Loader(document, environ).config()
    if document.problems:
        raise ConfigError(sorted(dict.fromkeys(document.problems), key=_line))
    return config


def _line(problem: str) -> float:
    """Return the sort key of a problem: its line; problems without a line come last."""
    found = re.search(r":(\d+): \[", problem)
    return int(found[1]) if found else math.inf


class _Loader:
    """One pass over a document; problems and warnings go into the document."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._launcher = Table(
            "[launcher]",
            f"{document.source}: [launcher]",
            document.launcher,
            environ,
            document.problems,
        )

    def _table(self, label: str, values: sources.Values) -> Table:
        at = self._document.at.get(label, f"{self._document.source}: {label}")
        return Table(
            label, at, values, self._environ, self._document.problems, defaults=self._launcher
        )

    def config(self) -> LauncherConfig:
        """Return the configuration; usable only if no problem was noted."""
        self._launcher.check_names("launcher")
        self._launcher.read_all("launcher")
        before = len(self._document.problems)
        capacity = self._capacity()
        capacity_is_known = len(self._document.problems) == before
        backend_drafts, route_drafts = self._drafts()
        by_id = backends.share_containers(backend_drafts, capacity)
        if capacity_is_known:
            backends.check_needs(backend_drafts, capacity)
        declared = {*self._document.backends, *self._document.routes}
        route_drafts = routes.bind(route_drafts, by_id, declared)
        routes.check_unique(route_drafts)
        held = tuple({backend.id: backend for backend in by_id.values()}.values())
        prewarm = self._prewarm(route_drafts, by_id)
        bound = [one.route for one in route_drafts]
        named = routes.read_aliases(self._document, self._environ, bound)
        self._check_home(bound)
        held_modes = routes.read_modes(
            {
                name: self._table(f"[modes.{name}]", one)
                for name, one in self._document.modes.items()
            },
            bound,
            held,
            capacity,
            self._launcher.get(schema.MAX_LEASE),
        )
        opening = api_keys.read(
            {name: self._table(f"[keys.{name}]", one) for name, one in self._document.keys.items()},
            self._launcher,
            bound,
        )
        self._warn(route_drafts)
        return self._assembled(capacity, route_drafts, held, prewarm, named, held_modes, opening)

    def _capacity(self) -> Needs:
        value = self._document.capacity
        default = LauncherConfig().capacity
        if value is None:
            return default
        try:
            return values.needs(sources.expand(value.raw, self._environ))
        except ValueError as error:
            self._document.problems.append(f"{value.where}: {error}")
            return default

    def _drafts(self) -> tuple[list[BackendDraft], list[RouteDraft]]:
        backend_drafts: list[BackendDraft] = []
        route_drafts: list[RouteDraft] = []
        for name, found in self._document.backends.items():
            table = self._table(f"[backends.{name}]", found)
            table.check_names("backend")
            table.read_all("backend")
            if (one := backends.draft(name, table)) is not None:
                backend_drafts.append(one)
        for name, found in self._document.routes.items():
            table = self._table(f"[routes.{name}]", found)
            routes.check_name(name, table)
            table.check_names("route", "backend")
            table.read_all("route", "backend")
            if schema.BACKEND_OF in table:
                self._check_only_route(table)
                named = table.get(schema.BACKEND_OF)
                if not named:
                    table.problem("names no backend", schema.BACKEND_OF)
            else:
                named = (name,)
                if (one := backends.draft(name, table)) is not None:
                    backend_drafts.append(one)
                    self._check_own(name, table)
            route_drafts.append(routes.draft(name, table, named))
        return backend_drafts, route_drafts

    def _check_only_route(self, table: Table) -> None:
        """Note keys of a backend in the table of a route that names a [backends.NAME]."""
        allowed = schema.names("route")
        for key in schema.KEYS:
            if key in table and key.name not in allowed:
                table.problem(
                    "the route names a backend: this belongs in that [backends.NAME]", key
                )

    def _check_own(self, name: str, table: Table) -> None:
        if name in self._document.backends:
            table.problem(
                f"describes a backend of its own, and there is [backends.{name}]: write backend = "
                f'"{name}" here, or rename one'
            )

    def _prewarm(
        self, route_drafts: list[RouteDraft], by_id: Mapping[BackendId, BackendConfig]
    ) -> tuple[BackendId, ...]:
        by_name = {name: backend.id for name, backend in by_id.items()}
        by_route = {one.route.name: one.route.backends[:1] for one in route_drafts}
        found: list[BackendId] = []
        for name in self._launcher.get(schema.PREWARM):
            if name in by_route:
                found += by_route[name]
            elif BackendId(name) in by_name:
                found.append(by_name[BackendId(name)])
            elif name not in self._document.backends:
                hint = sources.did_you_mean(name, by_route)
                self._launcher.problem(f'there is no route "{name}"{hint}', schema.PREWARM)
        return tuple(dict.fromkeys(found))

    def _check_home(self, bound: list[RouteConfig]) -> None:
        home = self._launcher.get(schema.HOME)
        known = [route.name for route in bound]
        if home is not None and home not in known:
            hint = sources.did_you_mean(home, known)
            self._launcher.problem(f'there is no route "{home}"{hint}', schema.HOME)

    def _check_apart(self) -> None:
        """Note addresses that are in both `listen` and `admin_listen`."""
        clients = self._launcher.get(schema.LISTEN)
        for address in self._launcher.get(schema.ADMIN_LISTEN):
            if address in clients and (address.port or address.unix_path):
                self._launcher.problem(
                    f"{address} is among listen too: one of the two has to give it up",
                    schema.ADMIN_LISTEN,
                )

    def _warn(self, route_drafts: list[RouteDraft]) -> None:
        for key in (schema.API_KEYS, schema.ADMIN_KEYS):
            if key in self._launcher and not self._launcher.get(key):
                value = self._document.launcher[key.name]
                if value.raw != []:
                    self._document.warnings.append(f"{value.where}: holds no key, so none is asked")
        if not route_drafts and self._document.source != "environment":
            self._document.warnings.append(
                f"{self._document.source}: has no routes: add a [routes.NAME] with container = "
                '"…" or command = ["…"]'
            )

    def _assembled(
        self,
        capacity: Needs,
        route_drafts: list[RouteDraft],
        held: tuple[BackendConfig, ...],
        prewarm: tuple[BackendId, ...],
        named: tuple[AliasConfig, ...],
        held_modes: tuple[ModeConfig, ...],
        opening: tuple[KeyConfig, ...],
    ) -> LauncherConfig:
        launcher = self._launcher
        cert, key = launcher.get(schema.TLS_CERT), launcher.get(schema.TLS_KEY)
        self._check_apart()
        if (cert is None) != (key is None):
            missing, present = (
                (schema.TLS_CERT, schema.TLS_KEY) if key else (schema.TLS_KEY, schema.TLS_CERT)
            )
            launcher.problem(f"needs {missing.name} too", present)
        return LauncherConfig(
            routes=tuple(one.route for one in route_drafts),
            backends=held,
            aliases=named,
            modes=held_modes,
            capacity=capacity,
            listen=launcher.get(schema.LISTEN),
            admin_listen=launcher.get(schema.ADMIN_LISTEN),
            allowed_hosts=launcher.get(schema.ALLOWED_HOSTS),
            tls_cert=cert,
            tls_key=key,
            prewarm=prewarm,
            home=launcher.get(schema.HOME),
            max_lease=launcher.get(schema.MAX_LEASE),
            policy=launcher.get(schema.POLICY),
            batch_max_wait=launcher.get(schema.BATCH_MAX_WAIT),
            keys=opening,
            trusted_proxies=launcher.get(schema.TRUSTED_PROXIES),
            max_body=launcher.get(schema.MAX_BODY),
            max_buffered=launcher.get(schema.MAX_BUFFERED),
            drain_timeout=launcher.get(schema.DRAIN_TIMEOUT),
            stop_on_exit=launcher.get(schema.STOP_ON_EXIT),
            docker_host=launcher.get(schema.DOCKER_HOST),
            compose_project=launcher.get(schema.COMPOSE_PROJECT),
            state_file=launcher.get(schema.STATE_FILE),
            source=self._document.source,
            warnings=tuple(self._document.warnings),
        )
