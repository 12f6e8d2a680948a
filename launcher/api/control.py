"""`POST /api/routes/{name}/start` and `/stop`, and what all endpoints need of the dispatcher.

A start asks at the same gate as every request, with a ticket that it lets go of at once when
it is granted: the backend then stays for its idle time like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import TypedDict

from launcher import tasks
from launcher.api.answers import json_answer, milliseconds
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import Flag, shape
from launcher.config import LauncherConfig, RouteConfig
from launcher.control.gate import Gate
from launcher.core.dry_run import Step
from launcher.core.types import (
    RESIDENT,
    BackendId,
    BackendSnapshot,
    BackendState,
    Forecast,
    Priority,
    Ticket,
    Wake,
)
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint as Address
from launcher.runtime.admission import Ask, Grant, Progress, ask_for

#: Seconds between two looks at a backend whose stop somebody waits for.
LOOK_EVERY = 0.05


class Control(Gate, Protocol):
    """What the endpoints use of the dispatcher."""

    def waiting(self, most: int) -> list[tuple[Ticket, Progress]]:
        """The first so many of those who wait, and where each stands."""
        ...

    def forecasts(self) -> Mapping[BackendId, Forecast]:
        """What one more request would wait, for each backend where it would wait at all."""
        ...

    def plan(self, ask: Ask) -> list[Step]:
        """What asking would bring about, without asking; the ticket is `PLANNED`."""
        ...

    def request_stop(self, backend: BackendId, force: bool = False) -> None:
        """Stop it after what runs, or at once."""
        ...

    def endpoint(self, backend: BackendId) -> Address | None:
        """Where it answers, while it is ready."""
        ...

    def driver_health(self) -> dict[str, str | None]:
        """Each driver by name, and why it doesn't answer, where it doesn't."""
        ...


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class StartQuery:
    """How a route is started."""

    wait: Flag = False
    """Answer when it is ready, or with the error that a request would have met."""


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class StopQuery:
    """How a route is stopped."""

    force: Flag = False
    """At once: cut the requests that run."""
    wait: Flag = False
    """Answer when it is confirmed that nothing runs."""


@shape
class BackendNow(TypedDict):
    """A backend's state at this moment."""

    backend: str
    state: BackendState


@shape
class RouteNow(TypedDict):
    """A route's backends at this moment."""

    route: str
    state: BackendState
    """Of the liveliest of them."""
    backends: list[BackendNow]


@shape
class RouteStarted(RouteNow):
    """It is ready."""

    backend: str
    """The one that is."""
    coldStart: bool
    """It was started for this."""
    waitedMs: int


