"""A configuration, and a runtime that does what a test tells it, for the endpoints' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import orjson

from launcher.api.assembly import Watched
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.config import BackendConfig, Health, LauncherConfig, ModelSpec, RouteConfig
from launcher.control.plane import ControlPlane
from launcher.core.dry_run import Step
from launcher.core.types import (
    BackendId,
    BackendSnapshot,
    BackendState,
    Estimates,
    Forecast,
    Needs,
    Snapshot,
    Ticket,
)
from launcher.drivers.base import ContainerSpec, ProcessSpec
from launcher.errors import ConfigError, LauncherError
from launcher.http.endpoint import Endpoint
from launcher.reloading.difference import Difference
from launcher.reloading.reloader import Reloaded
from launcher.runtime.admission import Ask, Grant, Progress
from launcher.state.store import StateStore
from launcher.telemetry.journal import Journal
from launcher.telemetry.timeline import Timeline

WALL = 1_800_000_000.0

CODER, CHAT, TINY = BackendId("coder"), BackendId("chat"), BackendId("tiny")

CONFIG = LauncherConfig(
    routes=(
        RouteConfig(
            "coder",
            (CODER,),
            ("/coder",),
            models=(ModelSpec("coder-fast"), ModelSpec("Qwen/Qwen2.5-Coder", "qwen")),
        ),
        RouteConfig("chat", (CHAT,), ("/chat",), models=(ModelSpec("chat"),), auth="passthrough"),
        RouteConfig("tiny", (TINY,), ("/tiny",), public=True),
    ),
    backends=(
        BackendConfig(CODER, ContainerSpec("coder-fast", 8000), idle_timeout=1800.0),
        BackendConfig(CHAT, ContainerSpec("chat-general", 8001), health=Health("docker")),
        BackendConfig(
            TINY,
            ProcessSpec(("llama-server", "--api-key", "sk-1", "-m", "tiny.gguf")),
            needs=(),
            idle_timeout=float("inf"),
        ),
    ),
)


def backend(id: BackendId, state: BackendState = BackendState.STOPPED) -> BackendSnapshot:
    """A backend about which there is nothing to say."""
    return BackendSnapshot(
        id=id,
        state=state,
        epoch=0,
        since=90.0,
        needs=(("gpu", 1),),
        in_flight=0,
        silent=0,
        queued=0,
        known=True,
        reachable=True,
        instance=None,
        last_used=None,
        idle_stop_at=None,
        retry_at=None,
        failure=None,
        stop_failure=None,
        busy=False,
        estimates=Estimates(),
        oldest_wait=None,
    )


class FakeAdmission:
    """A ticket that is granted or rejected when the test says so."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.grant: Grant | None = None
        self.ok = False
        self.starting = 0.0
        self.on_abort: Callable[[LauncherError], None] | None = None
        self.on_expired: Callable[[], None] | None = None
        self.broken = False
        self.left = False
        self.loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Grant] = self.loop.create_future()

    def settle(self, outcome: LauncherError | None = None, *, cold: bool = True) -> None:
        """Grant it, or reject it with an error."""
        if outcome is not None:
            self._outcome.set_exception(outcome)
            return
        backend = self.ask.backends[0]
        endpoint = Endpoint("127.0.0.1", 8000)
        self.grant = Grant(backend, 1, endpoint, cold, 12.5 if cold else 0.0, 12.0)
        self._outcome.set_result(self.grant)

    async def granted(self) -> Grant:
        return await asyncio.shield(self._outcome)

    def progress(self) -> Progress:
        return Progress(self.ask.backends[0], "queued", 0.0, forecast=None)

    def renew(self, until: float) -> None:
        raise AssertionError("no lease here")

    def silence(self, silent: bool) -> None:
        raise AssertionError("no tunnel here")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left = True
        if self._outcome.done():
            self._outcome.exception()  # seen, or meant not to be


