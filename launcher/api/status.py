"""`GET /api/status`: everything at a glance, for `launcher status` and its like."""

from __future__ import annotations

import time
from collections.abc import Callable

from typing_extensions import TypedDict

from launcher import __version__
from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control
from launcher.api.endpoint import Endpoint
from launcher.api.health import Problem, problems
from launcher.api.leases import LeaseView, lease_view
from launcher.api.routes import Held, held
from launcher.api.shapes import shape
from launcher.api.stats import History, StartMetrics, start_metrics
from launcher.api.switch import SwitchView, switch_view
from launcher.api.view import Described, Failed, describe, failure
from launcher.config import BackendConfig, LauncherConfig
from launcher.control.plane import ControlPlane
from launcher.core.types import BackendId, Snapshot
from launcher.state.records import Starts


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
    startMetrics: StartMetrics
    lastError: LastError | None
    """What failed last, also where it runs again; null: nothing since the launcher is up."""


@shape
class RouteStatus(TypedDict):
    """A route."""

    route: str
    backends: list[str]
    models: list[str]
    lastHitAt: str | None


@shape
class StatusAnswer(TypedDict):
    """Everything at a glance."""

    version: str
    serverTime: str
    startedAt: str
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
    stateKept: bool
    """Leases, drains and what was measured outlive this run; else the log says why not."""


class Status:
    """The glance. Failures' details are for admins, or for everybody where no keys are set."""

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        plane: ControlPlane,
        history: History,
        redact: Callable[[str], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._control = control
        self._plane = plane
        self._history = history
        self._redact = redact
        self._wall = wall
        self._open = not config.keys

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/status"""
        return (
            Endpoint(
                method="GET", path="/api/status", need="observe", answer=self.show, tag="status",
                operation="get_status",
                summary="Everything at a glance: backends and their states, queues and predicted "
                "waits, capacity, leases, switches, what is wrong.",
                answers={200: StatusAnswer},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/status"""
        return json_answer(self.report(request))

    def report(self, request: ApiRequest) -> StatusAnswer:
        """Everything, as far as the caller may see it."""
        snapshot, wall, plane = self._control.snapshot(), self._wall(), self._plane
        mode = plane.modes.active()
        details = request.admin or self._open
        wrong = problems(self._control, snapshot)
        return StatusAnswer(
            version=__version__,
            serverTime=timestamp(wall),
            startedAt=timestamp(self._history.since),
            ready=not wrong,
            problems=wrong,
            drivers=self._control.driver_health(),
            capacity=dict(snapshot.capacity),
            used=dict(snapshot.used),
            backends=[
                self._backend(one, snapshot, wall, details)
                for one in self._config.backends
                if one.id in snapshot.backends
            ],
            routes=[
                RouteStatus(
                    route=route.name,
                    backends=list(route.backends),
                    models=[model.id for model in route.models],
                    lastHitAt=timestamp(self._history.last_hits.get(route.name)),
                )
                for route in self._config.routes
            ],
            switches=[
                switch_view(plane.switches, one, details=details)
                for one in plane.switches.open_ones()
            ],
            leases=[
                lease_view(plane.leases, one, details=details) for one in plane.leases.open_ones()
            ],
            mode=None if mode is None else mode.mode,
            home=self._home(details),
            drained=list(plane.drains.routes),
            stateKept=plane.kept,
        )

    def _backend(
        self, config: BackendConfig, snapshot: Snapshot, wall: float, details: bool
    ) -> BackendStatus:
        one = snapshot.backends[config.id]
        endpoint = self._control.endpoint(config.id)
        forecast = self._control.forecasts().get(config.id)
        return {
            "backend": config.id,
            "routes": self._routes_of(config.id),
            **held(config, self._redact),
            **describe(one, snapshot.now, wall, forecast),
            "failure": failure(one.failure, detail=details),
            "stopFailure": failure(one.stop_failure, detail=details),
            "endpoint": None if endpoint is None else str(endpoint),
            "startMetrics": start_metrics(self._history.starts.get(config.id, Starts())),
            "lastError": self._last_error(config.id, details),
        }

    def _home(self, details: bool) -> HomeStatus | None:
        home = self._plane.home
        if home.route is None:
            return None
        return HomeStatus(
            route=home.route, owed=home.pending, error=failure(home.error, detail=details)
        )

    def _last_error(self, backend: BackendId, details: bool) -> LastError | None:
        found = self._history.errors.get(backend)
        told = None if found is None else failure(found[0], detail=details)
        return None if found is None or told is None else {**told, "at": timestamp(found[1])}

    def _routes_of(self, backend: BackendId) -> list[str]:
        return [route.name for route in self._config.routes if backend in route.backends]
