"""Tables → routes, and what names routes and their models: aliases and modes.

A prefix, a host and a model id belong to one route each. Every member of an alias can take the
same requests; the routes of a mode fit side by side.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.config import (
    RESERVED,
    AliasConfig,
    BackendConfig,
    ModeConfig,
    ModelSpec,
    RouteConfig,
    schema,
    sources,
    values,
)
from launcher.config.schema import Key
from launcher.config.sources import Document, Value, did_you_mean
from launcher.config.tables import Table
from launcher.core.types import BackendId, Needs
from launcher.drivers.base import ContainerSpec

#: A name that is easy to say and needs no escaping in a URL.
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class RouteDraft:
    """A route whose backends are still names, and the table that describes it."""

    route: RouteConfig
    table: Table
    says_models: bool


def check_word(name: str, table: Table, what: str) -> bool:
    """Whether a name is a lower-case word with dashes; note it where it isn't."""
    if NAME.fullmatch(name):
        return True
    better = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
    hint = f", such as {better}" if better else ""
    table.problem(f"a {what}'s name is lower-case words joined by dashes{hint}")
    return False


def check_name(name: str, table: Table) -> None:
    """Note a name that can't be a path segment of its own."""
    if check_word(name, table, "route") and name in RESERVED:
        table.problem(f"/{name} is the launcher's own path, now or later: choose another name")


def draft(name: str, table: Table, backends: tuple[str, ...]) -> RouteDraft:
    """Return the route of one table, with the names of its backends."""
    prefixes = (f"/{name}", *(one for one in table.get(schema.PATH) if one != f"/{name}"))
    for prefix in prefixes[1:]:
        if (first := prefix.split("/")[1]) in RESERVED:
            table.problem(f"/{first} is the launcher's own path, now or later", schema.PATH)
    models = table.get(schema.MODELS)
    route = RouteConfig(
        name=name,
        backends=tuple(map(BackendId, backends)),
        prefixes=prefixes,
        hosts=table.get(schema.HOST),
        models=models or (),
        auth=table.get(schema.AUTH),
        public=table.get(schema.PUBLIC),
        host_header=table.get(schema.HOST_HEADER),
        quiet=table.get(schema.QUIET_PATHS),
        priority=table.get(schema.PRIORITY),
        wake=table.get(schema.WAKE),
        on_lease=table.get(schema.ON_LEASE),
        max_wait=table.get(schema.MAX_WAIT),
        queue_timeout=table.get(schema.QUEUE_TIMEOUT),
        response_timeout=table.get(schema.RESPONSE_TIMEOUT),
        heartbeat=table.get(schema.HEARTBEAT),
        tunnel_idle=table.get(schema.TUNNEL_IDLE),
    )
    return RouteDraft(route, table, says_models=models is not None)


def bind(
    drafts: list[RouteDraft], by_id: Mapping[BackendId, BackendConfig], declared: Collection[str]
) -> list[RouteDraft]:
    """Replace names of backends by ids, and fill in default models. A backend that isn't declared
    is noted; what is wrong with a declared one has been noted before."""
    bound: list[RouteDraft] = []
    for one in drafts:
        found: dict[BackendId, None] = {}
        for name in one.route.backends:
            if name in by_id:
                found[by_id[name].id] = None
            elif name not in declared:
                one.table.problem(
                    f"there is no [backends.{name}]{did_you_mean(name, by_id)}", schema.BACKEND_OF
                )
        bound.append(replace(one, route=replace(one.route, backends=tuple(found))))
    return _with_default_models(bound, by_id)


def _with_default_models(
    drafts: list[RouteDraft], by_id: Mapping[BackendId, BackendConfig]
) -> list[RouteDraft]:
    """Give a route without `models` its container's name, or its own name for a command.

    Of several routes to one backend only the first without `models` gets that name.
    """
    named: set[tuple[BackendId, str]] = set()
    found: list[RouteDraft] = []
    for one in drafts:
        if one.says_models or not one.route.backends:
            found.append(one)
            continue
        backend = one.route.backends[0]
        spec = by_id[backend].driver
        name = spec.container if isinstance(spec, ContainerSpec) else one.route.name
        models = () if (backend, name) in named else (ModelSpec(name),)
        named.add((backend, name))
        found.append(replace(one, route=replace(one.route, models=models)))
    return found


def check_unique(drafts: list[RouteDraft]) -> None:
    """Note every prefix, host and model id that two routes (or one, twice) claim."""
    prefixes: dict[str, RouteDraft] = {}
    hosts: dict[str, RouteDraft] = {}
    models: dict[str, RouteDraft] = {}
    # The routes' own names first, so that the `path` that collides with one is blamed.
    for one in drafts:
        _claim(prefixes, one, one.route.prefixes[:1], "prefix", schema.PATH)
    for one in drafts:
        _claim(prefixes, one, one.route.prefixes[1:], "prefix", schema.PATH)
        _claim(hosts, one, one.route.hosts, "host", schema.HOST)
    # Models that are written in the file first, for the same reason.
    for one in sorted(drafts, key=lambda draft: not draft.says_models):
        _claim(models, one, (model.id for model in one.route.models), "model", schema.MODELS)


