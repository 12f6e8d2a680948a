"""Tables → routes: names, prefixes, hosts and models, each of them one route's alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.config import RESERVED, BackendConfig, ModelSpec, RouteConfig
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.loading import keys
from launcher.loading.keys import Key
from launcher.loading.read import did_you_mean
from launcher.loading.tables import Table

#: What people can say and URLs can hold.
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A route whose backends are still names, and the table that describes it."""

    route: RouteConfig
    table: Table
    says_models: bool


def check_word(name: str, table: Table, what: str) -> bool:
    """Whether a name is one that people can say and URLs can hold; note it where it isn't."""
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


def draft(name: str, table: Table, backends: tuple[str, ...]) -> Drafted:
    """The route of one table, holding backends of these names."""
    prefixes = (f"/{name}", *(one for one in table.get(keys.PATH) if one != f"/{name}"))
    for prefix in prefixes[1:]:
        if (first := prefix.split("/")[1]) in RESERVED:
            table.problem(f"/{first} is the launcher's own path, now or later", keys.PATH)
    models = table.get(keys.MODELS)
    route = RouteConfig(
        name=name,
        backends=tuple(map(BackendId, backends)),
        prefixes=prefixes,
        hosts=table.get(keys.HOST),
        models=models or (),
        auth=table.get(keys.AUTH),
        public=table.get(keys.PUBLIC),
        host_header=table.get(keys.HOST_HEADER),
        quiet=table.get(keys.QUIET_PATHS),
        priority=table.get(keys.PRIORITY),
        wake=table.get(keys.WAKE),
        on_lease=table.get(keys.ON_LEASE),
        max_wait=table.get(keys.MAX_WAIT),
        queue_timeout=table.get(keys.QUEUE_TIMEOUT),
        response_timeout=table.get(keys.RESPONSE_TIMEOUT),
        heartbeat=table.get(keys.HEARTBEAT),
        tunnel_idle=table.get(keys.TUNNEL_IDLE),
    )
    return Drafted(route, table, says_models=models is not None)


def bind(
    drafts: list[Drafted], by_id: Mapping[BackendId, BackendConfig], declared: Collection[str]
) -> list[Drafted]:
    """Names of backends → the backends' ids; models by default. A backend that nobody declared
    is noted; what is wrong with one that was declared has been told already."""
    bound: list[Drafted] = []
    for one in drafts:
        found: dict[BackendId, None] = {}
        for name in one.route.backends:
            if name in by_id:
                found[by_id[name].id] = None
            elif name not in declared:
                one.table.problem(
                    f"there is no [backends.{name}]{did_you_mean(name, by_id)}", keys.BACKEND_OF
                )
        bound.append(replace(one, route=replace(one.route, backends=tuple(found))))
    return _with_default_models(bound, by_id)


def _with_default_models(
    drafts: list[Drafted], by_id: Mapping[BackendId, BackendConfig]
) -> list[Drafted]:
    """A route that says no models serves its container's name, or its own for a command.

    Of several routes to one backend the first that says nothing gets that name.
    """
    named: set[tuple[BackendId, str]] = set()
    found: list[Drafted] = []
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


def check_unique(drafts: list[Drafted]) -> None:
    """Note every prefix, host and model id that two routes (or one, twice) claim."""
    prefixes: dict[str, Drafted] = {}
    hosts: dict[str, Drafted] = {}
    models: dict[str, Drafted] = {}
    # The routes' own names first, so that the `path` that collides with one is blamed.
    for one in drafts:
        _claim(prefixes, one, one.route.prefixes[:1], "prefix", keys.PATH)
    for one in drafts:
        _claim(prefixes, one, one.route.prefixes[1:], "prefix", keys.PATH)
        _claim(hosts, one, one.route.hosts, "host", keys.HOST)
    # Models that somebody wrote first, for the same reason.
    for one in sorted(drafts, key=lambda draft: not draft.says_models):
        _claim(models, one, (model.id for model in one.route.models), "model", keys.MODELS)


def _claim(
    claimed: dict[str, Drafted], one: Drafted, names: Iterable[str], what: str, key: Key[Any]
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
