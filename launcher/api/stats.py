"""`/stats`: what runs, who was here last, how long starts take; and the history behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, milliseconds, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.api.view import Described, describe
from launcher.config import LauncherConfig
from launcher.core.types import RESIDENT, BackendId, Failure
from launcher.drivers.base import ContainerSpec
from launcher.state.records import Starts
from launcher.telemetry.facts import Fact, StartEnded, StopStuck


@shape
class StartMetrics(TypedDict):
    """The starts of a backend that led to its being ready."""

    averageDurationMs: int | None
    lastDurationMs: int | None
    lastStartedAt: str | None
    startCount: int


@shape
class StatsAnswer(TypedDict):
    """The numbers for dashboards."""

    serverTime: str
    runningContainers: list[str]
    """Containers that occupy their needs; programs by their backend's name."""
    lastHits: dict[str, str | None]
    """Route → when a request for it last came in; now, while one is under way."""
    startMetrics: dict[str, StartMetrics]
    """By backend."""
    capacity: dict[str, int]
    used: dict[str, int]
    backends: dict[str, Described]


Clock = Callable[[], float]

#: Of so many backends that are no longer configured the starts are remembered.
REMEMBERED = 100


class History:
    """When each route was last asked for, and the starts of each backend.

    `fact` listens to `FactPublisher`. `starts` is what an earlier run counted; `save` is told of
    each new count. `last_hits` is asked when each route last had a request (seconds since 1970).
    """

    def __init__(
        self,
        config: LauncherConfig,
        starts: Mapping[BackendId, Starts] | None = None,
        save: Callable[[BackendId, Starts], None] | None = None,
        last_hits: Callable[[], Mapping[str, float]] = dict,
        wall: Clock = time.time,
    ) -> None:
        self.since = wall()
        """When the launcher came up, in seconds since 1970."""
        self._last_hits = last_hits
        self._routes: tuple[str, ...] = ()
        self.starts: dict[BackendId, Starts] = {}
        self._counted = dict(starts or {})
        self.errors: dict[BackendId, tuple[Failure, float]] = {}
        """The last failure of each backend, and when that was (seconds since 1970)."""
        self.reconfigure(config)
        self._save = save
        self._wall = wall

    def reconfigure(self, config: LauncherConfig) -> None:
        """Keep to these routes and backends from now on."""
        self._routes = tuple(route.name for route in config.routes)
        # What comes back counts on; the latest stand last.
        for id, starts in self.starts.items():
            self._counted.pop(id, None)
            self._counted[id] = starts
        for id in list(self._counted)[: -(REMEMBERED + len(config.backends))]:
            del self._counted[id]
        self.starts = {one.id: self._counted.get(one.id, Starts()) for one in config.backends}
        self.errors = {id: told for id, told in self.errors.items() if id in self.starts}

    @property
    def last_hits(self) -> dict[str, float | None]:
        """When each route was last asked for, in seconds since 1970; None: not in this run."""
        found = self._last_hits()
        return {name: found.get(name) for name in self._routes}

    def fact(self, fact: Fact) -> None:
        """Counts the starts that led to a ready backend; adoptions aren't starts."""
        if not isinstance(fact, StartEnded | StopStuck):
            return
        known = self.starts.get(fact.backend)
        if known is None:
            return  # a backend that a reload has taken away
        if fact.failure is not None:
            self.errors[fact.backend] = (fact.failure, self._wall())
        if isinstance(fact, StopStuck) or fact.adopted or fact.outcome != "ready":
            return
        self.starts[fact.backend] = counted = known.plus(fact.seconds, self._wall())
        if self._save is not None:
            self._save(fact.backend, counted)


class Stats:
    """The numbers for dashboards."""

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        history: History,
        wall: Clock = time.time,
    ) -> None:
        self._names = {
            one.id: one.driver.container if isinstance(one.driver, ContainerSpec) else one.id
            for one in config.backends
        }
        self._control = control
        self._history = history
        self._wall = wall

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /stats"""
        return (
            Endpoint(
                method="GET", path="/stats", need="observe", answer=self.show, tag="status",
                operation="get_stats",
                summary="What runs, the last hit of each route, start timings, and per backend "
                "what one more request would wait.",
                answers={200: StatsAnswer},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /stats"""
        snapshot, wall = self._control.snapshot(), self._wall()
        forecasts = self._control.forecasts()
        return json_answer(
            StatsAnswer(
                serverTime=timestamp(wall),
                runningContainers=[
                    self._names.get(one.id, one.id)
                    for one in snapshot.backends.values()
                    if one.state in RESIDENT
                ],
                lastHits={route: timestamp(at) for route, at in self._history.last_hits.items()},
                startMetrics={
                    backend: start_metrics(starts)
                    for backend, starts in self._history.starts.items()
                },
                capacity=dict(snapshot.capacity),
                used=dict(snapshot.used),
                backends={
                    one.id: describe(one, snapshot.now, wall, forecasts.get(one.id))
                    for one in snapshot.backends.values()
                },
            )
        )


def start_metrics(starts: Starts) -> StartMetrics:
    """A backend's start counters, as `/stats` shows them."""
    return {
        "averageDurationMs": milliseconds(starts.average),
        "lastDurationMs": milliseconds(starts.last_duration),
        "lastStartedAt": timestamp(starts.last_started_at),
        "startCount": starts.count,
    }
