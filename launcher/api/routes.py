"""`/routes`: the table as it was configured. Nothing in it is secret, nothing of it is state."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.config import BackendConfig, Health, LauncherConfig, RouteConfig
from launcher.drivers.base import ContainerSpec, ProcessSpec, ReservedSpec

_SECRET_OPTION = re.compile(r"(?i)(key|token|secret|passw(or)?d|credential)s?$")


@shape
class Held(TypedDict):
    """What a backend is."""

    container: str | None
    """Its container's name; null for a program."""
    command: NotRequired[list[str]]
    """A program's, without what may be secret in it."""


@shape
class Route(Held):
    """A route as it was configured, and what its first backend is."""

    route: str
    port: int | None
    health: str
    auth: Literal["inject", "passthrough"]
    models: list[str]
    prefixes: list[str]
    hosts: list[str]
    priority: str
    wake: str
    backends: list[str]
    needs: dict[str, int]
    maxInFlight: int | None
    idleTimeoutSeconds: float | None
    """Null: it is never stopped for being idle."""
    public: bool
    """No api key is asked."""


@shape
class Alias(TypedDict):
    """A model id that stands for others."""

    alias: str
    models: list[str]


@shape
class RouteList(TypedDict):
    """The table."""

    routes: list[Route]
    aliases: list[Alias]


class Routes:
    """The table, made once: it changes only with the configuration."""

    def __init__(self, config: LauncherConfig, redact: Callable[[str], str]) -> None:
        self._table = [_describe(route, config, redact) for route in config.routes]
        self._aliases = [
            Alias(alias=alias.id, models=list(alias.models)) for alias in config.aliases
        ]

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /routes"""
        return (
            Endpoint(
                method="GET", path="/routes", need="observe", answer=self.list, tag="status",
                operation="list_routes",
                summary="The table of routes, as configured; no secrets.",
                answers={200: RouteList},
            ),
        )  # fmt: skip

    async def list(self, request: ApiRequest) -> ApiResponse:
        """GET /routes"""
        return json_answer(RouteList(routes=self._table, aliases=self._aliases))


def _describe(route: RouteConfig, config: LauncherConfig, redact: Callable[[str], str]) -> Route:
    first = config.backend(route.backends[0])
    return {
        "route": route.name,
        **held(first, redact),
        "port": first.driver.port,
        "health": health(first.health),
        "auth": route.auth,
        "models": [model.id for model in route.models],
        "prefixes": list(route.prefixes),
        "hosts": list(route.hosts),
        "priority": route.priority.name.lower(),
        "wake": route.wake.value,
        "backends": list(route.backends),
        "needs": dict(config.capacity if first.needs is None else first.needs),
        "maxInFlight": first.max_in_flight,
        "idleTimeoutSeconds": first.idle_timeout if math.isfinite(first.idle_timeout) else None,
        "public": route.public,
    }


def held(backend: BackendConfig, redact: Callable[[str], str]) -> Held:
    """What a backend is: its container (null for a program), or its command without what may
    be secret in it."""
    match backend.driver:
        case ContainerSpec(container=container):
            return {"container": container}
        case ProcessSpec(command=command):
            return {"container": None, "command": [redact(word) for word in mask(command)]}
        case ReservedSpec():
            return {"container": None}


def mask(command: tuple[str, ...]) -> list[str]:
    """A command line with the values of options and variables named like secrets hidden."""
    shown: list[str] = []
    hide = False
    for word in command:
        name, equals, _ = word.partition("=")
        named = _SECRET_OPTION.search(name) is not None
        if hide:
            shown.append("***")
        elif named and equals:
            shown.append(f"{name}=***")
        else:
            shown.append(word)
        hide = not hide and named and not equals and word.startswith("-")
    return shown


def health(check: Health) -> str:
    """How readiness is asked, as routes.toml spells it."""
    return check.path if check.kind == "http" else check.kind
