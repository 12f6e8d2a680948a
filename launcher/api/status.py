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
from launcher.api.routes import Held, held
from launcher.api.shapes import shape
from launcher.api.stats import History, StartMetrics, start_metrics
from launcher.api.view import Described, describe, failure
from launcher.config import BackendConfig, LauncherConfig
from launcher.core.types import BackendId, Snapshot
from launcher.state.measured import Starts


@shape
class BackendStatus(Held, Described):
    """A backend, and what is behind it."""

    backend: str
    routes: list[str]
    endpoint: str | None
    """Where it answers, while it is ready."""
    startMetrics: StartMetrics


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


class Status:
    """The glance. Failures' details are for admins, or for everybody where no keys are set."""

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        history: History,
        redact: Callable[[str], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._control = control
        self._history = history
        self._redact = redact
        self._wall = wall
        self._started = wall()
        self._open = not config.keys

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/status"""
        return (
            Endpoint(
                method="GET", path="/api/status", need="observe", answer=self.show, tag="status",
                operation="get_status",
                summary="What `launcher status` shows.",
                answers={200: StatusAnswer},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/status"""
        snapshot, wall = self._control.snapshot(), self._wall()
        details = request.admin or self._open
        wrong = problems(self._control, snapshot)
        return json_answer(
            StatusAnswer(
                version=__version__,
                serverTime=timestamp(wall),
                startedAt=timestamp(self._started),
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
            )
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
        }

    def _routes_of(self, backend: BackendId) -> list[str]:
        return [route.name for route in self._config.routes if backend in route.backends]
