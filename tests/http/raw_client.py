"""A client that sends exactly the bytes it is given, and shows exactly those that come back."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from launcher.http.endpoint import Listen

#: How long a test waits for something that has to happen. Seconds.
PATIENCE = 20.0


class Cut(Exception):
    """The connection ended before the message did; `got` is what came of its body."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"cut after {len(got)} bytes")
        self.got = got


@dataclass(frozen=True)
class Response:
    """A response as it came over the wire."""

    status: int
    version: bytes
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, `name` in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return next(iter(self.all(name)), None)


class RawClient:
    """One connection. Every wait has a deadline, so a test fails and doesn't hang."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send, waiting while the server is slow."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE)

    async def head(self) -> Response:
        """The next response's head."""
        raw = await self._wait(self.reader.readuntil(b"\r\n\r\n"))
        first, *lines = raw[:-4].split(b"\r\n")
        version, status, reason = first.split(b" ", 2)
        headers = tuple((line.split(b": ", 1)[0], line.split(b": ", 1)[1]) for line in lines)
        return Response(int(status), version, reason, headers)

    async def response(self, method: str = "GET") -> Response:
        """The next response, whole. Raises Cut where its body ends early."""
        head = await self.head()
        return Response(
            head.status, head.version, head.reason, head.headers, await self.body(head, method)
        )

    async def body(self, head: Response, method: str = "GET") -> bytes:
        """The body that goes with a head."""
        if method == "HEAD" or head.status in (204, 304) or head.status < 200:
            return b""
        if head.get(b"transfer-encoding") == b"chunked":
            return await self._chunked()
        length = head.get(b"content-length")
        if length is not None:
            try:
                return await self._wait(self.reader.readexactly(int(length)))
            except asyncio.IncompleteReadError as error:
                raise Cut(error.partial) from error
            except ConnectionError as error:
                raise Cut(b"") from error
        try:
            return await self.rest()
        except ConnectionError as error:
            raise Cut(b"") from error

    async def chunk(self) -> bytes:
        """The next chunk's data; b"" for the last."""
        try:
            size = int(await self._wait(self.reader.readuntil(b"\r\n")), 16)
            data = await self._wait(self.reader.readexactly(size + 2))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Cut(b"") from error
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def _chunked(self) -> bytes:
        got: list[bytes] = []
        while True:
            try:
                data = await self.chunk()
            except Cut as error:
                raise Cut(b"".join(got)) from error
            if not data:
                return b"".join(got)
            got.append(data)

    async def rest(self) -> bytes:
        """Everything until the server closes; raises ConnectionError for a reset."""
        return await self._wait(self.reader.read())

    async def closed(self) -> bool:
        """Wait for the end; True for a clean one with nothing before it."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return False

    def half_close(self) -> None:
        """FIN, and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _wait(self, reading) -> bytes:  # type: ignore[no-untyped-def]
        return await asyncio.wait_for(reading, PATIENCE)


@asynccontextmanager
async def connect(
    address: Listen, *, tls: ssl.SSLContext | None = None, limit: int = 64 * 1024
) -> AsyncIterator[RawClient]:
    """A connection to where somebody listens, closed at the end whatever became of it."""
    if address.unix_path is not None:
        streams = await asyncio.open_unix_connection(address.unix_path, limit=limit)
    else:
        streams = await asyncio.open_connection(
            address.host,
            address.port,
            ssl=tls,
            server_hostname="localhost" if tls else None,
            limit=limit,
        )
    client = RawClient(*streams)
    try:
        yield client
    finally:
        client.writer.transport.abort()
        with suppress(OSError):
            await asyncio.wait_for(client.writer.wait_closed(), PATIENCE)
