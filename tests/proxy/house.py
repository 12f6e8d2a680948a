"""The whole proxy on a free port: front, handler, a gate by hand, one scripted backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from launcher.api.contract import Answer, ApiRequest, ApiResponse, ApiStream
from launcher.api.endpoint import Endpoint as OwnEndpoint
from launcher.api.endpoint import Found
from launcher.api.shapes import shape
from launcher.auth.access import Need
from launcher.auth.meters import Meters
from launcher.config import BackendConfig, LauncherConfig, ModelSpec, RouteConfig, Secret
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.listener import Server
from launcher.http.pool import UpstreamPool
from launcher.proxy.body import Budget
from launcher.proxy.fields import field_table
from launcher.proxy.handler import Proxy
from launcher.proxy.readers import Readers
from launcher.proxy.waiting import WaitingRoom
from launcher.telemetry.record import ExchangeRecord
from tests.http.raw_client import RawClient, Response, connect
from tests.http.serving import LOCAL, until
from tests.proxy import awkward
from tests.proxy.fake_gate import FakeGate

CODER = BackendId("coder")


def a_route(**fields: Any) -> RouteConfig:
    """`/coder`, with a model that keeps its name and one that doesn't."""
    given: dict[str, Any] = {
        "name": "coder",
        "backends": (CODER,),
        "prefixes": ("/coder",),
        "models": (ModelSpec("coder-fast"), ModelSpec("gpt-4o", upstream="Qwen/Qwen2.5-7B")),
    }
    return RouteConfig(**(given | fields))


def a_config(*routes: RouteConfig, key: str | None = None, **fields: Any) -> LauncherConfig:
    """One backend for all routes."""
    spec = ContainerSpec("coder", 8000)
    backend = BackendConfig(CODER, spec, backend_key=None if key is None else Secret(key))
    return LauncherConfig(routes=routes or (a_route(),), backends=(backend,), **fields)


@shape
@dataclass(frozen=True)
class Sent:
    """What /stats takes as a query and /admin as a body."""

    word: str = "none"


class FakeOwn:
    """Endpoints at /healthz (open) and /models (known), both everywhere; /page (open), /stats
    (observe), /admin (admin, POST), and /stream (open): what a test puts into `pieces`, until
    None or whoever reads it leaves (`closed`)."""

    def __init__(self) -> None:
        self.asked: list[ApiRequest] = []
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.taken = 0
        self.closed = asyncio.Event()

    def find(self, method: str, path: str, *, operators: bool) -> Found | None:
        if path == "/healthz":
            return _found("open", self.answer, everywhere=True)
        if path == "/models":
            return _found("known", self.answer, everywhere=True)
        if not operators:
            return None
        if path == "/page":
            return _found("open", self.page)
        if path == "/stats":
            return _found("observe", self.answer, query=Sent)
        if path == "/stream":
            return _found("open", self.stream)
        if path == "/broken":
            return _found("open", self.broken)
        if path == "/admin":
            if method != "POST":
                raise LauncherError("method_not_allowed", "POST it")
            return _found("admin", self.answer, body=Sent)
        return None

    async def answer(self, request: ApiRequest) -> ApiResponse:
        self.asked.append(request)
        return ApiResponse(b'{"ok":true}', 202, headers=(("X-More", "1"),))

    async def page(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse(b"<p>", content_type="text/html; charset=utf-8")

    async def stream(self, request: ApiRequest) -> ApiStream:
        return ApiStream(self._pieces(), "text/plain", headers=(("X-More", "1"),))

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            while (piece := await self.pieces.get()) is not None:
                self.taken += 1
                yield piece
        finally:
            self.closed.set()

    async def broken(self, request: ApiRequest) -> ApiResponse:
        raise ZeroDivisionError(request.path)


def _found(need: Need, answer: Answer, **more: Any) -> Found:
    endpoint = OwnEndpoint(
        method="GET",
        path="/",
        need=need,
        answer=answer,
        operation="ask",
        summary="",
        tag="status",
        **more,
    )
    return Found(endpoint, {"of": "path"})


class House:
    """What a test needs of it."""

    def __init__(self, client: RawClient, gate: FakeGate, pool: UpstreamPool) -> None:
        self.client = client
        self.gate = gate
        self.pool = pool
        self.own = FakeOwn()
        self.started: list[ExchangeRecord] = []
        self.records: list[ExchangeRecord] = []
        self.handler: Proxy
        self.readers: Readers
        self.front: Server

    async def ask(self, request: bytes, method: str = "GET") -> Response:
        """Send, and take the answer."""
        await self.client.send(request)
        return await self.client.response(method)

    async def record(self) -> ExchangeRecord:
        """The record of the exchange, when it is over."""
        await until(lambda: bool(self.records))
        return self.records[-1]


async def last_line(backend: BackendId) -> str:
    """What each backend printed last."""
    return f"{backend} <b>loads</b>"


@asynccontextmanager
async def house(
    config: LauncherConfig, endpoint: Endpoint | None = None, *, ready: bool = True
) -> AsyncIterator[House]:
    """Open, with a client connected. Fails where a ticket or kept bytes are left at the end."""
    gate = FakeGate(endpoint or Endpoint("127.0.0.1", 9), ready=ready)
    gate.keys = {one.id: one.backend_key for one in config.backends}
    pool = UpstreamPool()
    budget = Budget(config.max_buffered)
    made: list[House] = []
    handler = Proxy(
        config,
        gate,
        pool,
        budget,
        own := FakeOwn(),
        on_done=lambda record: made[0].records.append(record),
        meters=Meters(),
        waiting=WaitingRoom(last_line),
        readers=(readers := Readers()),
        fields=(fields := field_table()),
        latest=lambda: handler,
    )
    server = Server(handler, fields=fields)
    try:
        await server.bind([LOCAL])
        await server.open(None)
        async with connect(server.addresses[0]) as client:
            made.append(House(client, gate, pool))
            made[0].own, made[0].handler, made[0].front = own, handler, server
            made[0].readers = readers
            yield made[0]
    finally:
        await server.close(0)
        await pool.close()
    assert gate.held == []
    assert budget.used == 0


def post(path: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """A POST with a length."""
    lines = [f"POST {path} HTTP/1.1", "Host: launcher.test", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, f"Content-Type: {kind}", *headers, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    """A GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: launcher.test", *headers, "", ""]).encode()


class Saying:
    """A backend's script: keeps each request, and answers with the same bytes."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def __call__(self, peer: awkward.Peer) -> None:
        while True:
            head = await peer.head()
            lines = [line.lower() for line in head.split(b"\r\n")]
            body = b""
            for line in lines:
                if line.startswith(b"content-length:"):
                    body = await peer.reader.readexactly(int(line.split(b":")[1]))
            if b"transfer-encoding: chunked" in lines:
                body = b"".join(await peer.chunked())
            self.heads.append(head)
            self.bodies.append(body)
            await peer.send(self.answer)

    def header(self, name: bytes) -> bytes | None:
        """A header of the last request, `name` in lower case."""
        for line in self.heads[-1].split(b"\r\n")[1:]:
            key, _, value = line.partition(b": ")
            if key.lower() == name:
                return value
        return None
