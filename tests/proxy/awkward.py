"""Backends that follow a script, byte by byte: slow, half-closing, resetting, lying."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

from launcher.http.endpoint import Endpoint

PATIENCE = 20.0


class Peer:
    """The backend's end of one connection."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        """0 for the first connection that was made."""
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """A request's head, its empty line included."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self, length: int = 0) -> bytes:
        """A head and so many bytes of body."""
        return await self.head() + await self.reader.readexactly(length)

    async def chunked(self) -> list[bytes]:
        """The chunks of a body."""
        chunks = []
        while size := int(await self.reader.readline(), 16):
            chunks.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readline() == b"\r\n"
        return chunks

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Close so that the other end reads an error, not an end."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the launcher has closed, in whatever way."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return


Script = Callable[[Peer], Awaitable[None]]


class Backend:
    """What the scripted backend saw."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connections = 0
        self.running = 0
        """Connections whose script has not ended."""
        self.failures: list[BaseException] = []


@asynccontextmanager
async def backend(
    script: Script,
    *,
    unix: str | None = None,
    tls: ssl.SSLContext | None = None,
    base_path: str = "",
    server_name: str | None = None,
) -> AsyncIterator[Backend]:
    """Runs `script` on each connection and closes it afterwards. What a script asserts in vain
    fails the test."""
    scheme: Literal["http", "https"] = "https" if tls else "http"

    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, seen.connections = seen.connections, seen.connections + 1
        seen.running += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(Peer(number, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the launcher left; a script that minds calls gone()
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:  # noqa: BLE001 - told when the test ends
            seen.failures.append(error)
        finally:
            seen.running -= 1
            running.discard(task)
            writer.close()

    if unix is not None:
        server: asyncio.Server = await asyncio.start_unix_server(connected, unix, ssl=tls)
        seen = Backend(Endpoint(unix_path=unix, scheme=scheme, base_path=base_path))
    else:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        seen = Backend(
            Endpoint("127.0.0.1", port, scheme, base_path=base_path, server_name=server_name)
        )
    try:
        yield seen
    finally:
        for _ in range(20):
            await asyncio.sleep(0)  # what is being accepted becomes a connection
        server.close()
        for task in running:
            task.cancel()
        await until(lambda: not seen.running)
    assert seen.failures == []


def ok(body: bytes = b"ok", *lines: bytes) -> bytes:
    """A plain response."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def serves(response: bytes) -> Script:
    """Answers each bodyless request with the same bytes, and keeps the connection."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(response)

    return script


def says(response: bytes) -> Script:
    """Answers one request with these bytes, then closes cleanly."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)

    return script


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - of many kinds of things, some without an event
            await asyncio.sleep(0.005)