def _claim(
    claimed: dict[str, RouteDraft], one: RouteDraft, names: Iterable[str], what: str, key: Key[Any]
) -> None:
    own: set[str] = set()
    for name in names:
        first = claimed.setdefault(name, one)
        if first is not one:
            default = "" if key in one.table else f" (by default: set {key.name} to say otherwise)"
            one.table.problem(
                f'{what} "{name}"{default} is {first.table.label}\'s already: '
                "one of the two has to give it up",
                key,
            )
        elif what == "model" and name in own:
            one.table.problem(f'model "{name}" is listed twice', key)
            return
        own.add(name)


#: Fields that decide about a request before it is known which member serves it: all members
#: must agree in them.
AGREED = ("public", "wake")


def read_aliases(
    document: Document, environ: Mapping[str, str], routes: Sequence[RouteConfig]
) -> tuple[AliasConfig, ...]:
    """Return the aliases of a document; what is wrong with them is noted."""
    by_model = {model.id: route for route in routes for model in route.models}
    found = []
    for alias, value in document.aliases.items():
        try:
            found.append(_alias(alias, value, document, environ, by_model))
        except ValueError as error:
            document.problems.append(f"{value.where}: {error}")
    return tuple(found)


def _alias(
    alias: str,
    value: Value,
    document: Document,
    environ: Mapping[str, str],
    by_model: Mapping[str, RouteConfig],
) -> AliasConfig:
    """Return one alias. Raises ValueError with the first thing that is wrong."""
    if not alias.strip() or not alias.isprintable() or alias != alias.strip():
        raise ValueError("an alias is a model id: printable, and no blanks around it")
    if alias in by_model:
        raise ValueError(
            f"is a model of [routes.{by_model[alias].name}] already: give one of the two another id"
        )
    try:
        models = values.texts(sources.expand(value.raw, environ))
    except ValueError as error:
        if isinstance(error, sources.Unresolved):
            raise
        raise ValueError('expected a list of model ids: ["chat-general", "coder"]') from None
    if not models:
        raise ValueError("names no model: list the ids that may serve it, the preferred one first")
    for model in models:
        if model in document.aliases:
            raise ValueError(f'"{model}" is an alias itself: name its models instead')
        if model not in by_model:
            raise ValueError(f'no route serves the model "{model}"{did_you_mean(model, by_model)}')
        if models.count(model) > 1:
            raise ValueError(f'model "{model}" is listed twice')
    _check_members(models, by_model)
    return AliasConfig(alias, models)


def _check_members(models: Sequence[str], by_model: Mapping[str, RouteConfig]) -> None:
    first = by_model[models[0]]
    held = dict.fromkeys(first.backends, models[0])
    for model in models[1:]:
        route = by_model[model]
        for name in AGREED:
            if getattr(route, name) != getattr(first, name):
                raise ValueError(
                    f"[routes.{first.name}] and [routes.{route.name}] differ in {name}, and a "
                    "request for the alias may go to either: make them agree, or leave one out"
                )
        if all(backend in held for backend in route.backends):
            taken = held[route.backends[0]] if route.backends else models[0]
            raise ValueError(
                f'"{model}" would never serve it, for "{taken}" has the same backend and comes '
                "first: leave one of the two out"
            )
        held |= {backend: model for backend in route.backends if backend not in held}


def read_modes(
    tables: Mapping[str, Table],
    routes: Sequence[RouteConfig],
    backends: Sequence[BackendConfig],
    capacity: Needs,
    max_lease: float,
) -> tuple[ModeConfig, ...]:
    """Return the modes of these tables; what is wrong with them is noted.

    `max_lease` in seconds is the default duration of a mode, and the longest.
    """
    by_name = {route.name: route for route in routes}
    needs = {one.id: dict(capacity if one.needs is None else one.needs) for one in backends}
    found = []
    for name, table in tables.items():
        table.check_names("mode")
        table.read_all("mode")
        check_word(name, table, "mode")
        mode = ModeConfig(name, table.get(schema.MODE_ROUTES), table.get(schema.TTL) or max_lease)
        if mode.ttl > max_lease:
            table.problem(f"is longer than max_lease, which is {max_lease:g} s", schema.TTL)
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
        table.problem("names no route: list those whose backends it holds", schema.MODE_ROUTES)
    unknown = [name for name in mode.routes if name not in by_name]
    for name in unknown:
        hint = did_you_mean(name, by_name)
        table.problem(f'there is no route "{name}"{hint}', schema.MODE_ROUTES)
    for name in dict.fromkeys(one for one in mode.routes if mode.routes.count(one) > 1):
        table.problem(f'route "{name}" is listed twice', schema.MODE_ROUTES)
    choices = [by_name[name].backends for name in mode.routes if name not in unknown]
    # A route without backends has been noted already.
    if not unknown and all(choices) and not _fit(choices, needs, dict(capacity)):
        table.problem(
            "these routes don't fit side by side: leave one out, or see to their needs and the "
            "[capacity]",
            schema.MODE_ROUTES,
        )


def _fit(
    choices: Sequence[tuple[BackendId, ...]],
    needs: Mapping[BackendId, dict[str, int]],
    left: Mapping[str, int],
    held: frozenset[BackendId] = frozenset(),
) -> bool:
    """Whether one backend of each route can be resident together with one of each other route."""
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
