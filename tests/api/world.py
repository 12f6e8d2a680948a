"""A configuration, and a runtime that does what a test tells it, for the endpoints' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import orjson

from launcher.api.endpoint import Context
from launcher.api.history import History
from launcher.api.openapi import ENDPOINTS
from launcher.api.server import ApiServer
from launcher.api.shapes import adapter
from launcher.auth.meters import Meters
from launcher.config import BackendConfig, Health, LauncherConfig, ModelSpec, RouteConfig
from launcher.config.difference import Difference
from launcher.config.reload import Reloaded
from launcher.control.plane import ControlPlane
from launcher.core.dry_run import Step
from launcher.core.types import (
    BackendId,
    BackendSnapshot,
    BackendState,
    Estimates,
    Failure,
    Forecast,
    Needs,
    Snapshot,
    Ticket,
)
from launcher.drivers.base import ContainerSpec, ProcessSpec
from launcher.errors import ConfigError, LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Ask, Grant, Progress
from launcher.state.store import StateStore
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.journal import Journal
from launcher.telemetry.metrics import Metrics
from launcher.telemetry.record import ExchangeRecord
from launcher.telemetry.timeline import Timeline
from tests.control.house import Life

WALL = 1_800_000_000.0

#: Seconds; generous, as everywhere: a busy machine may be slow.
PATIENCE = 60.0

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

    async def missing(self, backend: BackendId) -> Failure | None:
        return None

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


def plane(control: FakeControl, config: LauncherConfig = CONFIG) -> ControlPlane:
    """What operators do, of which nothing outlives the test."""
    store = StateStore(None)
    return ControlPlane(config, control, store, now=lambda: control.now, wall=lambda: WALL)


def a_context(
    control: FakeControl | None = None, config: LauncherConfig = CONFIG, **changes: Any
) -> Context:
    """A context in which nothing has happened yet."""
    control = control or FakeControl()
    given: dict[str, Any] = {
        "config": config,
        "control": control,
        "plane": plane(control, config),
        "metrics": Metrics(config, control.snapshot),
        "history": History(config, wall=lambda: WALL),
        "decisions": DecisionLog(wall=lambda: WALL),
        "reloader": FakeReloads(),
        "journal": Journal(),
        "timeline": Timeline(control.snapshot, lambda delay, do: None),
        "output": FakeOutputs(),
        "wall": lambda: WALL,
    }
    return Context(**given | changes)


@asynccontextmanager
async def a_server(context: Context) -> AsyncIterator[tuple[ApiServer, list[ExchangeRecord]]]:
    """A server that has started, and the records of the requests that have ended."""
    # Shapes are read in a thread, for which a virtual clock doesn't wait.
    for endpoint in ENDPOINTS:
        for shape in (endpoint.query, endpoint.body):
            if shape is not None:
                adapter(shape)
    records: list[ExchangeRecord] = []
    server = ApiServer(context, Meters(), records.append)
    await server.start()
    try:
        yield server, records
    finally:
        await server.close(0.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON."""
        assert self.headers["content-type"] == "application/json"
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of an error, None for what is none."""
        return self.json["error"]["code"] if self.status >= 400 else None


class Asking:
    """A client of a server, over socket pairs as the data path is one; by default it speaks for a
    program on this machine that asks at an operators' address."""

    def __init__(self, server: ApiServer, records: list[ExchangeRecord], context: Context) -> None:
        self.server = server
        self.records = records
        self.context = context
        self.peer = "127.0.0.1"
        self.operators = True

    async def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """POST JSON; bytes go as they are."""
        return await self.ask("POST", path, body, **headers)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request and read its answer. In names of headers `_` stands for `-`."""
        async with self.sent(method, path, body, **headers) as (reader, _):
            return await answer_of(reader, method)

    @asynccontextmanager
    async def sent(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which a request was sent."""
        content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"host": "localhost", "content-length": str(len(content))}
        if body is None:
            del given["content-length"]
        elif "content_type" not in headers:
            given["content-type"] = "application/json"
        given |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {given[name]}" for name in given)]
        async with self.connected() as (reader, writer):
            vouched = self.server.peer_header(self.peer, "http", self.operators)
            head = "\r\n".join([*lines, "X-Launcher-Peer: "]).encode()
            writer.write(head + vouched + b"\r\n\r\n" + content)
            yield reader, writer

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection."""
        reader, writer = await asyncio.open_connection(sock=self.server.connect())
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def asking(context: Context | None = None) -> AsyncIterator[Asking]:
    """A client of a server that has started."""
    context = context or a_context()
    async with a_server(context) as (server, records):
        yield Asking(server, records, context)


async def head_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read the head of an answer: its status and its headers."""
    async with asyncio.timeout(PATIENCE):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}


async def chunk_of(reader: asyncio.StreamReader) -> bytes:
    """Read the next chunk of an answer, b"" at its end."""
    async with asyncio.timeout(PATIENCE):
        size = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(size + 2))[:-2]


async def answer_of(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """Read an answer, whole."""
    status, headers = await head_of(reader)
    body = b""
    if method != "HEAD" and headers.get("transfer-encoding") == "chunked":
        while piece := await chunk_of(reader):
            body += piece
    elif method != "HEAD":
        async with asyncio.timeout(PATIENCE):
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(status, headers, body)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is true that has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def of_life(run: Life) -> Context:
    """The context of a control plane that lives under a virtual clock."""
    return a_context(
        run.house.dispatcher,  # type: ignore[arg-type]
        run.config,
        plane=run.plane,
        wall=run.plane.switches.wall,
    )