class Switches:
    """Starting and stopping by hand."""

    def __init__(
        self, config: LauncherConfig, control: Control, holds: tasks.Group | None = None
    ) -> None:
        """`holds` are the starts that nobody waits for here; they outlive a configuration."""
        self._config = config
        self._routes = {route.name: route for route in config.routes}
        self._control = control
        self._holds = tasks.Group() if holds is None else holds

    def endpoints(self) -> tuple[Endpoint, ...]:
        """POST /api/routes/{name}/start, POST /api/routes/{name}/stop"""
        return (
            Endpoint(
                method="POST", path="/api/routes/{name}/start", need="admin", answer=self.start,
                tag="control", operation="start_route",
                summary="Start a route's backend; `?wait=1` answers when it is ready.",
                query=StartQuery,
                answers={200: RouteStarted, 202: RouteNow},
            ),
            Endpoint(
                method="POST", path="/api/routes/{name}/stop", need="admin", answer=self.stop,
                tag="control", operation="stop_route",
                summary="Stop it after what runs, with `?force=1` at once; `?wait=1` answers when "
                "it is stopped.",
                query=StopQuery,
                answers={200: RouteNow, 202: RouteNow},
            ),
        )  # fmt: skip

    async def start(self, request: ApiRequest) -> ApiResponse:
        """POST /api/routes/{name}/start: 202 at once, 200 where it is ready already.

        `?wait=1` answers when it is ready, or with the error that a request would have met;
        a caller who leaves gives up its place, but a start under way goes on.
        """
        route = find_route(self._routes, request)
        # Somebody waits for it, whatever the route's own requests may.
        priority = min(route.priority, Priority.NORMAL)
        ask = ask_for(self._config, route, priority=priority, wake=Wake.ALWAYS)
        ask = ask._replace(operator=True)
        if request.asked(StartQuery).wait:
            return self._started(route, await self._granted(ask))
        hold = self._holds.spawn(self._hold(ask), name=f"operator's start of {route.name}")
        # What is decided at once (ready already, in back-off, no such container) is told at once.
        await asyncio.wait({hold}, timeout=0)
        if not hold.done():
            return self._answer(route, 202)
        outcome = hold.result()
        if isinstance(outcome, LauncherError):
            raise outcome
        return self._started(route, outcome)

    async def stop(self, request: ApiRequest) -> ApiResponse:
        """POST /api/routes/{name}/stop: 202 while it goes on, 200 where nothing runs.

        What runs is served to its end, unless `?force=1`. `?wait=1` answers when it is
        confirmed that nothing runs, or raises `backend_stop_failed`.
        """
        route, how = find_route(self._routes, request), request.asked(StopQuery)
        going = [one for one in self._look(*route.backends) if one.state in RESIDENT]
        for one in going:
            self._control.request_stop(one.id, how.force)
        if how.wait:
            for one in going:
                await self._stopped(one)
            return self._answer(route, 200)
        now = self._look(*(one.id for one in going))
        return self._answer(route, 202 if any(one.state in RESIDENT for one in now) else 200)

    def _look(self, *backends: BackendId) -> list[BackendSnapshot]:
        """Those that a reload hasn't taken away."""
        known = self._control.snapshot().backends
        return [known[backend] for backend in backends if backend in known]

    async def _granted(self, ask: Ask) -> Grant:
        with self._control.admit(ask) as admission:
            return admission.grant or await admission.granted()

    async def _hold(self, ask: Ask) -> Grant | LauncherError:
        try:
            return await self._granted(ask)
        except LauncherError as error:
            # Told to the operator while the request lasts, and logged as a decision by the core.
            return error

    async def _stopped(self, before: BackendSnapshot) -> None:
        while True:
            found = self._look(before.id)
            if not found:
                return
            (now,) = found
            if now.state not in RESIDENT or _started_anew(before, now):
                return
            if now.stop_failure is not None:
                raise LauncherError(
                    now.stop_failure.code,
                    f"{before.id} does not stop: {now.stop_failure.message}",
                    detail=now.stop_failure.detail,
                )
            await asyncio.sleep(LOOK_EVERY)

    def _started(self, route: RouteConfig, grant: Grant) -> ApiResponse:
        started: RouteStarted = {
            **self._now(route),
            "backend": grant.backend,
            "coldStart": grant.cold,
            "waitedMs": milliseconds(grant.queued),
        }
        return json_answer(started)

    def _answer(self, route: RouteConfig, status: int) -> ApiResponse:
        return json_answer(self._now(route), status)

    def _now(self, route: RouteConfig) -> RouteNow:
        backends = self._look(*route.backends)
        return RouteNow(
            route=route.name,
            state=_most_alive(backends),
            backends=[BackendNow(backend=one.id, state=one.state) for one in backends],
        )


def find_route(routes: Mapping[str, RouteConfig], request: ApiRequest) -> RouteConfig:
    """The route that a path names. Raises `unknown_route`."""
    route = routes.get(request.args["name"])
    if route is None:
        known = ", ".join(routes) or "none"
        raise LauncherError("unknown_route", f"No route of that name. Known: {known}.")
    return route


def find_backend(control: Control, name: str) -> BackendId:
    """The backend of that name. Raises `unknown_backend`."""
    known = control.snapshot().backends
    if name in known:
        return BackendId(name)
    raise LauncherError(
        "unknown_backend", f"No backend of that name. Known: {', '.join(known) or 'none'}."
    )


def _started_anew(before: BackendSnapshot, now: BackendSnapshot) -> bool:
    """Somebody asked for it meanwhile: it was stopped, and is on its way up again."""
    if now.epoch == before.epoch:
        return False
    if now.state is BackendState.STARTING:
        return before.state is not BackendState.STARTING
    return now.instance is not None and now.instance != before.instance


_LIVELINESS = (
    BackendState.READY,
    BackendState.DRAINING,
    BackendState.STARTING,
    BackendState.STOPPING,
    BackendState.FAILED,
    BackendState.STOPPED,
)


def _most_alive(backends: list[BackendSnapshot]) -> BackendState:
    states = (one.state for one in backends)
    return min(states, key=_LIVELINESS.index, default=BackendState.STOPPED)
