"""A server on loopback that answers in the way it is told, correct or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from launcher.http.endpoint import Endpoint
from tests.runtime.waiting import eventually


@dataclass
class Awkward:
    """What it says, and what it was asked."""

    endpoint: Endpoint
    says: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    closes: bool = True
    """It closes when it has spoken; else it waits for the other side to."""
    reads: bool = True
    """It waits for a request before it speaks."""
    asked: list[bytes] = field(default_factory=list)
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if self.reads:
                    self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                if self.says:
                    writer.write(self.says)
                    await writer.drain()
                if not self.closes:
                    await reader.read()
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def headers(self) -> list[bytes]:
        """The lines of the latest request."""
        return self.asked[-1].split(b"\r\n")


@contextlib.asynccontextmanager
async def awkward(says: bytes | None = None, unix: str | None = None) -> AsyncIterator[Awkward]:
    """One that listens, on a port or a socket file of its own."""
    one = Awkward(Endpoint())
    if says is not None:
        one.says = says
    if unix is not None:
        server = await asyncio.start_unix_server(lambda r, w: one.serve(r, w), unix)
        one.endpoint = Endpoint(unix_path=unix)
    else:
        server = await asyncio.start_server(lambda r, w: one.serve(r, w), "127.0.0.1", 0)
        one.endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield one
    finally:
        server.close()
        await server.wait_closed()
        await eventually(lambda: not one.open)


async def nobody() -> Endpoint:
    """A port at which nobody listens."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return Endpoint("127.0.0.1", port)


def body(text: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with that body."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)
