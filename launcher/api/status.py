"""What there is and how it stands: `/routes`, `/stats`, `/api/status`, `/api/queue`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from launcher import __version__
from launcher.api.answers import (
    Described,
    Failed,
    Predicted,
    describe,
    failure,
    json_answer,
    milliseconds,
    predicted,
    timestamp,
)
from launcher.api.control import SwitchView, switch_view
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.health import Problem, problems
from launcher.api.leases import LeaseView, lease_view
from launcher.api.shapes import Limits, shape
from launcher.config import BackendConfig, Health, RouteConfig
from launcher.core.types import RESIDENT, BackendId, BackendState, Snapshot, Ticket
from launcher.drivers.base import ContainerSpec, ProcessSpec, ReservedSpec
from launcher.state.records import Starts

ENDPOINTS = EndpointTable()

# -- the routes, as configured

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
    max_in_flight: int | None
    idle_timeout_seconds: float | None
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


@ENDPOINTS.add("GET", "/routes", need="observe", tag="status", answers={200: RouteList})
async def list_routes(context: Context, request: Request) -> web.Response:
    """The table of routes, as configured; no secrets."""
    return json_answer(context.once(_route_list))


def _route_list(context: Context) -> RouteList:
    return RouteList(
        routes=[_route(context, route) for route in context.config.routes],
        aliases=[Alias(alias=one.id, models=list(one.models)) for one in context.config.aliases],
    )


def _route(context: Context, route: RouteConfig) -> Route:
    config = context.config
    first = config.backend(route.backends[0])
    return {
        "route": route.name,
        **held(first, context.redact),
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
        "max_in_flight": first.max_in_flight,
        "idle_timeout_seconds": first.idle_timeout if math.isfinite(first.idle_timeout) else None,
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


# -- the numbers, for dashboards


@shape
class StartMetrics(TypedDict):
    """The starts of a backend that led to its being ready."""

    average_duration_ms: int | None
    last_duration_ms: int | None
    last_started_at: str | None
    start_count: int


@shape
class StatsAnswer(TypedDict):
    """The numbers for dashboards."""

    server_time: str
    running_containers: list[str]
    """Containers that occupy their needs; programs by their backend's name."""
    last_hits: dict[str, str | None]
    """Route → when a request for it last came in; now, while one is under way."""
    start_metrics: dict[str, StartMetrics]
    """By backend."""
    capacity: dict[str, int]
    used: dict[str, int]
    backends: dict[str, Described]


@ENDPOINTS.add("GET", "/stats", need="observe", tag="status", answers={200: StatsAnswer})
async def get_stats(context: Context, request: Request) -> web.Response:
    """What runs, the last hit of each route, start timings, and per backend what one more
    request would wait."""
    snapshot, wall = context.control.snapshot(), context.wall()
    forecasts, names = context.control.forecasts(), context.once(_container_names)
    return json_answer(
        StatsAnswer(
            server_time=timestamp(wall),
            running_containers=[
                names.get(one.id, one.id)
                for one in snapshot.backends.values()
                if one.state in RESIDENT
            ],
            last_hits={route: timestamp(at) for route, at in context.history.last_hits.items()},
            start_metrics={
                backend: start_metrics(starts) for backend, starts in context.history.starts.items()
            },
            capacity=dict(snapshot.capacity),
            used=dict(snapshot.used),
            backends={
                one.id: describe(one, snapshot.now, wall, forecasts.get(one.id))
                for one in snapshot.backends.values()
            },
        )
    )


def _container_names(context: Context) -> dict[BackendId, str]:
    return {
        one.id: one.driver.container
        for one in context.config.backends
        if isinstance(one.driver, ContainerSpec)
    }


def start_metrics(starts: Starts) -> StartMetrics:
    """A backend's start counters, as `/stats` shows them."""
    return {
        "average_duration_ms": milliseconds(starts.average),
        "last_duration_ms": milliseconds(starts.last_duration),
        "last_started_at": timestamp(starts.last_started_at),
        "start_count": starts.count,
    }


# -- everything at a glance


@shape
class LastError(Failed):
    """A failure, and when that was."""

    at: str


@shape
class HomeStatus(TypedDict):
    """The route that becomes resident again when the last lease has ended."""

    route: str
    owed: bool
    """It is to become resident, and isn't yet."""
    error: Failed | None
    """Why it didn't, the last time."""


@shape
class BackendStatus(Held, Described):
    """A backend, and what is behind it."""

    backend: str
    routes: list[str]
    endpoint: str | None
    """Where it answers, while it is ready."""
    start_metrics: StartMetrics
    last_error: LastError | None
    """What failed last, also where it runs again; null: nothing since the launcher is up."""


@shape
class RouteStatus(TypedDict):
    """A route."""

    route: str
    backends: list[str]
    models: list[str]
    last_hit_at: str | None


@shape
class StatusAnswer(TypedDict):
    """Everything at a glance."""

    version: str
    server_time: str
    started_at: str
    ready: bool
    """It can do its work; else `problems` says why not."""
    problems: list[Problem]
    drivers: dict[str, str | None]
    """Driver → why it doesn't answer; null where it does."""
    capacity: dict[str, int]
    used: dict[str, int]
    backends: list[BackendStatus]
    routes: list[RouteStatus]
    switches: list[SwitchView]
    """The one that is under way, and those that wait for their turn."""
    leases: list[LeaseView]
    mode: str | None
    """The mode that is in force."""
    home: HomeStatus | None
    drained: list[str]
    """Routes whose new requests are refused."""
    state_kept: bool
    """Leases, drains and what was measured outlive this run; else the log says why not."""


