"""An exchange held in memory, and the bodies and plans that go with it."""

from __future__ import annotations

import asyncio
from typing import Any

from launcher.http.endpoint import Endpoint
from launcher.http.exchange import ClientGone, Detached, RawHeaders, RequestHead
from launcher.proxy.plan import Plan


def request(method: str = "GET", **fields: Any) -> RequestHead:
    """A head as the front would give it."""
    given: dict[str, Any] = {
        "path": b"/",
        "query": None,
        "version": (1, 1),
        "headers": ((b"Host", b"example.test"),),
        "host": b"example.test",
        "peer": "192.0.2.7",
        "scheme": "http",
        "content_length": None,
        "chunked": False,
        "upgrade": None,
    }
    given |= fields
    by_name: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in given["headers"]:
        by_name[name.lower()] = (*by_name.get(name.lower(), ()), value)
    return RequestHead(method=method, fields=by_name, **given)


def a_plan(endpoint: Endpoint, **fields: Any) -> Plan:
    """A plan that changes nothing."""
    given: dict[str, Any] = {
        "path": b"/",
        "query": None,
        "prefix": b"",
        "host_backend": False,
        "drop_headers": frozenset(),
        "set_headers": (),
        "trusted_peer": False,
        "retry": True,
    }
    return Plan(endpoint=endpoint, **(given | fields))


class Kept:
    """A body that is at hand."""

    replayable = True

    def __init__(self, data: bytes = b"", piece: int = 65536) -> None:
        self._pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
        self.length: int | None = len(data)
        self._at = 0

    def rewind(self) -> None:
        self._at = 0

    def at_once(self) -> bytes | None:
        return b"".join(self._pieces)

    async def read(self) -> bytes:
        if self._at == len(self._pieces):
            return b""
        self._at += 1
        return self._pieces[self._at - 1]


class Streamed:
    """A body that comes as the test puts it: bytes, or an exception to raise."""

    replayable = False

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self.length = length
        self.reads = 0
        self.queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        for piece in pieces:
            self.queue.put_nowait(piece)

    def rewind(self) -> None:
        raise AssertionError("a stream can't be rewound")

    def at_once(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        self.reads += 1
        piece = await self.queue.get()
        if isinstance(piece, Exception):
            raise piece
        return piece


class FakeExchange:
    """Keeps what it is given. `open` is cleared while the client is slow; `left` makes it gone."""

    def __init__(self, head: RequestHead | None = None) -> None:
        self.head = head or request()
        self.received_at = 0.0
        self.body_read = 0
        self.responded = False
        self.informed: list[tuple[int, bytes, RawHeaders]] = []
        self.status = 0
        self.reason = b""
        self.headers: RawHeaders = ()
        self.pieces: list[bytes] = []
        self.finished = False
        self.aborted = False
        self.left = False
        self.open = asyncio.Event()
        self.open.set()
        self.detached: Detached | None = None

    @property
    def gone(self) -> bool:
        return self.left

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def get(self, name: bytes) -> list[bytes]:
        """The values of a response header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    async def read(self) -> bytes:
        return b""

    async def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        assert not self.responded
        self.informed.append((status, reason, headers))

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        assert not self.responded
        self._meet()
        self.responded = True
        self.status, self.reason, self.headers = status, reason, headers

    def push(self, data: bytes) -> bool:
        assert self.responded
        assert not self.finished
        assert not self.aborted
        assert data
        self._meet()
        self.pieces.append(data)
        return self.open.is_set()

    async def drained(self) -> None:
        await self.open.wait()
        self._meet()

    async def write(self, data: bytes) -> None:
        if not self.push(data):
            await self.drained()

    async def finish(self) -> None:
        assert self.responded
        assert not self.finished
        self.finished = True
        await self.open.wait()

    def abort(self) -> None:
        self.aborted = True

    def detach(self) -> Detached:
        assert self.detached is not None
        return self.detached

    def _meet(self) -> None:
        if self.left:
            raise ClientGone("the client left")


def changed(plan: Plan, **fields: Any) -> Plan:
    """The plan with other fields."""
    return plan._replace(**fields)
