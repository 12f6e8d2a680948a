"""Both ends of an exchange without sockets: they keep what they are told and given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from launcher.http.endpoint import Endpoint
from launcher.http.headers import RawHeaders
from launcher.http.pool import UpstreamPool
from launcher.http.server import CHUNKED, NO_BODY, ClientConnection, Limits, Request, Shared
from launcher.http.upstream import ResponseHead, UpstreamConnection
from tests.http.raw_client import PATIENCE

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Recording:
    """An exchange and its sink. `on_piece` is called with each piece; `raw` takes whole chunks
    as they are."""

    def __init__(
        self, *, raw: bool = False, on_piece: Callable[[bytes], None] | None = None
    ) -> None:
        self.framing = CHUNKED if raw else NO_BODY
        self.on_piece = on_piece
        self.interim: list[tuple[int, bytes, RawHeaders]] = []
        self.final: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.chunks: list[bytes] = []
        """Those that were passed on as they came."""
        self.complete = False
        self.error: Exception | None = None
        self.headed = asyncio.Event()
        self.over = asyncio.Event()

    # -- what the connection tells ---------------------------------------------------------

    def on_interim(self, head: ResponseHead) -> None:
        assert self.final is None
        self.interim.append((head.status, head.reason, head.headers))

    def on_head(self, head: ResponseHead) -> Recording:
        assert self.final is None
        self.final = head
        self.headed.set()
        return self

    def push(self, data: bytes) -> bool:
        assert data
        assert self.final is not None
        assert not self.over.is_set()
        self.pieces.append(data)
        if self.on_piece is not None:
            self.on_piece(data)
        return True

    def push_chunks(self, data: bytes, payload: int) -> None:
        assert self.framing == CHUNKED
        self.chunks.append(data)
        self.pieces.append(dechunked(data))
        assert len(self.pieces[-1]) == payload

    def flush(self) -> None:
        """Nothing is held back here."""

    def on_complete(self) -> None:
        assert not self.over.is_set()
        self.complete = True
        self.over.set()

    def on_failed(self, error: Exception) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()

    # -- what a test asks ------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def head(self) -> ResponseHead:
        assert self.final is not None
        return self.final

    async def answered(self) -> ResponseHead:
        """Wait for the final head."""
        await asyncio.wait_for(self.headed.wait(), PATIENCE)
        return self.head

    async def whole(self) -> bytes:
        """Wait for the end of the body, which has to be a good one."""
        await asyncio.wait_for(self.over.wait(), PATIENCE)
        assert self.error is None
        return self.body

    async def failed(self) -> Exception:
        """Wait for the end, which has to be a bad one."""
        await asyncio.wait_for(self.over.wait(), PATIENCE)
        assert self.error is not None
        return self.error


def dechunked(data: bytes) -> bytes:
    """The payload of whole chunks."""
    payload = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        count = int(size, 16)
        payload += rest[:count]
        assert rest[count : count + 2] == b"\r\n"
        data = rest[count + 2 :]
    return payload


async def asked(pool: UpstreamPool, endpoint: Endpoint) -> tuple[UpstreamConnection, Recording]:
    """A connection on which a request was sent, and who hears of its response."""
    connection = await pool.acquire(endpoint)
    exchange = Recording()
    connection.begin(exchange, "GET")
    connection.send(REQUEST)
    return connection, exchange


async def use(connection: UpstreamConnection) -> bytes:
    """One exchange, to its end."""
    exchange = Recording()
    connection.begin(exchange, "GET")
    connection.send(REQUEST)
    return await exchange.whole()


class Wire(asyncio.Transport):
    """A transport to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Asked:
    """A request that came in, and what was written in answer to it."""

    def __init__(self, method: bytes = b"GET", version: bytes = b"1.1", *lines: bytes) -> None:
        found: list[Request] = []
        self.wire = Wire()
        self.connection = ClientConnection(Shared(found.append, Limits()))
        self.connection.connection_made(self.wire)
        head = b"\r\n".join([b"%b / HTTP/%b" % (method, version), b"Host: a", *lines, b"", b""])
        self.connection.data_received(head)
        (self.request,) = found

    @property
    def written(self) -> bytes:
        """Since it was asked for last."""
        data = b"".join(self.wire.written)
        self.wire.written.clear()
        return data

    def head(self, status: int, reason: bytes, headers: RawHeaders) -> bytes:
        """The head as it goes out."""
        self.request.start(status, reason, headers)
        self.request.flush()
        return self.written

    def piece(self, data: bytes) -> bytes:
        assert self.request.push(data)
        return self.written

    def end(self) -> tuple[bool, bytes]:
        return self.request.end(), self.written