@ENDPOINTS.add("GET", "/api/status", need="observe", tag="status", answers={200: StatusAnswer})
async def get_status(context: Context, request: Request) -> web.Response:
    """Everything at a glance: backends and their states, queues and predicted waits, capacity,
    leases, switches, what is wrong."""
    return json_answer(status(context, details=request.details))


def status(context: Context, *, details: bool) -> StatusAnswer:
    """Return everything at a glance; `details` of failures are for operators."""
    config, control, plane = context.config, context.control, context.plane
    snapshot, wall = control.snapshot(), context.wall()
    mode = plane.modes.active()
    wrong = problems(control, snapshot)
    return StatusAnswer(
        version=__version__,
        server_time=timestamp(wall),
        started_at=timestamp(context.history.since),
        ready=not wrong,
        problems=wrong,
        drivers=control.driver_health(),
        capacity=dict(snapshot.capacity),
        used=dict(snapshot.used),
        backends=[
            _backend(context, one, snapshot, wall, details)
            for one in config.backends
            if one.id in snapshot.backends
        ],
        routes=[
            RouteStatus(
                route=route.name,
                backends=list(route.backends),
                models=[model.id for model in route.models],
                last_hit_at=timestamp(context.history.last_hits.get(route.name)),
            )
            for route in config.routes
        ],
        switches=[
            switch_view(plane.switches, one, details=details) for one in plane.switches.open_ones()
        ],
        leases=[lease_view(plane.leases, one, details=details) for one in plane.leases.open_ones()],
        mode=None if mode is None else mode.mode,
        home=_home(context, details),
        drained=list(plane.drains.routes),
        state_kept=plane.kept,
    )


def _backend(
    context: Context, config: BackendConfig, snapshot: Snapshot, wall: float, details: bool
) -> BackendStatus:
    one = snapshot.backends[config.id]
    endpoint = context.control.endpoint(config.id)
    forecast = context.control.forecasts().get(config.id)
    return {
        "backend": config.id,
        "routes": [route.name for route in context.config.routes if config.id in route.backends],
        **held(config, context.redact),
        **describe(one, snapshot.now, wall, forecast),
        "failure": failure(one.failure, detail=details),
        "stop_failure": failure(one.stop_failure, detail=details),
        "endpoint": None if endpoint is None else str(endpoint),
        "start_metrics": start_metrics(context.history.starts.get(config.id, Starts())),
        "last_error": _last_error(context, config.id, details),
    }


def _home(context: Context, details: bool) -> HomeStatus | None:
    home = context.plane.home
    if home.route is None:
        return None
    return HomeStatus(
        route=home.route, owed=home.pending, error=failure(home.error, detail=details)
    )


def _last_error(context: Context, backend: BackendId, details: bool) -> LastError | None:
    if (found := context.history.errors.get(backend)) is None:
        return None
    last, at = found
    return {**failure(last, detail=details), "at": timestamp(at)}


# -- who waits

#: How many of those who wait are shown.
MOST_WAITING = 1000


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueQuery:
    """How much is wanted."""

    limit: Annotated[int, Limits(ge=0)] = 100
    """So many of those who wait, at most; a thousand are shown."""


Kind = Literal["request", "operator", "lease"]


@shape
class Waiting(TypedDict):
    """Somebody who waits."""

    ticket: int
    """Counts up in the order of arrival."""
    kind: Kind
    backends: list[str]
    """In the order in which it would have them."""
    priority: str
    phase: str
    """What it waits for, in words."""
    waited_ms: int
    predicted: Predicted | None


@shape
class QueueOf(TypedDict):
    """A backend for which somebody waits."""

    backend: str
    state: BackendState
    queued: int
    in_flight: int
    oldest_wait_ms: int | None
    predicted: Predicted | None
    """What one more request would wait."""


@shape
class QueueView(TypedDict):
    """Who waits."""

    queued: int
    backends: list[QueueOf]
    waiting: list[Waiting]
    """The first that came first."""


@ENDPOINTS.add(
    "GET", "/api/queue", need="observe", tag="status", query=QueueQuery, answers={200: QueueView}
)
async def get_queue(context: Context, request: Request) -> web.Response:
    """Who waits for which backend, since when, for what, and for how long yet."""
    snapshot, forecasts = context.control.snapshot(), context.control.forecasts()
    waiting = context.control.waiting(min(request.query_as(QueueQuery).limit, MOST_WAITING))
    queues = [one for one in snapshot.backends.values() if one.queued]
    return json_answer(
        QueueView(
            queued=sum(one.queued for one in queues),
            backends=[
                QueueOf(
                    backend=one.id,
                    state=one.state,
                    queued=one.queued,
                    in_flight=one.in_flight,
                    oldest_wait_ms=milliseconds(one.oldest_wait),
                    predicted=predicted(forecasts.get(one.id)),
                )
                for one in queues
            ],
            waiting=[
                Waiting(
                    ticket=ticket.id,
                    kind=_kind(ticket),
                    backends=list(ticket.backends),
                    priority=ticket.priority.name.lower(),
                    phase=progress.phase,
                    waited_ms=milliseconds(progress.waited),
                    predicted=predicted(progress.forecast),
                )
                for ticket, progress in waiting
            ],
        )
    )


def _kind(ticket: Ticket) -> Kind:
    if ticket.hold is not None:
        return "lease"
    return "operator" if ticket.operator else "request"
