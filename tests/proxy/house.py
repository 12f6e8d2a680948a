"""The whole proxy on a free port: front, handler, a gate by hand, one scripted backend."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from launcher.auth.meters import Meters
from launcher.config import BackendConfig, LauncherConfig, ModelSpec, RouteConfig, Secret
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.http.endpoint import Endpoint
from launcher.http.listener import Server
from launcher.http.pool import UpstreamPool
from launcher.proxy.body import Budget
from launcher.proxy.fields import field_table
from launcher.proxy.handler import Proxy
from launcher.proxy.own import Own
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


class NoPaths:
    """No path is the launcher's own."""

    def find(self, path: bytes) -> Literal["everywhere", "operators"] | None:
        return None

    def connect(self) -> socket.socket:
        raise AssertionError("nobody asks")

    def peer_header(self, peer: str, scheme: str, operators: bool) -> bytes:
        raise AssertionError("nobody asks")


class House:
    """What a test needs of it."""

    def __init__(self, client: RawClient, gate: FakeGate, pool: UpstreamPool) -> None:
        self.client = client
        self.gate = gate
        self.pool = pool
        self.records: list[ExchangeRecord] = []
        self.handler: Proxy
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
    config: LauncherConfig,
    endpoint: Endpoint | None = None,
    *,
    ready: bool = True,
    own: Own | None = None,
) -> AsyncIterator[House]:
    """Open, with a client connected. Fails where a ticket or kept bytes are left at the end."""
    nobody = NoPaths()
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
        own or Own(nobody, nobody),
        on_done=lambda record: made[0].records.append(record),
        meters=Meters(),
        waiting=WaitingRoom(last_line),
        fields=(fields := field_table()),
        latest=lambda: handler,
    )
    server = Server(handler, fields=fields)
    try:
        await server.bind([LOCAL])
        await server.open(None)
        async with connect(server.addresses[0]) as client:
            made.append(House(client, gate, pool))
            made[0].handler, made[0].front = handler, server
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