class FakeControl:
    """Backends as the test puts them, and what was asked of them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.closed = False
        self.backends = {id: backend(id) for id in (CODER, CHAT, TINY)}
        self.health: dict[str, str | None] = {"docker@local": None}
        self.endpoints: dict[BackendId, Endpoint] = {}
        self.admissions: list[FakeAdmission] = []
        self.on_admit: Callable[[FakeAdmission], None] = lambda admission: None
        self.predicted: dict[BackendId, Forecast] = {}
        self.planned: list[Ask] = []
        self.steps: list[Step] = []
        """What `plan` answers."""
        self.stops: list[tuple[BackendId, bool]] = []
        self.on_stop: Callable[[BackendId], None] = lambda backend: None
        self.queue: list[tuple[Ticket, Progress]] = []

    def put(self, id: BackendId, state: BackendState | None = None, **changes: Any) -> None:
        """Change what is known of a backend."""
        old = self.backends[id]
        if state is not None:
            changes |= {"state": state, "epoch": old.epoch + 1}
        self.backends[id] = replace(old, **changes)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            now=self.now,
            capacity=(("gpu", 1),),
            used=(("gpu", 0),),
            backends=dict(self.backends),
            closed=self.closed,
        )

    def admit(self, ask: Ask) -> FakeAdmission:
        admission = FakeAdmission(ask)
        self.admissions.append(admission)
        self.on_admit(admission)
        return admission

    def forecasts(self) -> dict[BackendId, Forecast]:
        return dict(self.predicted)

    def plan(self, ask: Ask) -> list[Step]:
        self.planned.append(ask)
        return list(self.steps)

    def request_stop(self, backend: BackendId, force: bool = False) -> None:
        self.stops.append((backend, force))
        self.on_stop(backend)

    def waiting(self, most: int) -> list[tuple[Ticket, Progress]]:
        return self.queue[:most]

    def drain(self, backends: Sequence[BackendId] | None, on: bool) -> None:
        for id in self.backends if backends is None else backends:
            self.put(id, drained=on)

    def reserve(self, backend: BackendId, needs: Needs, *, held: bool = False) -> None:
        self.backends[backend] = replace(globals()["backend"](backend), needs=needs)

    def unreserve(self, backend: BackendId) -> None:
        del self.backends[backend]

    def endpoint(self, backend: BackendId) -> Endpoint | None:
        return self.endpoints.get(backend)

    def driver_health(self) -> dict[str, str | None]:
        return dict(self.health)


class FakeOutputs:
    """What backends printed, as the test puts it, by backend."""

    def __init__(self) -> None:
        self.lines: dict[BackendId, list[str]] = {}
        self.closed: list[BackendId] = []

    async def tail(self, backend: BackendId, lines: int) -> list[str]:
        return self.lines.get(backend, [])[-lines:]

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
        try:
            yield self.lines.get(backend, [])[-lines:]
            await asyncio.get_running_loop().create_future()
        finally:
            self.closed.append(backend)


def plane(control: FakeControl, config: LauncherConfig = CONFIG) -> ControlPlane:
    """What operators do, of which nothing outlives the test."""
    store = StateStore(None)
    return ControlPlane(config, control, store, now=lambda: control.now, wall=lambda: WALL)


def watched(control: FakeControl) -> Watched:
    """Nothing has happened yet."""
    return Watched(Journal(), Timeline(control.snapshot, lambda delay, do: None), FakeOutputs())


def request(
    method: str = "GET",
    path: str = "/",
    *,
    admin: bool = False,
    query: object = None,
    body: object = None,
    **args: str,
) -> ApiRequest:
    """A request as the proxy's handler would make it; `args` are of the path."""
    return ApiRequest(method, path, args, admin, query, body)


def read(response: ApiResponse) -> Any:
    """An answer's JSON."""
    assert response.content_type == "application/json"
    return orjson.loads(response.body)


class FakeReloads:
    """Reloads that come to what a test says."""

    def __init__(self, outcome: Reloaded | ConfigError | None = None) -> None:
        self.outcome = outcome or Reloaded(Difference(), (), 0.0)
        self.asked_by: list[str] = []

    async def reload(self, asked_by: str) -> Reloaded:
        self.asked_by.append(asked_by)
        if isinstance(self.outcome, ConfigError):
            raise self.outcome
        return self.outcome
